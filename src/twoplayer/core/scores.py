"""What is worth knowing about two verdicts: the parts of D's loss and the scores in [0, 1], where they exist."""

from __future__ import annotations

from torch import Tensor

from twoplayer.core.protocols import Objective, Probabilistic, SeparableObjective
from twoplayer.core.verdict import Verdict


def verdict_report(objective: Objective, on_real: Verdict, on_fake: Verdict) -> dict[str, Tensor]:
    """Scalars by their name in the metrics log.

    Generator score: mean D(fake). Discriminator score: (mean D(real) + mean(1 - D(fake))) / 2. Source: the reading
    list's system on flower photographs.
    """
    report: dict[str, Tensor] = {}
    if isinstance(objective, SeparableObjective):
        report["loss/real"] = objective.real_loss(on_real).mean()
        report["loss/fake"] = objective.fake_loss(on_fake).mean()
    if isinstance(objective, Probabilistic):
        believed = objective.probability(on_fake).mean()
        report["score/generator"] = believed
        report["score/discriminator"] = (objective.probability(on_real).mean() + 1.0 - believed) / 2.0
    return report
