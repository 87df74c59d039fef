"""The step through chains of layers: the same updates as the plain moves of `play.py`, with less work.

Everything that D judges in an update - reals, fakes, the images at which its slope is penalized - goes through it as
one batch, each part with batch statistics of its own; one way down gives the slopes and, where G's loss is minus D's,
the fakes' derivative for G as well; the penalties cost one pass up of their directions, and one product per layer gives
the gradients of the loss and of all penalties together (see `ops/chains`). No graph is kept for a second derivative.

What dropout draws is distributed as in the plain step, but drawn in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.protocols import SlopePenalty
from twoplayer.core.rng import Stream
from twoplayer.core.scores import verdict_report
from twoplayer.core.verdict import Verdict
from twoplayer.ops.chains.chain import Chain, chain_through
from twoplayer.ops.chains.link import Part, Rows, Setting
from twoplayer.training.seen import Seen
from twoplayer.training.step import (
    Game,
    Player,
    Report,
    parameter_penalties,
)


class Fast:
    """The moves of a game whose D is a chain, for one step.

    Args:
        game: the players.
        chain: D's, for the first move.
    """

    def __init__(self, game: Game, chain: Chain) -> None:
        self.game = game
        self.first: Chain | None = chain

    def chain(self) -> Chain:
        """D's chain at its present parameters, for one pass."""
        chain, self.first = self.first or chain_through(self.game.discriminator.network, Setting(self.game.dtype)), None
        assert chain is not None, "it was one a moment ago"
        return chain

    def simultaneous(self, real: Batch, stream: Stream) -> Report:
        """Both gradients at the same parameters, from one fake batch."""
        game, chain, fakes = self.game, self.chain(), Fakes(self.game, real, stream)
        judged = differentiate_discriminator(game, chain, real, fakes.images, stream, both=True)
        return judged.report | differentiate_generator(game, chain, judged, fakes)

    def discriminator(self, real: Batch, stream: Stream) -> tuple[Verdict, Report]:
        """D's gradients on fresh fakes; what it said of the reals, and the report."""
        game, chain, fakes = self.game, self.chain(), Fakes(self.game, real, stream)
        judged = differentiate_discriminator(game, chain, real, fakes.images, stream, both=False)
        return judged.on_real.detach(), judged.report

    def generator(self, real: Batch, before: Verdict, stream: Stream) -> Report:
        """G's gradients against D as it is now."""
        game, chain, fakes = self.game, self.chain(), Fakes(self.game, real, stream)
        seen = Seen(game, fakes.images, stream.child("fake"))
        shown = [game.shown(real.images, stream.child("real"))] if game.objective.generator_judges_real else []
        training = game.discriminator.network.training
        verdicts = judge(chain, [(images, Part(len(images), training)) for images in (*shown, seen.images)])
        judged = Judged(verdicts[0] if shown else before, verdicts[-1], seen, len(shown) * len(real.images))
        return differentiate_generator(game, chain, judged, fakes)


def fast_moves(game: Game) -> Fast | None:
    """None where D is no chain, or its objective or a penalty looks at it in a way that a chain cannot answer, such as
    the classes it names."""
    slopes = game.slope_penalties
    if game.discriminator.takes or game.supervised or game.class_losses or len(slopes) < len(game.penalties):
        return None
    chain = chain_through(game.discriminator.network, Setting(game.dtype))
    if chain is None:
        return None
    coupled = chain.couples and game.discriminator.network.training
    return None if coupled and not all(rule.inference_mode for rule in slopes) else Fast(game, chain)


