"""What a Python user calls: `train`, `load` and the `Run` they return. Puts the rooms below together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.batches import Batches
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.evaluation.probe import sliced_wasserstein_probe
from twoplayer.recipes.load import check, flatten, load_recipe, merge, parse_overrides, read_recipe, to_yaml
from twoplayer.recipes.schema import DataOptions, Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.runs.files import write_json, write_text
from twoplayer.runs.folder import RunFolder, next_free_run
from twoplayer.runs.grid import tile
from twoplayer.runs.log import Row, cut_after, read_rows
from twoplayer.runs.report import write_report
from twoplayer.runs.sampling import sample_best, sample_blocks
from twoplayer.runs.snapshot import SnapshotInfo, read_snapshot
from twoplayer.training.checkpoint import DamagedCheckpoint, read_checkpoint, read_newest
from twoplayer.training.loop import Schedule
from twoplayer.training.loop import train as train_loop
from twoplayer.training.progress import progress
from twoplayer.training.recorder import Recorder
from twoplayer.training.state import TrainingState, new_state

if TYPE_CHECKING:
    from PIL.Image import Image

RESUMABLE = ("steps", "epochs", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints")
"""What may differ when a run is resumed: its length (longer only) and its logging."""

MAX_SAMPLES = 1_000_000


def train(
    recipe: str | None = None,
    *overrides: str,
    data: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    quiet: bool = False,
    stop: StopRequest | None = None,
    **settings: Any,
) -> Run:
    """Train a GAN and write everything about it into a run folder.

    Args:
        recipe: a recipe's name or a .yaml file; "digits" when left out.
        overrides: as on the command line, for example "objective.name=wasserstein".
        data: where the images come from, instead of the recipe's source.
        out: the run's folder; the next free runs/NAME-001, ... when left out.
        resume: continue the run in `out` from its own configuration.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        quiet: show no progress.
        stop: where signals are noticed; one is made when left out.
        settings: recipe keys, for example steps=500 or generator={"n_filters": 64}.

    Returns:
        The finished run.

    Raises:
        UserError: something the caller can mend, said in one line.
        Diverged: something became NaN or infinite; the last good checkpoint is in place.
        TrainingStopped: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    changes = parse_overrides(overrides) + flatten(settings)
    if data is not None:
        changes.append((["data", "source"], data))
    stop = stop or StopRequest()
    with stop.listening():
        if resume:
            folder, resolved = _resumed(recipe, changes, out)
        else:
            resolved = load_recipe(recipe or "digits", changes)
            folder = RunFolder(Path(out).expanduser()) if out else next_free_run(Path("runs"), resolved.name)
            folder.require_free()
        _execute(folder, resolved, choose_device(device), resume, quiet, stop)
    return Run(folder.path)


def load(path: str | Path, checkpoint: Literal["newest", "best"] = "newest") -> Run:
    """A run that was trained before. Raises UserError when there is none.

    Args:
        path: the run's folder.
        checkpoint: whose averaged generator to use: the newest, or the one with the lowest in-training figure.
    """
    folder = RunFolder(Path(path).expanduser())
    folder.require()
    return Run(folder.path, checkpoint)


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be done with it.

    Attributes:
        path: the folder.
        checkpoint: "newest" or "best".
    """

    path: Path
    checkpoint: Literal["newest", "best"] = "newest"

    @property
    def folder(self) -> RunFolder:
        """Names of everything in the run's folder."""
        return RunFolder(self.path)

    @cached_property
    def recipe(self) -> Recipe:
        """The fully resolved recipe."""
        return load_recipe(str(self.folder.config))

    @property
    def metrics(self) -> list[Row]:
        """The lines of the metrics log."""
        return read_rows(self.folder.metrics)

    @cached_property
    def info(self) -> SnapshotInfo:
        """What the generator is and was trained on."""
        return read_snapshot(self.folder.generator)[1]

    @cached_property
    def generator(self) -> nn.Module:
        """The averaged generator in evaluation mode: latents [N, latent_dim] to float images in [-1, 1]."""
        if self.checkpoint == "newest":
            return read_snapshot(self.folder.generator)[0]
        return self._state.generator_for_use.eval()

    @cached_property
    def discriminator(self) -> nn.Module:
        """The discriminator of the same checkpoint in evaluation mode: images in [-1, 1] to a `Verdict`."""
        return self._state.game.discriminator.network.eval()

    def sample(self, n: int, seed: int = 0, best_of: int = 1) -> Tensor:
        """n pictures, uint8 [n, C, H, W]. Picture i depends on the seed only, not on n.

        Args:
            n: how many, at most a million.
            seed: which ones.
            best_of: draw this many times as many and keep those that the discriminator finds most real.

        Raises:
            UserError: n, seed or best_of is not a sensible number.
        """
        return torch.cat(list(self.sample_blocks(n, seed, best_of)))

    def sample_blocks(self, n: int, seed: int = 0, best_of: int = 1) -> Iterator[Tensor]:
        """The same pictures, some at a time, for more of them than fit into memory."""
        if n < 1 or best_of < 1 or n * best_of > MAX_SAMPLES or seed < 0:
            raise UserError(
                f"n={n}, best_of={best_of}, seed={seed}: n and best_of start at 1, their product ends at "
                f"{MAX_SAMPLES:,}, the seed starts at 0"
            )
        stream = Stream(seed).child("sample")
        if best_of == 1:
            return sample_blocks(self.generator, self.recipe.latents, n, stream)
        return iter([sample_best(self.generator, self.discriminator, self.recipe.latents, n, best_of, stream)])

    def grid(self, n: int = 25, seed: int = 0, best_of: int = 1) -> Image:
        """The same pictures tiled, as a Pillow image."""
        return tile(self.sample(n, seed, best_of))

    @cached_property
    def _state(self) -> TrainingState:
        info = self.info
        state = new_state(self.recipe, info.image_shape, len(info.class_names), torch.device("cpu"))
        found = read_newest(self.folder)
        if found is None:
            raise UserError(f"{self.path} has no checkpoint yet")
        state.restore(found[0])
        if self.checkpoint == "best" and state.best_step not in (0, state.step):
            try:
                state.restore(read_checkpoint(self.folder.checkpoint(state.best_step))[0])
            except DamagedCheckpoint as error:
                raise UserError(f"the best checkpoint is damaged: {error}") from error
        return state


