"""Training a Laplacian pyramid: every level is an ordinary run of its own, and their generators become one.

Source: Denton et al. 2015, https://arxiv.org/abs/1506.05751. RUN/levels/0, 1, ... are complete runs, coarsest first.
They do not depend on each other, so they may be trained one after the other or in processes side by side; a stopped run
goes on in the middle of whatever levels were under way.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from twoplayer.core.console import say
from twoplayer.core.errors import Diverged, TrainingStopped, UserError
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.images import ImageData
from twoplayer.loading import data_facts
from twoplayer.networks.pyramid import PyramidGenerator, PyramidLevel
from twoplayer.recipes.load import load_recipe, to_yaml
from twoplayer.recipes.resume import core, require_not_shorter, require_same
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.runs.files import write_json, write_text
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.runs.grid import save_png, tile
from twoplayer.runs.log import Row, append_row, read_rows
from twoplayer.runs.report import write_report
from twoplayer.runs.sampling import in_turn, sample
from twoplayer.runs.snapshot import SnapshotInfo, read_snapshot, write_snapshot
from twoplayer.session import run_session
from twoplayer.training.progress import SECONDS_BETWEEN_LINES, describe
from twoplayer.training.threads import SHARED

SECONDS_BETWEEN_LOOKS = 0.2


def run_pyramid(
    folder: RunFolder | None,
    recipe: Recipe,
    data: ImageData,
    device: torch.device,
    stop: StopRequest,
    *,
    resume: bool,
    quiet: bool,
) -> RunFolder:
    """Train all levels to their ends in a folder and put them together there.

    Raises:
        TrainingStopped: a signal came; every level under way saved a checkpoint.
        Diverged: a level became NaN or infinite.
    """
    folder = folder or claim_next_run(Path("runs"), recipe.name)
    with folder.locked(), stop.deferring():
        if resume:
            _require_that_levels_can_go_on(folder, recipe, data)
        else:
            folder.require_free()
        folder.prepare(to_yaml(recipe))
        write_json(folder.environment, describe_environment(device) | {"data": data_facts(data)})
        try:
            if recipe.level_processes > 1:
                _train_side_by_side(folder, recipe, device, stop, quiet=quiet)
            else:
                _train_in_turn(folder, recipe, data, device, stop, quiet=quiet)
        except TrainingStopped as stopped:
            what = str(stopped).split(";")[0]
            hint = f"go on with: twoplayer train --resume --out {shlex.quote(str(folder.path))}"
            raise TrainingStopped(f"{what}; {hint}") from None
        finally:
            _put_together(folder, recipe, data)
    return folder


def _require_that_levels_can_go_on(folder: RunFolder, recipe: Recipe, data: ImageData) -> None:
    """Raise UserError when a level that has begun would have to become shorter or another game."""
    for number in range(len(recipe.levels)):
        place = level_folder(folder, number)
        if place.exists():
            own, asked = load_recipe(str(place.config)), recipe.level(number)
            require_same(core(own), core(asked), f"level {number} cannot be resumed with another recipe")
            require_not_shorter(own, asked, len(data) // asked.batch_size, place.path)


def level_folder(folder: RunFolder, number: int) -> RunFolder:
    """Where the run of a level lies."""
    return RunFolder(folder.path / "levels" / str(number))


def _train_in_turn(
    folder: RunFolder, recipe: Recipe, data: ImageData, device: torch.device, stop: StopRequest, *, quiet: bool
) -> None:
    for number in range(len(recipe.levels)):
        level, place = recipe.level(number), level_folder(folder, number)
        if stop.requested:
            raise TrainingStopped(f"stopped before level {number}")
        halved = data.halved(level.data.halvings)
        run_session(place, level, halved, device, stop, resume=place.exists(), quiet=quiet)


def _train_side_by_side(
    folder: RunFolder, recipe: Recipe, device: torch.device, stop: StopRequest, *, quiet: bool
) -> None:
    """Each level is the command `twoplayer train` in a process of its own, with its share of the processors."""
    waiting = list(range(len(recipe.levels)))
    running: dict[int, subprocess.Popen[bytes]] = {}
    watch = _Watch(folder, len(recipe.levels), quiet=quiet)
    while waiting or running:
        if stop.requested:
            _end(running)
            raise TrainingStopped("stopped; every level under way was saved")
        while waiting and len(running) < recipe.level_processes:
            number = waiting.pop(0)
            running[number] = _start(level_folder(folder, number), recipe, number, device)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        watch.look()
        for number in [number for number, process in running.items() if process.poll() is not None]:
            ended = running.pop(number)
            _, said = ended.communicate()
            if ended.returncode:
                _end(running)
                raise _failure(ended.returncode, number, said.decode(errors="replace").strip())


def _start(place: RunFolder, recipe: Recipe, number: int, device: torch.device) -> subprocess.Popen[bytes]:
    config = place.path.parent / f"{number}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    write_text(config, to_yaml(recipe.level(number)))
    words = [sys.executable, "-m", "twoplayer", "train", str(config), "--out", str(place.path), "--quiet"]
    words += ["--device", str(device), *(["--resume"] if place.exists() else [])]
    threads = max((os.cpu_count() or 1) // recipe.level_processes, 1)
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads), SHARED: "1"}
    return subprocess.Popen(
        words,
        env=share | os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C reaches the parent only, which passes it on once
    )


def _end(running: dict[int, subprocess.Popen[bytes]]) -> None:
    """Ask every process to save, and wait until it has."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.communicate()


