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

from twoplayer.core.batch import BatchSupply
from twoplayer.core.precision import compute_dtype
from twoplayer.core.protocols import NeedsPreparation, ParameterPenalty, Reparametrization
from twoplayer.core.rng import Stream
from twoplayer.core.schedule import BEGINNING, fixed_at
from twoplayer.recipes.goal import Goal
from twoplayer.recipes.schema import Average, Recipe
from twoplayer.training.ema import averaged
from twoplayer.training.overfitting import HeldOut
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
        self.take(report)
        self.count(1, seconds)

    def take(self, report: Report) -> None:
        """Add the scalars of a step, in place."""
        values = torch.stack(list(report.values()))
        values = values.double() if values.device.type != "mps" else values  # mps has no float64
        for name in report:
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(values[0])
            elif self.sums[name].device != values.device:  # of a checkpoint
                self.sums[name] = self.sums[name].to(values.device)
        torch._foreach_add_([self.sums[name] for name in report], values.unbind())

    def count(self, steps: int, seconds: float) -> None:
        """Count steps whose scalars were taken."""
        self.steps += steps
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        """Averages over the interval."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}

    def reset(self) -> None:
        """Begin a new interval."""
        for total in self.sums.values():
            total.zero_()
        self.steps, self.seconds = 0, 0.0


@dataclass
class TrainingState:
    """The players, what updates them, and how far they are.

    Attributes:
        average: the average of G, where the recipe keeps one.
        discriminator_average: the average of D, where the recipe keeps one.
        step: generator updates done.
        seconds: time spent in training so far, all sessions together, without compiling.
        best_step: the checkpoint with the lowest in-training figure, 0 before there is one.
        best_figure: that figure.
        goal: the goal that was reached, if one was.
        compiled: whether its moves are compiled; None before that is decided, once for all sessions.
        processes: how many train it, by the step after which they began; empty where the number never changed.
        held_out: images that are not trained on, for an augmentation that asks for them; no part of a checkpoint.
    """

    game: Game
    average: AveragedModel | None
    discriminator_average: AveragedModel | None = None
    meters: Meters = field(default_factory=Meters)
    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_figure: float = float("inf")
    goal: Goal | None = None
    compiled: bool | None = None
    processes: dict[int, int] = field(default_factory=dict)
    held_out: HeldOut | None = None

    def has_reached(self, goal: Goal | None) -> bool:
        """Whether the run has ended because of this goal."""
        return goal is not None and self.goal == goal

    @property
    def generator_for_use(self) -> nn.Module:
        """The averaged generator where the recipe keeps an average, else the generator."""
        if self.average is None:
            return self.game.generator.network
        module: nn.Module = self.average.module
        return module

    @property
    def discriminator_for_use(self) -> nn.Module:
        """The averaged discriminator where the recipe keeps an average, else the discriminator."""
        if self.discriminator_average is None:
            return self.game.discriminator.network
        module: nn.Module = self.discriminator_average.module
        return module

    def update_averages(self) -> None:
        """Take the present weights into the averages."""
        for average, player in self._averages():
            average.update_parameters(player.network)

    def gradients(self) -> list[tuple[str, Tensor]]:
        """The gradients of the last step, by a name that a person understands."""
        return [
            (f"{role}.{name} (gradient)", parameter.grad)
            for role, player in self._players().items()
            for name, parameter in player.network.named_parameters()
            if parameter.grad is not None
        ]

    def named_tensors(self) -> list[tuple[str, Tensor]]:
        """Weights, statistics and averages, by a name that a person understands."""
        named: list[tuple[str, Tensor]] = []
        for role, player in self._players().items():
            named += [(f"{role}.{name} (weight)", value.detach()) for name, value in player.network.named_parameters()]
            named += [(f"{role}.{name} (statistic)", buffer) for name, buffer in player.network.named_buffers()]
        for average, _ in self._averages():
            named += [(f"average.{name}", value) for name, value in average.module.state_dict().items()]
        return [(name, tensor) for name, tensor in named if torch.is_floating_point(tensor)]

    def tree(self) -> Tree:
        """All of it as nested dictionaries of tensors and plain values."""
        players = {
            role: {
                "network": player.network.state_dict(),
                "optimizer": player.optimizer.state_dict(),
                "memories": {name: memory.state_dict() for name, memory in player.memories.items()},
            }
            for role, player in self._players().items()
        }
        return players | {
            "average": {} if self.average is None else dict(self.average.state_dict()),
            "discriminator_average": (
                {} if self.discriminator_average is None else dict(self.discriminator_average.state_dict())
            ),
            "augmentation": {} if self.game.augmentation is None else dict(self.game.augmentation.state_dict()),
            "meters": {"sums": dict(self.meters.sums), "steps": self.meters.steps, "seconds": self.meters.seconds},
            "step": self.step,
            "seconds": self.seconds,
            "goal": None if self.goal is None else self.goal.model_dump(),
            "compiled": self.compiled,
            "processes": dict(self.processes),
            "best": {"step": self.best_step, "figure": self.best_figure if self.best_step else None},
        }

    def restore(self, tree: Tree) -> None:
        """Become the state that `tree` described. Raises RuntimeError or ValueError when it does not fit."""
        for role, player in self._players().items():
            player.network.load_state_dict(tree[role]["network"])
            player.optimizer.load_state_dict(tree[role]["optimizer"])
            for group in player.optimizer.param_groups:
                if "capturable" in group:  # of the device it was saved on
                    group["capturable"] = any(parameter.is_cuda for parameter in group["params"])
            for name, memory in player.memories.items():
                memory.load_state_dict(tree[role]["memories"][name])
        if self.average is not None:
            self.average.load_state_dict(tree["average"])
        if self.discriminator_average is not None:
            self.discriminator_average.load_state_dict(tree["discriminator_average"])
        if self.game.augmentation is not None:
            self.game.augmentation.load_state_dict(tree["augmentation"])
        meters = tree["meters"]
        self.meters = Meters(meters["sums"], meters["steps"], meters["seconds"])
        self.step, self.seconds = tree["step"], tree["seconds"]
        self.goal = Goal.model_validate(tree["goal"]) if tree.get("goal") else None
        self.compiled = tree.get("compiled", False)  # before there was a choice, nothing was
        self.processes = dict(tree.get("processes", {}))
        self.best_step = tree["best"]["step"]
        self.best_figure = tree["best"]["figure"] if self.best_step else float("inf")

    def _players(self) -> dict[str, Player]:
        return {"generator": self.game.generator, "discriminator": self.game.discriminator}

    def _averages(self) -> list[tuple[AveragedModel, Player]]:
        kept = ((self.average, self.game.generator), (self.discriminator_average, self.game.discriminator))
        return [(average, player) for average, player in kept if average is not None]


def new_state(
    recipe: Recipe, image_shape: tuple[int, int, int], num_classes: int, device: torch.device
) -> TrainingState:
    """Freshly initialized players. Each draws its weights from its own stream: changing one leaves the other alone."""
    stream = Stream(recipe.seed).child("initialization")
    generator = _initialized(
        lambda: recipe.generator.build(recipe.latents.dim, image_shape, num_classes), stream.child("generator"), device
    )
    discriminator = _initialized(
        lambda: _discriminator(recipe, image_shape, num_classes), stream.child("discriminator"), device
    )
    rules = recipe.optimizers
    remembering = [rule for rule in recipe.regularizers if isinstance(rule, ParameterPenalty)]
    game = Game(
        generator=Player(
            generator,
            fixed_at(rules.generator, BEGINNING).build(generator.parameters()),
            recipe.generator.takes,
            memories={rule.name: rule.memory(generator) for rule in remembering},
        ),
        discriminator=Player(
            discriminator,
            fixed_at(rules.discriminator, BEGINNING).build(discriminator.parameters()),
            recipe.discriminator.takes,
            recipe.discriminator.judges_alone,
            {rule.name: rule.memory(discriminator) for rule in remembering},
        ),
        objective=recipe.objective,
        regularizers=tuple(fixed_at(rule, BEGINNING) for rule in recipe.regularizers),
        latents=recipe.latents,
        augmentation=None if recipe.augmentation is None else recipe.augmentation.build().to(device),
        fast=recipe.fast,
        dtype=compute_dtype(recipe.precision, device),
        pieces=recipe.accumulation_steps,
    )
    images_per_step = recipe.batch_size * recipe.play.discriminator_steps
    return TrainingState(
        game,
        _average(generator, recipe.average, images_per_step),
        _average(discriminator, recipe.discriminator_average, images_per_step),
    )


def _average(network: nn.Module, kept: Average | None, images_per_step: int) -> AveragedModel | None:
    return None if kept is None else averaged(network, kept.half_life_at(BEGINNING), images_per_step)


def _discriminator(recipe: Recipe, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    network = recipe.discriminator.build(image_shape, num_classes)
    for rule in recipe.regularizers:
        if isinstance(rule, Reparametrization):
            rule.attach(network)
    return network


def prepare(state: TrainingState, recipe: Recipe, batches: BatchSupply) -> None:
    """Show each network that asks for it typical inputs: latents to G, real images to D. Once, before training."""
    stream = Stream(recipe.seed).child("preparation")
    like = batches.some(1, stream).images
    for role, player in state._players().items():
        network, place = player.network, stream.child(role)
        if isinstance(network, NeedsPreparation):
            n = network.preparation_size
            is_generator = player is state.game.generator
            inputs = recipe.latents.draw(n, place, like) if is_generator else batches.some(n, place).images
            with torch.random.fork_rng(devices=[]):
                place.child("layers").seed_torch()
                network.prepare(inputs)
            for rule in recipe.regularizers:
                if isinstance(rule, ParameterPenalty):  # the past begins with the prepared network
                    player.memories[rule.name] = rule.memory(network)


def _initialized(build: Any, stream: Stream, device: torch.device) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        stream.seed_torch()
        module: nn.Module = build()
    return module.to(device)