def choose_device(name: str) -> torch.device:
    """The device that a name means; "auto" takes an accelerator when there is one. Raises UserError."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here ({reason}); try --device cpu") from error
    return device


def load_data(options: DataOptions) -> ImageData:
    """The images that a recipe's `data` section means. Raises UserError."""
    return open_source(options.source).load(options.split, options.image_size, options.channels)


def _resumed(
    recipe: str | None, changes: list[tuple[list[str], Any]], out: str | Path | None
) -> tuple[RunFolder, Recipe]:
    """The folder and the recipe of a run to continue. Raises UserError when what was asked for differs."""
    if out is None:
        raise UserError("--resume needs --out RUN, the run to continue")
    folder = RunFolder(Path(out).expanduser())
    folder.require()
    own = read_recipe(str(folder.config))
    asked = check(merge(own if recipe is None else read_recipe(recipe), changes))
    if recipe is not None:  # logging and length said nowhere stay as the run has them
        said = {path[0] for path, _ in changes}
        kept = [([key], own[key]) for key in RESUMABLE if key in own and not {key, "steps", "epochs"} & said]
        asked = check(merge(asked.model_dump(mode="json", exclude_none=True), kept))
    differences = compare(own, asked.model_dump(mode="json", exclude_none=True))
    refused = [line for key, line in differences.items() if key.split(".")[0] not in RESUMABLE]
    if refused:
        raise UserError(f"{folder.path} cannot be resumed with another recipe: {'; '.join(refused)}")
    return folder, asked


def compare(own: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """What differs between two resolved recipes: by dotted key, "key: the run has X, asked for Y"."""
    lines: dict[str, str] = {}
    for key in {**own, **asked}:
        mine, theirs, name = own.get(key), asked.get(key), f"{prefix}{key}"
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            lines |= compare(mine, theirs, f"{name}.")
        elif mine != theirs:
            lines[name] = f"{name}: the run has {mine}, asked for {theirs}"
    return lines


def _execute(
    folder: RunFolder, recipe: Recipe, device: torch.device, resume: bool, quiet: bool, stop: StopRequest
) -> None:
    data = load_data(recipe.data)
    stream = Stream(recipe.seed).child("data")
    batches = Batches(data, recipe.batch_size, stream, device, flip=recipe.data.flip)
    schedule = Schedule.of(recipe, batches)
    with torch.random.fork_rng(), folder.locked():
        state = new_state(recipe, data.shape, len(data.class_names), device)
        if resume:
            _continue(folder, state, data, schedule)
        else:
            folder.create()
            _describe(folder, data, device)
        write_text(folder.config, to_yaml(recipe))
        with progress(schedule.steps, state.step, quiet) as shown:
            recorder = Recorder(
                folder=folder,
                recipe=recipe,
                schedule=schedule,
                info=_snapshot_info(recipe, data),
                progress=shown,
                judge=sliced_wasserstein_probe(data, recipe.latents, recipe.seed),
            )
            if state.step == 0:
                recorder.on_sample(state, None)
            train_loop(state, recipe, batches, schedule, recorder, stop)
        write_report(folder)


def _continue(folder: RunFolder, state: TrainingState, data: ImageData, schedule: Schedule) -> None:
    """Put the state where the newest whole checkpoint left it, and forget what was logged after that."""
    found = read_newest(folder)
    if found is not None:
        tree, facts = found
        if facts["data_sha256"] != data.fingerprint:
            raise UserError(
                f"{folder.path} was trained on other data than {data.source} now holds; it cannot be resumed"
            )
        try:
            state.restore(tree)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder.path}: the checkpoint does not fit the recipe: {error}") from error
    if schedule.steps < state.step:
        raise UserError(
            f"{folder.path} is at step {state.step} already; steps can only be raised, not {schedule.steps}"
        )
    cut_after(folder.metrics, state.step)


def _describe(folder: RunFolder, data: ImageData, device: torch.device) -> None:
    facts = {
        "source": data.source,
        "split": data.split,
        "images": len(data),
        "shape": list(data.shape),
        "sha256": data.fingerprint,
    }
    write_json(folder.environment, describe_environment(device) | {"data": facts})


def _snapshot_info(recipe: Recipe, data: ImageData) -> SnapshotInfo:
    return SnapshotInfo(
        recipe=recipe.name,
        step=0,
        kimg=0.0,
        image_shape=data.shape,
        class_names=data.class_names,
        data_source=data.source,
        data_sha256=data.fingerprint,
        latents=recipe.latents,
        generator=recipe.generator,
    )
