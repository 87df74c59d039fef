"""What a Python user calls: `train`, `load` and the `Run` they return. Puts the rooms below together."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from twoplayer.choosing import choose_recipe
from twoplayer.core.console import columns, say
from twoplayer.core.errors import TrainingStopped, UserError
from twoplayer.core.joining import joined
from twoplayer.core.process import flush_denormals, keep_compiled, keep_memory
from twoplayer.core.ranks import Ranks, are_several
from twoplayer.core.stop import StopRequest
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.drawing import Exported, Sampler
from twoplayer.loading import load_data
from twoplayer.pyramid import run_pyramid
from twoplayer.recipes.load import AUTO, Override, flatten, load_recipe, parse_overrides, to_yaml
from twoplayer.recipes.resume import resumed_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.files import write_text
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.session import explaining_memory, run_session
from twoplayer.trained import Run

DEVICES = ("cpu", "cuda", "mps")


def train(
    recipe: str | Path | None = None,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    other_processes: bool = False,
    device: str = "auto",
    quiet: bool = False,
    stop: StopRequest | None = None,
    **settings: Any,
) -> Run:
    """Train a GAN and write everything about it into a run folder.

    Args:
        recipe: a recipe's name or a .yaml file; "auto" for one that is made for the data; "digits" when left out.
        overrides: as on the command line, for example "objective.name=wasserstein".
        data: where the images come from, instead of the recipe's source.
        out: the run's folder; the next free runs/NAME-001, ... when left out.
        resume: continue the run in `out` from its own configuration.
        other_processes: the run may be continued by another number of processes than trained it so far.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        quiet: show no progress.
        stop: where signals are noticed; one is made when left out.
        settings: recipe keys, for example steps=500 or generator={"n_filters": 64}.

    Returns:
        The finished run; with seeds=3 the first of three, which lie in `out`/seed-0, seed-1, seed-2.

    Raises:
        UserError: something the caller can mend, said in one line.
        Diverged: something became NaN or infinite; the last good checkpoint is in place.
        TrainingStopped: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    _require_resumed(resumed=resume, other_processes=other_processes)
    changes = parse_overrides(overrides) + flatten(settings) + _source(data)
    named = None if recipe is None else str(recipe)
    folder = None if out is None else RunFolder(_path(out))
    stop = stop or StopRequest()
    keep_memory()
    flush_denormals()
    keep_compiled()
    chosen = choose_device(device)
    with stop.listening(), joined(chosen) as ranks:
        if named == AUTO and not resume:
            resolved = _chosen(folder, changes, chosen, stop, ranks, quiet=quiet)
        else:
            resolved = _told(folder, named, changes, ranks, resume=resume)
        _require_possible(resolved, ranks)
        with explaining_memory(resolved):
            loaded = load_data(resolved.data, quiet=quiet, stop=stop)
        with explaining_memory(resolved, loaded):
            if resolved.seeds > 1:
                folder = _run_seeds(folder, resolved, loaded, chosen, stop, quiet=quiet)
            elif resolved.levels:
                folder = run_pyramid(folder, resolved, loaded, chosen, stop, resume=resume, quiet=quiet)
            else:
                how = {"resume": resume, "other_processes": other_processes, "quiet": quiet}
                folder = run_session(folder, resolved, loaded, chosen, stop, ranks=ranks, **how)
    return Run(folder.path)


def _source(data: str | Path | None) -> list[Override]:
    """The images that were said beside the recipe."""
    return [] if data is None else [(["data", "source"], open_source(str(data)).text)]


def _require_resumed(*, resumed: bool, other_processes: bool) -> None:
    """Raise UserError when it is said how a run goes on that does not."""
    if other_processes and not resumed:
        raise UserError("--other-processes says how a run goes on: it belongs to --resume")


def _require_possible(recipe: Recipe, ranks: Ranks) -> None:
    """Raise UserError when several processes are to train several games, or a service that is to be told cannot be."""
    for tracker in recipe.tracking:
        tracker.require()
    if ranks.count > 1 and (recipe.seeds > 1 or recipe.levels):
        what = f"seeds={recipe.seeds}" if recipe.seeds > 1 else "a pyramid"
        raise UserError(f"{what} is several trainings: start each with its own {ranks.count} processes")


def _told(
    folder: RunFolder | None, named: str | None, changes: list[Override], ranks: Ranks, *, resume: bool
) -> Recipe:
    """The recipe that the first rank read, on all ranks."""
    told = ranks.told(_resolved(folder, named, changes, resume=resume) if ranks.writes else None)
    assert told is not None
    return told


