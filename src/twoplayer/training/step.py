"""One update of each player, as the papers write it.

This is the only place that reduces losses and touches optimizers. Objectives and penalties return one number per
image; here their means are added, differentiated for one player's parameters, and applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twoplayer.core.batch import Batch
from twoplayer.core.protocols import (
    DiscriminatorPenalty,
    Latents,
    Objective,
    Probabilistic,
    Projection,
    Regularizer,
    SeparableObjective,
)
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict

Report = dict[str, Tensor]
"""Scalars of one step by their name in the metrics log, detached, on the device."""


@dataclass(frozen=True)
class Player:
    """A network and what updates it."""

    network: nn.Module
    optimizer: Optimizer

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def differentiate(self, loss: Tensor, *, keep_graph: bool = False) -> None:
        """Gradients of a scalar for this player's parameters only; nothing reaches the other player."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=self.parameters(), retain_graph=keep_graph)


@dataclass(frozen=True)
class Game:
    """Two players and the rules between them."""

    generator: Player
    discriminator: Player
    objective: Objective
    regularizers: tuple[Regularizer, ...]
    latents: Latents

    @property
    def penalties(self) -> list[DiscriminatorPenalty]:
        """The regularizers that add to D's loss."""
        return [rule for rule in self.regularizers if isinstance(rule, DiscriminatorPenalty)]

    def draw_fakes(self, n: int, stream: Stream, like: Tensor) -> Tensor:
        """n fresh fakes [n, C, H, W] with a graph to G's parameters."""
        fakes: Tensor = self.generator.network(self.latents.draw(n, stream.child("latents"), like))
        return fakes


def discriminator_loss(
    game: Game, on_real: Verdict, on_fake: Verdict, real: Batch, fake: Tensor, stream: Stream
) -> tuple[Tensor, Report]:
    """D's scalar loss with its penalties, and what is worth logging about it."""
    loss = game.objective.discriminator_loss(on_real, on_fake).mean()
    report: Report = {}
    for penalty in game.penalties:
        cost = penalty.discriminator_penalty(
            game.discriminator.network, real, fake.detach(), stream.child("penalty", penalty.name)
        ).mean()
        report[f"penalty/{penalty.name}"] = cost.detach()
        loss = loss + cost
    report["loss/discriminator"] = loss.detach()
    with torch.no_grad():
        report.update(_verdict_report(game.objective, on_real, on_fake))
    return loss, report


def generator_loss(game: Game, on_real: Verdict, on_fake: Verdict) -> tuple[Tensor, Report]:
    """G's scalar loss and its entry in the log."""
    loss = game.objective.generator_loss(on_real, on_fake).mean()
    return loss, {"loss/generator": loss.detach()}


def update_discriminator(game: Game) -> None:
    """Apply D's gradients, then put it back into its allowed set."""
    game.discriminator.optimizer.step()
    for rule in game.regularizers:
        if isinstance(rule, Projection):
            rule.project(game.discriminator.network)


def update_generator(game: Game) -> None:
    """Apply G's gradients."""
    game.generator.optimizer.step()


def _verdict_report(objective: Objective, on_real: Verdict, on_fake: Verdict) -> Report:
    """Parts of D's loss where they exist, and the scores in [0, 1] where D has a probability.

    Generator score: mean D(fake). Discriminator score: (mean D(real) + mean(1 - D(fake))) / 2. Source: the reading
    list's system on flower photographs.
    """
    report: Report = {}
    if isinstance(objective, SeparableObjective):
        report["loss/real"] = objective.real_loss(on_real).mean()
        report["loss/fake"] = objective.fake_loss(on_fake).mean()
    if isinstance(objective, Probabilistic):
        believed = objective.probability(on_fake).mean()
        report["score/generator"] = believed
        report["score/discriminator"] = (objective.probability(on_real).mean() + 1.0 - believed) / 2.0
    return report


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, or None.

    The largest absolute value of everything is taken in one fused pass; only when that is not finite are the tensors
    looked at one by one.
    """
    named = list(named)
    if torch.nn.utils.get_total_norm([tensor for _, tensor in named], norm_type=float("inf")).isfinite():
        return None
    return next(name for name, tensor in named if not tensor.isfinite().all())
