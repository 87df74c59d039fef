"""What is worth knowing about two verdicts: the parts of D's loss and the scores in [0, 1], where they exist."""

from __future__ import annotations

from functools import cache
from typing import cast

from torch import Tensor

from twoplayer.core.protocols import Objective, Probabilistic, SeparableObjective
from twoplayer.core.verdict import Verdict


def verdict_report(objective: Objective, on_real: Verdict, on_fake: Verdict) -> dict[str, Tensor]:
    """Scalars by their name in the metrics log.

    Generator score: mean D(fake). Discriminator score: (mean D(real) + mean(1 - D(fake))) / 2. Source: the reading
    list's system on flower photographs.
    """
    report: dict[str, Tensor] = {}
    separable, probabilistic = _kinds(type(objective))
    if separable:
        parts = cast(SeparableObjective, objective)
        report["loss/real"] = parts.real_loss(on_real).mean()
        report["loss/fake"] = parts.fake_loss(on_fake).mean()
    if probabilistic:
        believer = cast(Probabilistic, objective)
        believed = believer.probability(on_fake).mean()
        report["score/generator"] = believed
        report["score/discriminator"] = (believer.probability(on_real).mean() + 1.0 - believed) / 2.0
    return report


@cache
def _kinds(kind: type) -> tuple[bool, bool]:
    """Whether D's loss has parts, and D a probability; asking a protocol takes long."""
    return issubclass(kind, SeparableObjective), issubclass(kind, Probabilistic)
