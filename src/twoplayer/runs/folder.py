"""The layout of a run's folder, and who may write to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from twoplayer.core.errors import UserError
from twoplayer.runs.files import write_text

STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in a run's folder.

    Attributes:
        path: the folder; it need not exist yet.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def generator(self) -> Path:
        return self.path / "generator"

    @property
    def classifier(self) -> Path:
        return self.path / "classifier"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def failure(self) -> Path:
        """How the training ended, if something became NaN or infinite."""
        return self.path / "diverged.json"

    def sample_grid(self, step: int) -> Path:
        """Where the grid of a step lies."""
        return self.samples / f"step-{step:07d}.png"

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints / f"step-{step:07d}"

    def sample_steps(self) -> list[int]:
        """Steps that have a grid, ascending."""
        return _steps_in(self.samples, ".png")

    def checkpoint_steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending by number."""
        return _steps_in(self.checkpoints, "")

    def of_seed(self, seed: int) -> RunFolder:
        """Where the run with that seed lies when this is a folder of runs with several seeds."""
        return RunFolder(self.path / f"seed-{seed}")

    def of_seeds(self) -> list[RunFolder]:
        """The runs in a folder of runs with several seeds; none in the folder of a run."""
        named = {re.fullmatch(r"seed-(\d+)", place.name): place for place in self.path.glob("seed-*") if place.is_dir()}
        found = {int(match[1]): place for match, place in named.items() if match}
        return [RunFolder(found[seed]) for seed in sorted(found) if RunFolder(found[seed]).exists()]

    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.config.is_file()

    def require(self) -> None:
        """Raise UserError unless a run is here."""
        if not self.exists():
            raise UserError(f"{self.path} is not a run (it has no config.yaml)")

    def require_free(self) -> None:
        """Raise UserError when the folder holds a run or anything else."""
        if self.exists():
            raise UserError(f"{self.path} holds a run; add --resume to continue it, or choose another --out")
        if self.path.is_dir() and not all(OWN_LEFTOVERS.fullmatch(entry.name) for entry in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty; choose a new or empty folder for --out")

    def prepare(self, config: str) -> None:
        """Write the recipe, which makes the folder a run, and make the folders in it that are missing."""
        write_text(self.config, config)
        for folder in (self.samples, self.checkpoints, self.generator):
            folder.mkdir(exist_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder against a second writer."""
        return locked(self.path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against a second writer; it is made. The lock ends with the process, however that ends.

    Raises UserError when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"{folder} is being written by another process; wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()


LOCK_NAME = ".lock"
OWN_LEFTOVERS = re.compile(r"\.lock|\.config\.yaml\.\d+\.tmp")
"""What a run that was killed in its first moment can leave."""


def claim_next_run(root: Path, name: str) -> RunFolder:
    """Make the first of root/name-001, root/name-002, ... that does not exist; no other process gets the same."""
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = root / f"{name}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return RunFolder(folder)


def _steps_in(folder: Path, ending: str) -> list[int]:
    if not folder.is_dir():
        return []
    matches = (STEP.fullmatch(entry.name.removesuffix(ending)) for entry in folder.iterdir() if entry.suffix == ending)
    return sorted(int(match.group(1)) for match in matches if match)
