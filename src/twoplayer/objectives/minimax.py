"""The original adversarial game, cross-entropy on real against fake, with both generator losses and softened targets.

Source: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1 and the remark below it. With D = sigmoid
of the logit, D minimizes -log D(x) - log(1 - D(G(z))). G minimizes -log D(G(z)) (non-saturating, the usual choice) or
log(1 - D(G(z))) (saturating, the game as written). Computed from logits, so that nothing overflows.

Smoothing: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.4. Only the target of reals is lowered
(one-sided). With `fake_target` above 0 too (two-sided) the optimal D is
(real_target p_data + fake_target p_model) / (p_data + p_model): where p_data is near zero, p_model in the numerator
leaves wrong fakes no reason to move. Flipping is from the reading list's system on flower photographs.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict

Target = Annotated[float, Field(ge=0.0, le=2.0)]
Range = Annotated[tuple[Target, Target], Field(strict=False)]


class CrossEntropyGame(SeparableObjective):
    """D's side of the minimax game, shared by the games that leave it as it is.

    Attributes:
        real_target: what D is asked to say of reals; a pair draws it between the two for each image.
        fake_target: what D is asked to say of fakes.
        flip_probability: probability that D is told that a real image is a fake; G's loss and the scores know nothing
            of it.
    """

    real_target: Target | Range = 1.0
    fake_target: Target = 0.0
    flip_probability: float = Field(0.0, ge=0.0, le=1.0)
    _stream: Stream | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if isinstance(self.real_target, tuple) and self.real_target[0] > self.real_target[1]:
            raise ValueError(f"real_target={list(self.real_target)} has to begin with the smaller number")
        return self

    def at(self, stream: Stream) -> Self:
        """The game with the targets and flips that the stream draws: the same each time it is asked."""
        if not (self.flip_probability or isinstance(self.real_target, tuple)):
            return self
        chosen = self.model_copy()
        chosen._stream = stream.child("targets")
        return chosen

    def real_loss(self, real: Verdict) -> Tensor:
        """Cross-entropy of D(x) to the targets of reals, [N]; -log D(x) where they are 1."""
        return cross_entropy(real.logits, self.real_targets(real.logits))

    def fake_loss(self, fake: Verdict) -> Tensor:
        """Cross-entropy of D(G(z)) to the target of fakes, [N]; -log(1 - D(G(z))) where it is 0."""
        return cross_entropy(fake.logits, self.fake_target)

    def probability(self, verdict: Verdict) -> Tensor:
        """D's probability that each image is real, [N]."""
        return verdict.logits.sigmoid()

    def real_targets(self, like: Tensor) -> Tensor | float:
        """What D is asked to say of N reals, [N] where it differs between them.

        Raises ValueError when the targets are random and no stream was named with `at`.
        """
        low, high = self.real_target if isinstance(self.real_target, tuple) else (self.real_target, self.real_target)
        if low == high and not self.flip_probability:
            return low
        if self._stream is None:
            raise ValueError("random targets need a stream: objective.at(stream).discriminator_loss(...)")
        targets = self._stream.child("range").uniform((len(like),), low, high, like=like)
        flipped = self._stream.child("flip").uniform((len(like),), like=like) < self.flip_probability
        return torch.where(flipped, self.fake_target, targets)


class Minimax(CrossEntropyGame):
    """The minimax game.

    Attributes:
        generator_objective: "non-saturating" or "saturating".
    """

    name: Literal["minimax"] = "minimax"
    generator_objective: Literal["non-saturating", "saturating"] = "non-saturating"

    @property
    def zero_sum(self) -> bool:
        return self.generator_objective == "saturating" and self.fake_target == 0.0

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        if self.generator_objective == "saturating":
            return -F.softplus(fake.logits)
        return F.softplus(-fake.logits)


def cross_entropy(logits: Tensor, target: Tensor | float) -> Tensor:
    """-t log D - (1 - t) log(1 - D) for D = sigmoid(logit), [N]."""
    if isinstance(target, float | int) and target == 1:
        return F.softplus(-logits)
    return F.softplus(logits) - target * logits
