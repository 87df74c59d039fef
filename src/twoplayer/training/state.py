"""Everything that a run's future depends on besides its recipe and its data. A checkpoint holds exactly this.

Random streams and the order of the data are functions of the seed and the step (see `core/rng.py`), so the step is all
that has to be kept of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from twoplayer.core.rng import Stream
from twoplayer.recipes.schema import Recipe
from twoplayer.training.ema import averaged
from twoplayer.training.step import Game, Player, Report

Tree = dict[str, Any]


@dataclass
class Meters:
    """Sums since the last line of the log.

    Attributes:
        sums: by name, scalars on the device.
        steps: how many steps are in them.
        seconds: time spent in those steps.
    """

    sums: Report = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0

    def add(self, report: Report, seconds: float) -> None:
        """Take one step in. Nothing is copied from the device."""
        for name, value in report.items():
            wide = value.double() if value.device.type != "mps" else value.clone()  # mps has no float64
            self.sums[name] = self.sums[name] + wide if name in self.sums else wide
        self.steps += 1
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        """Averages over the interval."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}

    def reset(self) -> None:
        """Begin a new interval."""
        self.sums, self.steps, self.seconds = {}, 0, 0.0


@dataclass
class TrainingState:
    """The players, what updates them, and how far they are.

    Attributes:
        step: generator updates done.
        seconds: time spent in training so far, all sessions together.
        best_step: the checkpoint with the lowest in-training figure, 0 before there is one.
        best_figure: that figure.
    """

    game: Game
    average: AveragedModel | None
    meters: Meters = field(default_factory=Meters)
    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_figure: float = float("inf")

    @property
    def generator_for_use(self) -> nn.Module:
        """The averaged generator where the recipe keeps an average, else the generator."""
        if self.average is None:
            return self.game.generator.network
        module: nn.Module = self.average.module
        return module

    def named_tensors(self) -> list[tuple[str, Tensor]]:
        """Weights, their gradients and averages, by a name that a person understands."""
        named = []
        for role, player in self._players().items():
            for name, parameter in player.network.named_parameters():
                named.append((f"{role}.{name} (weight)", parameter.detach()))
                if parameter.grad is not None:
                    named.append((f"{role}.{name} (gradient)", parameter.grad))
            named += [(f"{role}.{name} (statistic)", buffer) for name, buffer in player.network.named_buffers()]
        if self.average is not None:
            named += [(f"average.{name}", value) for name, value in self.average.module.state_dict().items()]
        return [(name, tensor) for name, tensor in named if torch.is_floating_point(tensor)]

    def tree(self) -> Tree:
        """All of it as nested dictionaries of tensors and plain values."""
        players = {
            role: {"network": player.network.state_dict(), "optimizer": player.optimizer.state_dict()}
            for role, player in self._players().items()
        }
        return players | {
            "average": {} if self.average is None else dict(self.average.state_dict()),
            "meters": {"sums": dict(self.meters.sums), "steps": self.meters.steps, "seconds": self.meters.seconds},
            "step": self.step,
            "seconds": self.seconds,
            "best": {"step": self.best_step, "figure": self.best_figure if self.best_step else None},
        }

    def restore(self, tree: Tree) -> None:
        """Become the state that `tree` described. Raises RuntimeError or ValueError when it does not fit."""
        for role, player in self._players().items():
            player.network.load_state_dict(tree[role]["network"])
            player.optimizer.load_state_dict(tree[role]["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(tree["average"])
        meters = tree["meters"]
        self.meters = Meters(meters["sums"], meters["steps"], meters["seconds"])
        self.step, self.seconds = tree["step"], tree["seconds"]
        self.best_step = tree["best"]["step"]
        self.best_figure = tree["best"]["figure"] if self.best_step else float("inf")

    def _players(self) -> dict[str, Player]:
        return {"generator": self.game.generator, "discriminator": self.game.discriminator}


def new_state(
    recipe: Recipe, image_shape: tuple[int, int, int], num_classes: int, device: torch.device
) -> TrainingState:
    """Freshly initialized players. Each draws its weights from its own stream: changing one leaves the other alone."""
    stream = Stream(recipe.seed).child("initialization")
    generator = _initialized(
        lambda: recipe.generator.build(recipe.latents.dim, image_shape, num_classes), stream.child("generator"), device
    )
    discriminator = _initialized(
        lambda: recipe.discriminator.build(image_shape, num_classes), stream.child("discriminator"), device
    )
    game = Game(
        generator=Player(generator, recipe.optimizers.generator.build(generator.parameters())),
        discriminator=Player(discriminator, recipe.optimizers.discriminator.build(discriminator.parameters())),
        objective=recipe.objective,
        regularizers=recipe.regularizers,
        latents=recipe.latents,
    )
    if recipe.average is None:
        return TrainingState(game, None)
    images_per_step = recipe.batch_size * recipe.play.discriminator_steps
    return TrainingState(game, averaged(generator, recipe.average.half_life_kimg, images_per_step))


def _initialized(build: Any, stream: Stream, device: torch.device) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        stream.seed_torch()
        module: nn.Module = build()
    return module.to(device)