def _resolved(folder: RunFolder | None, named: str | None, changes: list[Override], *, resume: bool) -> Recipe:
    """The recipe that is meant, in a folder that suits it. Raises UserError."""
    if not resume:
        recipe = load_recipe(named or "digits", changes)
        if folder is not None:
            folder.require_free()
        return _located(recipe)
    if folder is None:
        raise UserError("--resume needs --out RUN, the run to continue")
    folder.require()
    return _located(resumed_recipe(str(folder.config), None if named == AUTO else named, changes))


def _chosen(
    folder: RunFolder | None,
    changes: list[Override],
    device: torch.device,
    stop: StopRequest,
    ranks: Ranks,
    *,
    quiet: bool,
) -> Recipe:
    """The recipe that is made for the data. Raises UserError.

    All ranks look at the data: those that only waited for an answer would not wait as long as decoding may take.
    """
    if folder is not None and ranks.writes:
        folder.require_free()
    found = choose_recipe(changes, device, quiet=quiet or not ranks.writes, stop=stop, processes=ranks.count)
    if ranks.writes and not quiet:
        for line in found.lines(columns()):
            say(line)
    return ranks.told(_located(found.recipe))


def _run_seeds(
    folder: RunFolder | None, recipe: Recipe, data: ImageData, device: torch.device, stop: StopRequest, *, quiet: bool
) -> RunFolder:
    """One run after the other in seed-0, seed-1, ...; those that are there go on. Returns the first one's folder."""
    together = folder or claim_next_run(Path("runs"), recipe.name)
    together.path.mkdir(parents=True, exist_ok=True)
    write_text(together.config, to_yaml(recipe))
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    run = run_pyramid if recipe.levels else run_session
    for seed in seeds:
        place = together.of_seed(seed)
        own = recipe.model_copy(update={"seeds": 1, "seed": seed})
        try:
            run(place, own, data, device, stop, resume=place.exists(), quiet=quiet)
        except TrainingStopped as stopped:
            how = f"twoplayer train --resume --out {shlex.quote(str(together.path))}"
            raise TrainingStopped(f"stopped with seed {seed}; go on with: {how}") from stopped
    return together.of_seed(seeds[0])


def load(path: str | Path, checkpoint: Literal["newest", "best"] | int = "newest") -> Run:
    """A run that was trained before. Raises UserError when there is none.

    Args:
        path: the run's folder.
        checkpoint: whose averaged generator to use: the newest, the one with the lowest in-training figure, or that
            of a step.
    """
    if checkpoint not in ("newest", "best") and not isinstance(checkpoint, int):
        raise UserError(f"checkpoint={checkpoint!r} (allowed: newest, best, a step)")
    folder = RunFolder(_path(path))
    folder.require()
    if several := folder.of_seeds():
        names = ", ".join(place.path.name for place in several)
        raise UserError(f"{folder.path} holds runs of several seeds; choose one of {names}, or compare the folder")
    return Run(folder.path, checkpoint)


def load_generator(path: str | Path, device: str = "cpu") -> Sampler:
    """What draws pictures, on a device: a run, or a generator alone in a folder that was exported. Raises UserError."""
    place = _path(path)
    if (place / "generator.safetensors").is_file():
        return Exported(place, choose_device(device))
    return replace(load(place), device=choose_device(device))


def choose_device(name: str) -> torch.device:
    """The device that a name means; "auto" takes an accelerator when there is one. Raises UserError."""
    if name == "auto":
        found = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else found
    if name == "cuda" and are_several() and torch.cuda.is_available():
        name = f"cuda:{own_accelerator(torch.cuda.device_count())}"
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError(f"known: {', '.join(DEVICES)}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used here ({reason}); try --device cpu") from error
    return device


def own_accelerator(visible: int) -> int:
    """Which of this machine's GPUs is this process's, of several. Raises UserError where there are too few."""
    local = int(os.environ.get("LOCAL_RANK", int(os.environ["RANK"]) % visible))
    if visible == 1:  # each process sees its own
        return 0
    if local >= visible:
        raise UserError(f"process {local} of this machine has no GPU: {visible} are visible; or say --device cpu")
    return local


def _path(text: str | Path) -> Path:
    path = Path(text).expanduser()
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"the name {str(path)!r} is not valid UTF-8; choose another") from error
    return path


def _located(recipe: Recipe) -> Recipe:
    """The same recipe with a data source that is found from any folder."""
    data = recipe.data.model_copy(update={"source": open_source(recipe.data.source).text})
    return recipe.model_copy(update={"data": data})