def _failure(code: int, number: int, said: str) -> BaseException:
    """What the end of a level's process means, with its own last line."""
    last = said.splitlines()[-1].removeprefix("twoplayer: ") if said else f"exit code {code}"
    if code == Diverged.exit_code:
        found = re.search(r"in step (\d+): (.*) is NaN", last)
        return Diverged(int(found[1]), f"level {number}, {found[2]}") if found else Diverged(0, f"level {number}")
    if code == TrainingStopped.exit_code:
        return TrainingStopped(f"level {number} was stopped")
    if code == UserError.exit_code:
        return UserError(f"level {number}: {last}")
    if code < 0:
        reason = signal.Signals(-code).name
        return UserError(
            f"the process of level {number} was ended by {reason}; if memory ran out, lower level_processes"
        )
    return RuntimeError(f"level {number}: {said or last}")


class _Watch:
    """Shows how far levels are that train in other processes: a line per level, at most one in five seconds each."""

    def __init__(self, folder: RunFolder, levels: int, *, quiet: bool) -> None:
        self.logs = {} if quiet else {number: level_folder(folder, number).metrics for number in range(levels)}
        self.shown: dict[int, float] = {}
        self.next_look_at = 0.0

    def look(self) -> None:
        """Print what is new."""
        if time.monotonic() < self.next_look_at:
            return
        self.next_look_at = time.monotonic() + SECONDS_BETWEEN_LINES
        for number, log in self.logs.items():
            rows = read_rows(log)
            step = float(rows[-1]["step"] or 0) if rows else 0.0
            if rows and self.shown.get(number) != step:
                self.shown[number] = step
                say(f"level {number}  step {step:.0f}  {describe(rows[-1])}")


def _put_together(folder: RunFolder, recipe: Recipe, data: ImageData) -> None:
    """One log and one report of the levels' own; one generator and one grid when every level has a generator."""
    _join_logs(folder, len(recipe.levels))
    numbers = range(len(recipe.levels))
    if all((level_folder(folder, number).generator / "config.json").is_file() for number in numbers):
        _join_generators(folder, recipe, data)
    write_report(folder)


def _join_generators(folder: RunFolder, recipe: Recipe, data: ImageData) -> None:
    levels = [recipe.level(number) for number in range(len(recipe.levels))]
    snapshots = [read_snapshot(level_folder(folder, number).generator) for number in range(len(levels))]
    config = PyramidGenerator(
        levels=tuple(PyramidLevel(latent_dim=level.latents.dim, generator=level.generator) for level in levels)
    )
    latents = levels[-1].latents.model_copy(update={"dim": sum(level.latents.dim for level in levels)})
    finest = snapshots[-1][1]
    info = SnapshotInfo(
        recipe=recipe.name,
        step=finest.step,
        kimg=sum(info.kimg for _, info in snapshots),
        image_shape=data.shape,
        class_names=data.class_names,
        data_source=data.name,
        data_sha256=data.fingerprint,
        latents=latents,
        generator=config,
    )
    network = info.build()
    levels_of = network.levels
    assert isinstance(levels_of, nn.ModuleList)
    for module, (trained, _) in zip(levels_of, snapshots, strict=True):
        module.load_state_dict(trained.state_dict())
    write_snapshot(folder.generator, network, info)
    _draw(folder, recipe, network, info)


def _draw(folder: RunFolder, recipe: Recipe, network: nn.Module, info: SnapshotInfo) -> None:
    n, names = recipe.grid_images, info.class_names
    by_class = "labels" in info.generator.takes
    given = {"labels": in_turn(range(len(names)), n)} if by_class else {}
    images = sample(network, info.latents, n, Stream(recipe.seed).child("grid"), given)
    titles = names[:n] if by_class else ()
    save_png(tile(images, len(titles) or None, titles), folder.sample_grid(info.step), {"step": info.step})


def _join_logs(folder: RunFolder, levels: int) -> None:
    """The levels' logs one after the other, each line with the number of its level."""
    folder.metrics.unlink(missing_ok=True)
    for number in range(levels):
        for row in read_rows(level_folder(folder, number).metrics):
            joined: Row = {"level": number} | row
            append_row(folder.metrics, joined)