class Fakes:
    """Fresh fakes, and the way back through G: through its chain where it is one, else by autograd.

    Attributes:
        images: [N, C, H, W], without a graph.
    """

    def __init__(self, game: Game, real: Batch, stream: Stream) -> None:
        self.player = game.generator
        self.chain = None if self.player.takes else chain_through(self.player.network, Setting(game.dtype))
        if self.chain is None:
            self.graph = game.draw_fakes(real, stream)
            self.images = self.graph.detach()
            return
        z = game.latents.draw(len(real.images), stream.child("latents"), real.images)
        with torch.no_grad():
            images = self.chain.forward(z, Rows((Part(len(z), self.player.network.training),)))
            self.images = images.to(real.images.dtype)

    def differentiate(self, delta: Tensor) -> None:
        """G's gradients, of a loss whose derivative with respect to the images is `delta`."""
        self.player.forget_gradients()
        if self.chain is None:
            torch.autograd.backward(self.graph, delta, inputs=self.player.parameters())
            return
        with torch.no_grad():
            self.chain.transpose(delta, len(delta))
        take(self.player, self.chain)


@dataclass(frozen=True)
class Judged:
    """What D said of a batch of reals and one of fakes.

    Attributes:
        on_real: its verdict on the reals.
        on_fake: its verdict on the fakes; leaves.
        seen: the fakes as it saw them; None where G does not learn from this pass.
        start: at which image of D's last pass the fakes begin.
        report: what is worth logging.
        image_delta: the derivative of G's loss with respect to what D saw of the fakes, where it is minus that of D's.
        image_slope: the derivative of their logits with respect to the same, where images are not coupled.
    """

    on_real: Verdict
    on_fake: Verdict
    seen: Seen | None
    start: int
    report: Report = field(default_factory=dict)
    image_delta: Tensor | None = None
    image_slope: Tensor | None = None


def differentiate_discriminator(
    game: Game, chain: Chain, real: Batch, fake: Tensor, stream: Stream, *, both: bool
) -> Judged:
    """D's gradients, of its loss and all penalties; see `discriminator_loss` for the plain way.

    Args:
        game: the players.
        chain: D's.
        real: the reals.
        fake: as many fakes.
        stream: for whatever is random.
        both: G learns from the same pass, so that the derivative with respect to the fakes is asked for.
    """
    player, n, rules = game.discriminator, len(fake), game.slope_penalties
    training = player.network.training
    seen = Seen(game, fake, stream.child("fake")) if both else None
    as_seen = game.shown(fake, stream.child("fake")) if seen is None else seen.images
    shown = [(game.shown(real.images, stream.child("real")), Part(n, training)), (as_seen, Part(n, training))]
    sloped = []
    for rule in rules:
        draws = stream.child("penalty", rule.name)
        at = Seen(game, rule.places(real, fake, draws), draws)
        sloped.append(at)
        shown.append((at.images, Part(len(at.images), training and not rule.inference_mode, sloped=True)))
    on_real, on_fake, *at_places = judge(chain, shown)

    objective = game.objective.at(stream.child("objective"))
    loss = objective.discriminator_loss(on_real, on_fake).mean()
    logits, features = derivatives(loss, [on_real, on_fake], chain)
    seeds = torch.cat([logits, *(torch.ones_like(each.logits) for each in at_places)])
    fakes, opposed = slice(n, 2 * n), both and game.objective.zero_sum
    alone = both and not opposed and not chain.couples and features is None
    if alone:  # of their slopes D's and G's deltas are multiples, image by image
        seeds[fakes] = 1.0
    deltas = chain.transpose(seeds, n if opposed or alone else 2 * n, features)
    if alone:
        chain.rescale(fakes, logits[fakes].to(deltas.dtype))
    by_fakes, by_places = deltas[: len(deltas) - len(seeds) + 2 * n], deltas[len(deltas) - len(seeds) + 2 * n :]
    costs, directions = penalties_of(rules, sloped, by_places.split([len(at.images) for at in sloped]))
    if directions:
        chain.tangent(torch.cat(directions))
    player.forget_gradients()
    take(player, chain)

    report: Report = {f"penalty/{rule.name}": cost for rule, cost in zip(rules, costs, strict=True)}
    owed = differentiate_parameter_penalties(game, player, "discriminator", report)
    report["loss/discriminator"] = loss.detach() + sum(costs) + owed
    with torch.no_grad():
        report.update(verdict_report(objective, on_real, on_fake))
    return Judged(on_real, on_fake, seen, n, report, -by_fakes if opposed else None, by_fakes if alone else None)


