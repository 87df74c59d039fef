"""One update of each player, as the papers write it.

This is the only place that reduces losses and touches optimizers. Objectives and penalties return one number per
image; here their means are added, differentiated for one player's parameters, and applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoplayer.core.augmentation import Augmented
from twoplayer.core.batch import Batch
from twoplayer.core.conditioned import conditioned
from twoplayer.core.protocols import (
    ClassLoss,
    DiscriminatorPenalty,
    Given,
    Latents,
    Objective,
    ParameterPenalty,
    Projection,
    Regularizer,
    SlopePenalty,
    Supervised,
)
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.core.scores import verdict_report
from twoplayer.core.verdict import Verdict
from twoplayer.training.program import Programs

Report = dict[str, Tensor]
"""Scalars of one step by their name in the metrics log, detached, on the device."""


@dataclass(frozen=True)
class Player:
    """A network and what updates it.

    Attributes:
        takes: what the network has to be told of a batch, beside images or latents.
        judges_alone: D may be shown several batches in one pass.
        memories: what regularizers remember of its parameters, by their name.
    """

    network: nn.Module
    optimizer: Optimizer
    takes: tuple[Given, ...] = ()
    judges_alone: bool = False
    memories: dict[str, nn.Module] = field(default_factory=dict)

    def told(self, batch: Batch) -> nn.Module:
        """The network with a batch's labels and conditions filled in."""
        return conditioned(self.network, batch.given(self.takes))

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def forget_gradients(self) -> None:
        """Before others are found."""
        for parameter in self.parameters():
            parameter.grad = None

    def differentiate(self, loss: Tensor, *, keep_graph: bool = False) -> None:
        """Gradients of a scalar for this player's parameters only; nothing reaches the other player."""
        self.forget_gradients()
        torch.autograd.backward(loss, inputs=self.parameters(), retain_graph=keep_graph)


@dataclass(frozen=True)
class Game:
    """Two players and the rules between them.

    Attributes:
        augmentation: changes all images that D sees, if anything does.
        fast: play through chains of layers where the players allow it (see `fast.py`).
        dtype: what layers compute in, if not their own dtype (see `core/precision.py`).
        programs: compiled moves, where they are to be compiled.
        ranks: the processes that play it together, each with its share of the batch.
        pieces: in how many each plays its share, one after another (see `accumulation.py`).
    """

    generator: Player
    discriminator: Player
    objective: Objective
    regularizers: tuple[Regularizer, ...]
    latents: Latents
    augmentation: nn.Module | None = None
    fast: bool = True
    dtype: torch.dtype | None = None
    programs: Programs | None = None
    ranks: Ranks = ALONE
    pieces: int = 1

    @cached_property
    def penalties(self) -> list[DiscriminatorPenalty]:
        """The regularizers that add to D's loss."""
        return [rule for rule in self.regularizers if isinstance(rule, DiscriminatorPenalty)]

    @cached_property
    def supervised(self) -> bool:
        """Whether the objective learns from labels too."""
        return isinstance(self.objective, Supervised)

    @cached_property
    def slope_penalties(self) -> list[SlopePenalty]:
        """Those among them that look at D's slope alone."""
        return [rule for rule in self.penalties if isinstance(rule, SlopePenalty)]

    @cached_property
    def class_losses(self) -> list[ClassLoss]:
        """The regularizers that add to both players' losses what D's naming of classes costs."""
        return [rule for rule in self.regularizers if isinstance(rule, ClassLoss)]

    @cached_property
    def projections(self) -> list[Projection]:
        """The regularizers that put D back into an allowed set."""
        return [rule for rule in self.regularizers if isinstance(rule, Projection)]

    @cached_property
    def parameter_penalties(self) -> list[ParameterPenalty]:
        """The regularizers that add to both players' losses."""
        return [rule for rule in self.regularizers if isinstance(rule, ParameterPenalty)]

    def average(self, player: Player) -> None:
        """One exchange before a player moves: its gradients, and the running statistics that passes have changed."""
        if self.ranks.count > 1:
            gradients = [parameter.grad for parameter in player.parameters() if parameter.grad is not None]
            networks = (self.generator.network, self.discriminator.network)
            buffers = [value for network in networks for value in network.buffers() if value.is_floating_point()]
            self.ranks.mean_([*gradients, *buffers])

    def draw_fakes(self, real: Batch, stream: Stream) -> Tensor:
        """As many fresh fakes [N, C, H, W], of the same labels and conditions, with a graph to G's parameters."""
        z = self.latents.draw(len(real.images), stream.child("latents"), real.images)
        with self.computing(real):
            fakes: Tensor = self.generator.told(real)(z)
        return fakes.to(real.images.dtype)

    def computing(self, real: Batch) -> AbstractContextManager[Any]:
        """Inside, layers compute in the game's dtype."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(real.images.device.type, self.dtype)

    def shown(self, images: Tensor, stream: Stream) -> Tensor:
        """What D is to see of images [N, C, H, W], with a graph to them."""
        if self.augmentation is None:
            return images
        changed: Tensor = self.augmentation(images, stream.child("augmentation"))
        return changed

    def told_judge(self, real: Batch, stream: Stream) -> nn.Module:
        """D with a batch's labels and conditions filled in, and all images that it is given changed before."""
        judge = self.discriminator.told(real)
        if self.augmentation is None:
            return judge
        return Augmented(judge, self.augmentation, stream.child("augmentation"))

    def judge(self, real: Batch, *batches: Tensor) -> list[Verdict]:
        """D's verdicts on batches of as many images as `real`, of its labels and conditions."""
        with self.computing(real):
            if self.discriminator.judges_alone:
                given = real.given(self.discriminator.takes)
                told = conditioned(
                    self.discriminator.network, {k: torch.cat([v] * len(batches)) for k, v in given.items()}
                )
                joined: Verdict = told(torch.cat(batches))
                return joined.to(real.images.dtype).split([len(images) for images in batches])
            judge = self.discriminator.told(real)
            return [judge(images).to(real.images.dtype) for images in batches]


