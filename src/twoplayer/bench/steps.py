"""`twoplayer bench step`, `sample` and `data`: ours beside the ordinary way, and beside what the machine can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twoplayer.bench import files
from twoplayer.bench.duel import Contender, python, running, take_turns
from twoplayer.bench.flops import convolution_peak, layer_flops, useful_flops
from twoplayer.bench.workloads import SAMPLES, Setup, setup_of
from twoplayer.core.batch import Batch
from twoplayer.core.errors import UserError
from twoplayer.core.precision import compute_dtype, require_precision
from twoplayer.core.rng import Stream
from twoplayer.loading import load_data
from twoplayer.ops.gaussian_noise import GaussianNoise
from twoplayer.recipes.load import check, load_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.training.play import play_step
from twoplayer.training.state import TrainingState

TURN_SECONDS = 0.5
"""How long a turn lasts at least."""

COMPARED = 32
"""Images of the batch on which gradients are compared in float64; all of a smaller batch."""


def description(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """What every contender is told; `data.limit` images, else a few batches.

    Where a recipe says size and channels, its data need not be there. Raises UserError for a game that only ours plays.
    """
    require_precision(recipe.precision, device)
    if recipe.augmentation is not None:
        raise UserError("the ordinary steps know no augmentation: compare without it, augmentation=null")
    data = recipe.data
    if data.image_size and data.channels:
        shape, classes = [data.channels, data.image_size, data.image_size], 10
    else:
        loaded = load_data(data.model_copy(update={"limit": 1}))
        shape, classes = list(loaded.shape), len(loaded.class_names)
    n = data.limit or max(4 * recipe.batch_size, 20 * (data.labeled_per_class or 0))
    tree = recipe.model_dump(mode="json", exclude_none=True)
    return {"recipe": tree, "shape": shape, "num_classes": classes, "n": n, "device": str(device)}


PLAYED = ("generator", "discriminator", "objective", "regularizers", "play", "optimizers", "latents")
"""The keys of a recipe that say what a step does."""

SIZES = ("n_filters", "n_blocks", "kernel_size", "dim")
"""Their keys that the step in Keras follows."""


def without_size(part: Any) -> Any:
    """A part of a recipe but for what the step in Keras follows."""
    return {key: value for key, value in part.items() if key not in SIZES} if isinstance(part, dict) else part


def contenders(told: dict[str, Any], what: str) -> list[Contender]:
    """Ours and the ordinary ways."""
    ways = {"twoplayer": "ours", "plain PyTorch": "plain"}
    if what == "files":
        ways = files.ways(check(told["recipe"]).data)
    return [
        Contender(name, python("twoplayer.bench.worker"), told | {"what": what, "way": way})
        for name, way in ways.items()
    ]


def keras_contenders(told: dict[str, Any], python_of_keras: Path) -> list[Contender]:
    """The step in Keras, eager and in graph mode. Raises UserError where it is another recipe's, or there is no Keras.

    Args:
        told: see `description`.
        python_of_keras: the interpreter of an environment with TensorFlow.
    """
    original = load_recipe("mnist-wgan-gp").model_dump(mode="json", exclude_none=True)
    if any(without_size(told["recipe"].get(key)) != without_size(original[key]) for key in PLAYED):
        raise UserError("--against keras knows the step of mnist-wgan-gp, of any size, and no other")
    if not python_of_keras.exists():
        raise UserError(
            f"--keras {python_of_keras}: there is no such program; make it with "
            "python -m venv keras && keras/bin/pip install tensorflow-cpu, then --keras keras/bin/python"
        )
    command = [str(python_of_keras), str(Path(__file__).with_name("keras_wgan_gp.py"))]
    return [
        Contender(name, command, told | {"way": way})
        for name, way in (("Keras, eager", "keras-eager"), ("Keras, graph", "keras-graph"))
    ]


def measure(told: dict[str, Any], others: list[Contender], rounds: int, done: Callable[[], None]) -> dict[str, Any]:
    """Everything that `bench step` reports.

    Args:
        told: see `description`.
        others: contenders beside ours and the ordinary way.
        rounds: turns of each.
        done: called after each turn.
    """
    setup = setup_of(told)
    players = [*contenders(told, "step"), *others]
    with running(players):
        take_turns(players, rounds, TURN_SECONDS, done)
    dtype = compute_dtype(setup.recipe.precision, setup.device) or torch.float32
    flops, peak = flops_of(setup), convolution_peak(setup.device, dtype)
    ours = players[0].median
    images = setup.recipe.batch_size * setup.recipe.play.discriminator_steps
    return {
        "recipe": setup.recipe.name,
        "batch_size": setup.recipe.batch_size,
        "shape": told["shape"],
        "rounds": rounds,
        "ms_per_step": 1e3 * ours,
        "images_per_second": images / ours,
        "speedup_over_plain_pytorch": players[1].median / ours,
        "contenders": [
            {
                "name": each.name,
                "ms_per_step": 1e3 * each.median,
                "fastest_ms": 1e3 * min(each.seconds),
                "slowest_ms": 1e3 * max(each.seconds),
                "gflops": flops / each.median / 1e9,
                "share_of_peak": flops / each.median / peak,
            }
            for each in players
        ],
        "useful_gflop_per_step": flops / 1e9,
        "convolution_peak_gflops": peak / 1e9,
        "gradient_errors": gradient_errors(setup),
        "device": describe_device(setup.device),
        "threads": torch.get_num_threads(),
        "precision": precision_of(setup.recipe, setup.device),
        "environment": describe_environment(setup.device),
    }


def rates(told: dict[str, Any], what: str, rounds: int, done: Callable[[], None]) -> dict[str, Any]:
    """Everything that `bench sample` and `bench data` report.

    Args:
        told: see `description`.
        what: "sample" or "data"; where a recipe's pictures are in files, their decoding is measured too.
        rounds: turns of each.
        done: called after each turn.
    """
    recipe, device = setup_of(told).recipe, torch.device(told["device"])
    baseline = "plain_pytorch"
    if what == "data" and files.is_of_files(recipe.data):
        what, baseline = "files", "plain_loop"
        told = told | {"recipe": files.with_form(recipe, told["shape"]).model_dump(mode="json", exclude_none=True)}
    players = contenders(told, what)
    with running(players):
        take_turns(players, rounds, TURN_SECONDS, done)
    images = SAMPLES if what == "sample" else recipe.batch_size
    ours, plain = (images / each.median for each in players[:2])
    return {
        "recipe": recipe.name,
        "shape": told["shape"],
        "rounds": rounds,
        "images_per_second": ours,
        f"speedup_over_{baseline}": ours / plain,
        "contenders": [
            {
                "name": each.name,
                "images_per_second": images / each.median,
                "fastest": images / min(each.seconds),
                "slowest": images / max(each.seconds),
            }
            for each in players
        ],
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": precision_of(recipe, device),
        "environment": describe_environment(device),
    }


def precision_of(recipe: Recipe, device: torch.device) -> str:
    """What "auto" means here."""
    return "fp32" if compute_dtype(recipe.precision, device) is None else "bf16"


def describe_device(device: torch.device) -> str:
    """What computes."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def flops_of(setup: Setup) -> int:
    """Operations that one step needs at least."""
    batches = setup.batches()
    game, real = setup.state(batches).game, batches.some(2, Stream(0))
    z = game.latents.draw(2, Stream(0), real.images)
    g = layer_flops(game.generator.network, z, real.given(game.generator.takes))
    d = layer_flops(game.discriminator.network, real.images, real.given(game.discriminator.takes))
    return useful_flops(setup.recipe, g, d) * setup.recipe.batch_size