def differentiate_generator(game: Game, chain: Chain, judged: Judged, fakes: Fakes) -> Report:
    """G's gradients, and its entry in the log."""
    loss = game.objective.generator_loss(judged.on_real.detach(), judged.on_fake).mean()
    delta = judged.image_delta
    if delta is None:
        logits, features = derivatives(loss, [judged.on_fake], chain)
        if judged.image_slope is not None and features is None:
            delta = judged.image_slope * logits.to(judged.image_slope.dtype).view(-1, 1, 1, 1)
        else:
            delta = chain.adjoint(logits, judged.start, features)
    assert judged.seen is not None
    fakes.differentiate(judged.seen.back(delta))
    report: Report = {}
    owed = differentiate_parameter_penalties(game, game.generator, "generator", report)
    return report | {"loss/generator": loss.detach() + owed}


def differentiate_parameter_penalties(game: Game, player: Player, role: str, report: Report) -> Tensor | float:
    """What a player pays for its parameters; its gradient is added to what is there."""
    owed = parameter_penalties(game, player, role, report)
    if not isinstance(owed, Tensor):
        return owed
    torch.autograd.backward(owed, inputs=player.parameters())
    return owed.detach()


def judge(chain: Chain, shown: list[tuple[Tensor, Part]]) -> list[Verdict]:
    """D's verdicts on several batches in one pass, as leaves. Features stand in the order of their memory."""
    rows = Rows(tuple(part for _, part in shown))
    answer = chain.forward(torch.cat([images for images, _ in shown]), rows)
    features = chain.features
    if features.ndim == 4:
        features = features.permute(0, 2, 3, 1)
    return [
        Verdict(wide(answer[part].flatten()).requires_grad_(), wide(features[part].flatten(1)).requires_grad_())
        for part in rows.slices
    ]


def derivatives(loss: Tensor, verdicts: list[Verdict], chain: Chain) -> tuple[Tensor, Tensor | None]:
    """Of a loss with respect to logits [N] and, where it reads them, features, in the chain's shape of them."""
    leaves = [each.logits for each in verdicts] + [each.features for each in verdicts if each.features is not None]
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    whole = [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]
    n = len(verdicts)
    logits = torch.cat(whole[:n])
    if all(each is None for each in found[n:]):
        return logits, None
    features = torch.cat(whole[n:])
    if chain.features.ndim == 4:
        channels, *size = chain.features.shape[1:]
        features = features.unflatten(1, (*size, channels)).permute(0, 3, 1, 2)
    return logits, features


def penalties_of(
    rules: list[SlopePenalty], sloped: list[Seen], slopes: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What each penalty costs, and the derivative of that with respect to the slopes at what D saw."""
    costs, directions = [], []
    for rule, seen, slope in zip(rules, sloped, slopes, strict=True):
        leaf = wide(slope).requires_grad_()
        cost = rule.of_slope(seen.back(leaf)).mean()
        directions.append(torch.autograd.grad(cost, leaf)[0])
        costs.append(cost.detach())
    return costs, directions


def take(player: Player, chain: Chain) -> None:
    """Add what a chain found to the gradients of the player's parameters, in their own dtype and layout."""
    learned = set(player.parameters())
    with torch.no_grad():
        for parameter, gradient in chain.gradients():
            if parameter in learned:
                added = torch.empty_like(parameter).copy_(gradient)
                parameter.grad = added if parameter.grad is None else parameter.grad + added


def wide(values: Tensor) -> Tensor:
    """Without a graph, and in float32 where the chain computes in less."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))