class Moves(Protocol):
    """What is differentiated in a step; the gradients stand at the parameters then.

    Each move names its own place in the random stream.
    """

    def simultaneous(self, real: Batch, stream: Stream) -> Report:
        """Both players' gradients at the same parameters, from one fake batch."""

    def discriminator(self, real: Batch, stream: Stream) -> tuple[Verdict, Report]:
        """D's gradients on fresh fakes; what it said of the reals, and the report."""

    def generator(self, real: Batch, before: Verdict, stream: Stream) -> Report:
        """G's gradients against D as it is now; `before`: what D said of the reals before its last update."""


def discriminator_loss(game: Game, real: Batch, fake: Tensor, stream: Stream) -> tuple[Tensor, list[Verdict], Report]:
    """D's scalar loss with its penalties, its verdicts on reals and fakes, and what is worth logging about it."""
    objective = game.objective.at(stream.child("objective"))
    labeled = real.labeled if isinstance(objective, Supervised) else None
    shown = [game.shown(real.images, stream.child("real")), game.shown(fake, stream.child("fake"))]
    if labeled is not None:
        shown.append(game.shown(labeled.images, stream.child("labeled")))
    on_real, on_fake, *on_labeled = game.judge(real, *shown)
    loss = objective.discriminator_loss(on_real, on_fake).mean()
    report: Report = {}
    if isinstance(objective, Supervised) and labeled is not None:
        assert labeled.labels is not None
        cost = objective.labeled_loss(on_labeled[0], labeled.labels).mean()
        report["loss/labeled"] = cost.detach()
        loss = loss + cost
    for rule in game.class_losses:
        cost = rule.discriminator_class_loss(on_real, on_fake, labels_of(real)).mean()
        report[f"penalty/{rule.name}/discriminator"] = cost.detach()
        loss = loss + cost
    for penalty in game.penalties:
        place = stream.child("penalty", penalty.name)
        judge = game.told_judge(real, place)
        with game.computing(real):
            cost = penalty.discriminator_penalty(judge, real, fake.detach(), place).mean()
        report[f"penalty/{penalty.name}"] = cost.detach()
        loss = loss + cost
    loss = loss + parameter_penalties(game, game.discriminator, "discriminator", report)
    report["loss/discriminator"] = loss.detach()
    with torch.no_grad():
        report.update(verdict_report(objective, on_real, on_fake))
    return loss, [on_real, on_fake], report


def generator_loss(game: Game, real: Batch, on_real: Verdict, on_fake: Verdict) -> tuple[Tensor, Report]:
    """G's scalar loss and its entry in the log. `real`: the batch whose labels its fakes have."""
    report: Report = {}
    loss = game.objective.generator_loss(on_real, on_fake).mean()
    for rule in game.class_losses:
        cost = rule.generator_class_loss(on_fake, labels_of(real)).mean()
        report[f"penalty/{rule.name}/generator"] = cost.detach()
        loss = loss + cost
    loss = loss + parameter_penalties(game, game.generator, "generator", report)
    return loss, report | {"loss/generator": loss.detach()}


def labels_of(real: Batch) -> Tensor:
    """The labels of a batch that has them: int64 [N]."""
    assert real.labels is not None, "classes can be named of labeled images only"
    return real.labels


def parameter_penalties(game: Game, player: Player, role: str, report: Report) -> Tensor | float:
    """The sum of what a player pays for its parameters; each part goes into the report."""
    total: Tensor | float = 0.0
    for rule in game.parameter_penalties:
        cost = rule.parameter_penalty(player.network, player.memories[rule.name])
        report[f"penalty/{rule.name}/{role}"] = cost.detach()
        total = total + cost
    return total


def update_discriminator(game: Game) -> None:
    """Apply D's gradients, then put it back into its allowed set."""
    game.average(game.discriminator)
    game.discriminator.optimizer.step()
    for rule in game.projections:
        rule.project(game.discriminator.network)
    _remember(game, game.discriminator)


def update_generator(game: Game) -> None:
    """Apply G's gradients."""
    game.average(game.generator)
    game.generator.optimizer.step()
    _remember(game, game.generator)


def _remember(game: Game, player: Player) -> None:
    for rule in game.parameter_penalties:
        rule.update(player.network, player.memories[rule.name])


def are_finite(tensors: list[Tensor]) -> bool:
    """False where there is a NaN or an infinity, or where finite numbers overflow a square."""
    return bool(torch.nn.utils.get_total_norm(tensors).isfinite())


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, or None.

    Tensors are looked at one by one only when that is needed.
    """
    named = list(named)
    if are_finite([tensor for _, tensor in named]):
        return None
    return next((name for name, tensor in named if not tensor.isfinite().all()), None)