class SameNumbers(Stream):
    """A stream whose numbers are drawn in float32, whatever they are asked for in."""

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, *, like: Tensor | None = None
    ) -> Tensor:
        values = super().uniform(shape, low, high)
        return values if like is None else values.to(like)

    def normal(self, shape: tuple[int, ...], *, like: Tensor | None = None) -> Tensor:
        values = super().normal(shape)
        return values if like is None else values.to(like)


def gradient_errors(setup: Setup) -> dict[str, float]:
    """How far the gradients of both players are from those of the plain step in float64, relative to their length.

    Without dropout and noise, of which the two ways draw different numbers. Kinks of rectifiers on which float32 falls
    to the other side count as errors of both.
    """
    recipe = setup.recipe.model_copy(update={"batch_size": min(setup.recipe.batch_size, COMPARED)})
    setup = replace(setup, recipe=recipe)
    truth = gradients(setup, torch.float64, fast=False)
    found = {
        "twoplayer in float64": gradients(setup, torch.float64, fast=True),
        "twoplayer": gradients(setup, torch.float32, fast=True),
        "plain PyTorch": gradients(setup, torch.float32, fast=False),
    }
    return {
        name: max(
            float((ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-30))
            for ours, theirs in zip(values, truth, strict=True)
        )
        for name, values in found.items()
    }


def gradients(setup: Setup, dtype: torch.dtype, *, fast: bool) -> list[Tensor]:
    """Of G and of D, each as one vector, in one step that changes nothing."""
    batches = setup.batches()
    state = setup.state(batches)
    game = replace(state.game, fast=fast, dtype=None if dtype == torch.float64 else state.game.dtype)
    for player in (game.generator, game.discriminator):
        player.network.to(dtype)
        for layer in player.network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
            if isinstance(layer, GaussianNoise):
                layer.std = 0.0
    still(state)

    def batch() -> Batch:
        real = batches[0]
        parts = {name: getattr(real, name) for name in ("images", "condition")}
        return replace(real, **{name: part.to(dtype) for name, part in parts.items() if part is not None})

    with torch.random.fork_rng([setup.device] if setup.device.type == "cuda" else []):
        torch.manual_seed(0)
        play_step(setup.recipe.play, game, batch, SameNumbers(0))
    return [
        torch.cat([p.grad.flatten() for p in player.network.parameters() if p.grad is not None])
        for player in (game.generator, game.discriminator)
    ]


def still(state: TrainingState) -> None:
    """Let no optimizer move anything."""
    for player in (state.game.generator, state.game.discriminator):
        for group in player.optimizer.param_groups:
            group["lr"] = 0.0
