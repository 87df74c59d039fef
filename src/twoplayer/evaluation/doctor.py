"""What is going wrong in a training, in words, read from the figures in its log.

Sources: the reading list's companion page on failure modes of GANs (scores near 0.5 are the ideal; D at 1 and G at 0,
or G at 1, is a failure; collapse shows in the samples); Goodfellow et al. 2014 (the saturating loss and its vanishing
gradient), Arjovsky and Bottou 2017, https://arxiv.org/abs/1701.04862; Karras et al. 2020,
https://arxiv.org/abs/2006.06676 (overfitting: D's logits on training and on held-out images drift apart). The limits
are our own, set on runs that were made to fail; docs/doctor.md shows how well they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twoplayer.evaluation import game_checks, picture_checks
from twoplayer.evaluation.findings import LEAST_ROWS, Finding, Rows

DOMINANCE = (game_checks.discriminator_dominates, game_checks.generator_dominates)
OTHERS: tuple[Callable[[Rows], Finding | None], ...] = (
    game_checks.divergence,
    game_checks.drift,
    game_checks.gradient,
    picture_checks.overfitting,
    picture_checks.memorization,
    picture_checks.mode_collapse,
    picture_checks.unlike,
    game_checks.oscillation,
)
"""Of two that are equally sure the one nearer to the cause comes first."""

NO_FIGURES: Mapping[str, Any] = {}


def diagnose(rows: Rows, figures: Mapping[str, Any] = NO_FIGURES, *, generator_fools: bool = True) -> list[Finding]:
    """What goes wrong at the end of a log, causes before symptoms and the surest first; empty when nothing does.

    Args:
        rows: lines of metrics.jsonl.
        figures: of `twoplayer evaluate`, where there are any: they say which classes are missing.
        generator_fools: as the run's objective says; else it does not matter who dominates.
    """
    if len(rows) < LEAST_ROWS:
        return []
    checks = DOMINANCE + OTHERS if generator_fools else OTHERS
    found = [finding for check in checks if (finding := check(rows)) is not None]
    for figure in figures.values():
        if "real_shares" in figure:
            found = picture_checks.missing_classes(
                found, figure["shares"], figure["real_shares"], int(rows[-1]["step"])
            )
    return sorted(found, key=lambda finding: (finding.symptom, -finding.sure))


def remarks(*, generator_fools: bool = True) -> Callable[[Rows], list[str]]:
    """A function from a growing log to lines about what has newly begun to go wrong, or has gone away."""
    known: set[str] = set()

    def said(rows: Rows) -> list[str]:
        found = {finding.name: finding for finding in diagnose(rows, generator_fools=generator_fools)}
        lines = [f"doctor: {finding.name}: {finding.evidence}" for name, finding in found.items() if name not in known]
        lines += [f"doctor: no longer {name}" for name in sorted(known - found.keys())]
        known.clear()
        known.update(found)
        return lines

    return said
