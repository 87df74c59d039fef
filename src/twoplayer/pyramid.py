"""Training a Laplacian pyramid: every level is an ordinary run of its own, and their generators become one.

Source: Denton et al. 2015, https://arxiv.org/abs/1506.05751. RUN/levels/0, 1, ... are complete runs, coarsest first.
They do not depend on each other, so they may be trained one after the other or in processes side by side; a stopped run
goes on in the middle of whatever levels were under way.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from twoplayer.core.errors import Diverged, TrainingStopped, UserError
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.images import ImageData
from twoplayer.networks.pyramid import PyramidGenerator, PyramidLevel
from twoplayer.recipes.load import to_yaml
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.runs.files import write_json, write_text
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.runs.grid import save_png, tile
from twoplayer.runs.log import Row, append_row, read_rows
from twoplayer.runs.report import write_report
from twoplayer.runs.sampling import sample
from twoplayer.runs.snapshot import SnapshotInfo, read_snapshot, write_snapshot
from twoplayer.session import data_facts, run_session

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
        if not resume:
            folder.require_free()
        folder.prepare(to_yaml(recipe))
        write_json(folder.environment, describe_environment(device) | {"data": data_facts(data)})
        with _telling_how_to_go_on(folder):
            if recipe.level_processes > 1:
                _train_side_by_side(folder, recipe, device, stop, quiet=quiet)
            else:
                _train_in_turn(folder, recipe, data, device, stop, quiet=quiet)
        _put_together(folder, recipe, data)
        write_report(folder)
    return folder


def level_folder(folder: RunFolder, number: int) -> RunFolder:
    """Where the run of a level lies."""
    return RunFolder(folder.path / "levels" / str(number))


@contextmanager
def _telling_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except TrainingStopped as stopped:
        what = str(stopped).split(";")[0]
        hint = f"go on with: twoplayer train --resume --out {shlex.quote(str(folder.path))}"
        raise TrainingStopped(f"{what}; {hint}") from None


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
    while waiting or running:
        if stop.requested:
            _end(running)
            raise TrainingStopped("stopped; every level under way was saved")
        while waiting and len(running) < recipe.level_processes:
            number = waiting.pop(0)
            running[number] = _start(level_folder(folder, number), recipe, number, device, quiet=quiet)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        for number in [number for number, process in running.items() if process.poll() is not None]:
            code = running.pop(number).returncode
            if code:
                _end(running)
                raise _failure(code, number, level_folder(folder, number))


def _start(
    place: RunFolder, recipe: Recipe, number: int, device: torch.device, *, quiet: bool
) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "twoplayer", "train", "--out", str(place.path), "--device", str(device)]
    if place.exists():
        words.append("--resume")
    else:
        config = place.path.parent / f"{number}.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        write_text(config, to_yaml(recipe.level(number)))
        words.append(str(config))
    threads = max((os.cpu_count() or 1) // recipe.level_processes, 1)
    quietly = ["--quiet"] if quiet else []
    return subprocess.Popen(
        words + quietly, env={"OMP_NUM_THREADS": str(threads)} | os.environ, stdout=subprocess.DEVNULL
    )


def _end(running: dict[int, subprocess.Popen[bytes]]) -> None:
    """Ask every process to save, and wait until it has."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait()


def _failure(code: int, number: int, place: RunFolder) -> BaseException:
    """What the exit code of a level's process says; its own message is on stderr already."""
    if code == Diverged.exit_code:
        rows = read_rows(place.metrics)
        return Diverged(int(rows[-1]["step"] or 0) if rows else 0, f"level {number}")
    if code == TrainingStopped.exit_code:
        return TrainingStopped(f"level {number} was stopped")
    if code == UserError.exit_code:
        return UserError(f"level {number} could not be trained; the reason is in the line above")
    return RuntimeError(f"level {number} ended with exit code {code}")


def _put_together(folder: RunFolder, recipe: Recipe, data: ImageData) -> None:
    """One generator, one grid and one log of the levels' own."""
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
    _join_logs(folder, len(levels))


def _draw(folder: RunFolder, recipe: Recipe, network: nn.Module, info: SnapshotInfo) -> None:
    n, names = recipe.grid_images, info.class_names
    by_class = "labels" in info.generator.takes
    given = {"labels": torch.arange(n) % len(names)} if by_class else {}
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
