"""What is going wrong in a training, in words, read from the figures in its log.

Sources: the reading list's companion page on failure modes of GANs (scores near 0.5 are the ideal; D at 1 and G at 0,
or G at 1, is a failure; collapse shows in the samples); Goodfellow et al. 2014 (the saturating loss and its vanishing
gradient), Arjovsky and Bottou 2017, https://arxiv.org/abs/1701.04862; Karras et al. 2020,
https://arxiv.org/abs/2006.06676 (overfitting: D's logits on training and on held-out images drift apart). The limits
are our own, set on runs that were made to fail; docs/doctor.md shows how well they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from twoplayer.core.protocols import Probabilistic
from twoplayer.evaluation import game_checks, picture_checks, vitals
from twoplayer.evaluation.findings import LEAST_ROWS, Finding, Rows, course
from twoplayer.evaluation.pair_scores import with_pair_scores
from twoplayer.evaluation.remedies import prescribed
from twoplayer.recipes.schema import Recipe

DOMINANCE = (game_checks.discriminator_dominates, game_checks.generator_dominates)
OF_ALL: tuple[Callable[[Rows], Finding | None], ...] = (
    game_checks.gradient,
    picture_checks.overfitting,
    picture_checks.memorization,
    picture_checks.mode_collapse,
    picture_checks.unlike,
    game_checks.oscillation,
)
"""Of two that are equally sure the one nearer to the cause comes first."""


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says.

    Attributes:
        findings: what goes wrong, causes before symptoms and the surest first; none for a healthy run.
        not_examined: what could not be looked at, and why.
        examined: whether the log was long enough to look at anything.
    """

    findings: tuple[Finding, ...]
    not_examined: tuple[str, ...]
    examined: bool = True

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        found = [asdict(finding) | {"remedies": list(finding.remedies)} for finding in self.findings]
        return {"verdict": self.words, "findings": found, "not_examined": list(self.not_examined)}

    @property
    def words(self) -> str:
        """The verdict in a few words."""
        unnamed = "healthy, as far as can be seen" if self.examined else "not examined"
        return ", ".join(finding.name for finding in self.findings) or unnamed


def diagnose(
    rows: Rows,
    recipe: Recipe,
    figures: Mapping[str, Any] | None = None,
    failure: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """What goes wrong at the end of a log.

    Args:
        rows: lines of metrics.jsonl.
        recipe: of the run: what can be looked at, and what can be tried, depends on it.
        figures: of `twoplayer evaluate`, where there are any: they say which classes are missing.
        failure: step and words, when the training ended because something became NaN or infinite.
    """
    found: list[Finding] = []
    examined = len(rows) >= LEAST_ROWS
    if examined:
        found = [finding for finding in _checked(rows, recipe) if finding is not None]
        for figure in (figures or {}).values():
            if "real_shares" in figure:
                found = picture_checks.missing_classes(found, figure, int(rows[-1]["step"]))
    if failure is not None:
        found = [finding for finding in found if finding.name != game_checks.DIVERGENCE]
        found.insert(0, game_checks.diverged(int(failure["step"]), str(failure["words"])))
    found.sort(key=lambda finding: (finding.symptom, -finding.sure))
    treated = tuple(replace(finding, remedies=prescribed(finding.remedies, recipe)) for finding in found)
    return Diagnosis(treated, tuple(_not_examined(rows, recipe)), examined)


def _checked(rows: Rows, recipe: Recipe) -> Iterator[Finding | None]:
    """What each check says, causes first."""
    objective, pairs = recipe.objective, recipe.objective.compares_pairs
    scored = with_pair_scores(rows) if pairs else rows
    if objective.generator_fools and _has_scores(recipe):
        yield from (check(scored) for check in DOMINANCE)
    yield game_checks.divergence(scored, game_checks.GUESSING_PAIRS if pairs else game_checks.GUESSING)
    yield game_checks.drift(rows)
    yield from (check(scored) for check in OF_ALL)


def _has_scores(recipe: Recipe) -> bool:
    return recipe.objective.compares_pairs or isinstance(recipe.objective, Probabilistic)


def _not_examined(rows: Rows, recipe: Recipe) -> list[str]:
    if len(rows) < LEAST_ROWS:
        return [f"anything (the log has {len(rows)} lines; it takes {LEAST_ROWS})"]
    missing = []
    seen, told = course(rows, vitals.DIVERSITY), "labels" in recipe.generator.takes
    if not _has_scores(recipe):
        missing.append("who dominates, oscillation, divergence short of NaN (this game has no scores)")
    elif not recipe.objective.generator_fools:
        missing.append("who dominates (G is not after D's verdict)")
    if not seen:
        missing.append("pictures (no vital signs in the log)")
    elif not course(rows, vitals.NEARNESS):
        missing.append("memorization, overfitting of D (no held-out images)")
    if seen and told and not course(rows, vitals.DIVERSITY_IN_CLASSES):
        missing.append("collapse within classes (fewer than four images of a class, or all alike)")
    return missing


def remarks(recipe: Recipe) -> Callable[[Rows], list[str]]:
    """A function from a growing log to lines about what has newly begun to go wrong, or has gone away."""
    known: set[str] = set()

    def said(rows: Rows) -> list[str]:
        found = {finding.name: finding for finding in diagnose(rows, recipe).findings}
        lines = [f"doctor: {finding.name}: {finding.evidence}" for name, finding in found.items() if name not in known]
        lines += [f"doctor: no longer {name}" for name in sorted(known - found.keys())]
        known.clear()
        known.update(found)
        return lines

    return said
