"""The single faults that the doctor knows: what shows each of them in a log, and what may help.

Sources and the meaning of the limits stand in `doctor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean, median, pstdev
from typing import Any

from twoplayer.evaluation import vitals
from twoplayer.evaluation.findings import Finding, Rows, course, recent, since_when, sureness

LEAST_ROWS = 8
"""Lines of the log before anything is said."""

LOST_SCORE = 0.05
WON_SCORE = 0.85
TOTAL_COLLAPSE = 0.1
PARTIAL_COLLAPSE = 0.5
MISSING = 0.1
"""Of a class's share among real images: below it the class is missing."""

UNLIKE = 0.1
"""Share of the real images that have a fake near."""

LEAST_GRIDS = 4
COPIED = 0.5
OVERFITTED = 0.5
VANISHED = 1e-6
EXPLODED = 100.0
LARGE = 10.0
"""A generator gradient below this is large for no network."""

DRIFTED = 100.0
GUESSING = math.log(4.0)
"""D's cross-entropy when it gives every image the probability 1/2."""

DIVERGED = 3.0
SWINGING = 0.15
GRADIENT = "gradient/generator"

COLLAPSE = "mode collapse"
COLLAPSE_REMEDIES = (
    "discriminator.minibatch=discrimination  (D sees how alike fakes are; where the network has it)",
    "objective.name=feature-matching  (G matches statistics instead of fooling D)",
    '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (no single picture pays)',
)


def _discriminator_dominates(rows: Rows) -> Finding | None:
    """D is sure of everything: its score near 1, the generator's near 0."""
    points = course(rows, "score/generator")
    now = recent(rows, "score/generator")
    if not now or median(now) > LOST_SCORE:
        return None
    on_reals = fmean(recent(rows, "score/discriminator"))
    return Finding(
        "discriminator dominates",
        since_when(points, lambda score: score <= 2 * LOST_SCORE),
        f"generator score {median(now):.3f}, discriminator score {on_reals:.3f} (ideal: 0.5 both)",
        sureness(-median(now), -LOST_SCORE, 0.0),
        (
            "optimizers.discriminator.learning_rate=0.00005  (a fourth of the usual: D learns more slowly)",
            "objective.real_target=0.9  (one-sided smoothing keeps D from being sure)",
            '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (D stays smooth)',
        ),
    )


def _generator_dominates(rows: Rows) -> Finding | None:
    """D believes the fakes."""
    points = course(rows, "score/generator")
    now = recent(rows, "score/generator")
    if not now or median(now) < WON_SCORE:
        return None
    return Finding(
        "generator dominates",
        since_when(points, lambda score: score >= WON_SCORE - 0.1),
        f"generator score {median(now):.3f} (ideal: 0.5)",
        sureness(median(now), WON_SCORE, 1.0),
        (
            "play.discriminator_steps=2  (D gets more updates)",
            "optimizers.generator.learning_rate=0.00005  (G learns more slowly)",
        ),
    )


def _mode_collapse(rows: Rows) -> Finding | None:
    """Fakes are alike (total), or only some kinds of real images are among them (partial)."""
    spread = course(rows, vitals.DIVERSITY)
    if len(spread) < 2:
        return None
    now, share = median(recent(rows, vitals.DIVERSITY)), median(recent(rows, vitals.COVERAGE))
    evidence = (
        f"fakes differ {now:.2f} times as much as real images do; {share:.0%} of the real images have a fake near"
    )
    if now < TOTAL_COLLAPSE:
        since, sure = since_when(spread, lambda value: value < 2 * TOTAL_COLLAPSE), sureness(-now, -TOTAL_COLLAPSE, 0.0)
        return Finding(f"{COLLAPSE}, total", since, evidence, sure, COLLAPSE_REMEDIES, symptom=True)
    if now < PARTIAL_COLLAPSE:
        since, sure = since_when(spread, lambda value: value < PARTIAL_COLLAPSE), sureness(-now, -PARTIAL_COLLAPSE, 0.0)
        return Finding(f"{COLLAPSE}, partial", since, evidence, sure, COLLAPSE_REMEDIES, symptom=True)
    return None


def _unlike(rows: Rows) -> Finding | None:
    """Fakes are varied, but hardly a real image has one near, and that is not getting better."""
    points, now = course(rows, vitals.COVERAGE), recent(rows, vitals.COVERAGE)
    if len(points) < LEAST_GRIDS or median(now) > UNLIKE:
        return None
    if median(recent(rows, vitals.DIVERSITY)) < PARTIAL_COLLAPSE:
        return None
    before = median([value for _, value in points[: len(points) // 2]])
    if median(now) > 2.0 * before and median(now) > 0.0:
        return None
    return Finding(
        "fakes unlike real images",
        since_when(points, lambda value: value <= 2 * UNLIKE),
        f"fakes are varied, but only {median(now):.0%} of the real images have a fake near",
        sureness(-median(now), -UNLIKE, 0.0),
        (
            "optimizers.generator.learning_rate=0.0002  (G takes smaller steps)",
            '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (D shows G a smooth way)',
        ),
        symptom=True,
    )


def missing_classes(
    found: list[Finding], shares: Mapping[str, float], real_shares: Mapping[str, float], step: int
) -> list[Finding]:
    """Findings with the classes that hardly any fake shows: said of a collapse that is known, or a finding of its own.

    Args:
        found: what the log shows.
        shares: of the classes among fakes.
        real_shares: among real images.
        step: when the shares were taken.
    """
    missing = [name for name, real in real_shares.items() if real > 0.0 and shares[name] < MISSING * real]
    if not missing:
        return found
    words = f"hardly any fake shows {', '.join(missing)} ({len(missing)} of {len(shares)} classes)"
    if any(finding.name.startswith(COLLAPSE) for finding in found):
        return [
            replace(finding, evidence=f"{finding.evidence}; {words}") if finding.name.startswith(COLLAPSE) else finding
            for finding in found
        ]
    sure = sureness(len(missing), 1.0, max(2.0, len(shares) / 2.0))
    return [*found, Finding(f"{COLLAPSE}, partial", step, words, sure, COLLAPSE_REMEDIES, symptom=True)]


def _memorization(rows: Rows) -> Finding | None:
    """Fakes are nearer to training images than fresh real images are."""
    points, now = course(rows, vitals.NEARNESS), recent(rows, vitals.NEARNESS)
    if len(points) < 2 or median(now) > COPIED:
        return None
    return Finding(
        "memorization",
        since_when(points, lambda value: value <= COPIED),
        f"the nearest training image is {median(now):.2f} times as far from a fake as from a held-out image",
        sureness(-median(now), -COPIED, 0.0),
        ("data.split=train  (with more images: few can be learned by heart)", "steps=1000  (stop earlier)"),
    )


def _overfitting(rows: Rows) -> Finding | None:
    """D tells training images from held-out ones: it knows them by heart."""
    points = [
        (int(row["step"]), (row[vitals.LOGIT_TRAIN] - row[vitals.LOGIT_HELD_OUT]) / _gap(row))
        for row in rows
        if row.get(vitals.LOGIT_HELD_OUT) is not None and row[vitals.LOGIT_TRAIN] > row[vitals.LOGIT_FAKE]
    ]
    if len(points) < 2:
        return None
    now = median([value for _, value in points[-max(1, len(points) // 4) :]])
    if now < OVERFITTED:
        return None
    return Finding(
        "discriminator overfitting",
        since_when(points, lambda value: value >= OVERFITTED),
        f"held-out real images are {now:.0%} of the way from training images to fakes, as D sees them",
        sureness(now, OVERFITTED, 1.0),
        (
            "discriminator.dropout=0.5  (where the network has it)",
            '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (D stays smooth between the images)',
        ),
    )


def _gap(row: dict[str, Any]) -> float:
    return max(float(row[vitals.LOGIT_TRAIN] - row[vitals.LOGIT_FAKE]), 1e-6)


def _gradient(rows: Rows) -> Finding | None:
    """G's gradient has all but vanished, or grows without bound."""
    points = course(rows, GRADIENT)
    if len(points) < LEAST_ROWS:
        return None
    early = median([value for _, value in points[: max(2, len(points) // 8)]])
    now = median(recent(rows, GRADIENT))
    change = now / max(early, 1e-30)
    if now < VANISHED or change < 1e-4:
        return Finding(
            "vanishing generator gradient",
            since_when(points, lambda value: value < max(10 * VANISHED, 1e-3 * early)),
            f"the generator's gradient is {now:.2g}, {change:.2g} times that of the beginning",
            1.0 if now < VANISHED else 0.8,
            (
                "objective.generator_objective=non-saturating  (G gets a gradient when it loses)",
                "objective.name=wasserstein  (D's slope does not saturate; with a gradient penalty)",
            ),
        )
    if change > EXPLODED and now > LARGE:
        return Finding(
            "exploding generator gradient",
            since_when(points, lambda value: value > EXPLODED * early / 4),
            f"the generator's gradient is {now:.3g}, {change:.0f} times that of the beginning",
            sureness(math.log(change), math.log(EXPLODED), math.log(100 * EXPLODED)),
            ("optimizers.generator.learning_rate=0.00005", "optimizers.discriminator.learning_rate=0.00005"),
        )
    return None


def _drift(rows: Rows) -> Finding | None:
    """The level of an unbounded D wanders off: only differences of its answers mean something to the game."""
    if course(rows, "score/generator"):
        return None
    real, fake = course(rows, "loss/real"), course(rows, "loss/fake")
    if len(real) < LEAST_ROWS:
        return None
    level = [(step, (abs(a) + abs(b)) / 2.0) for (step, a), (_, b) in zip(real, fake, strict=True)]
    early = median([value for _, value in level[len(level) // 8 : len(level) // 4 + 1]])
    now = median([value for _, value in level[-max(2, len(level) // 4) :]])
    if now < DRIFTED or now < 3.0 * early:
        return None
    return Finding(
        "drift of an unbounded discriminator",
        since_when(level, lambda value: value > max(DRIFTED, 3.0 * early) / 2.0),
        f"D's answers are around {now:,.0f}; they were around {early:,.0f}",
        sureness(math.log(now), math.log(DRIFTED), math.log(30 * DRIFTED)),
        (
            '"regularizers=[{name: gradient-penalty, weight: 10.0}]"  (bounds D\'s slope, in training mode)',
            "optimizers.discriminator.learning_rate=0.00005",
        ),
    )


def _divergence(rows: Rows) -> Finding | None:
    """D is often sure and often wrong: its loss is far above that of a D that only guesses."""
    points, now = course(rows, "loss/discriminator"), recent(rows, "loss/discriminator")
    if not course(rows, "score/generator") or median(now) < GUESSING * DIVERGED:
        return None
    return Finding(
        "divergence",
        since_when(points, lambda loss: loss > GUESSING * DIVERGED / 2),
        f"D's loss is {median(now):.3g}; guessing would cost {GUESSING:.2f}",
        sureness(math.log(median(now)), math.log(GUESSING * DIVERGED), math.log(20 * DIVERGED)),
        (
            "optimizers.discriminator.learning_rate=0.00005",
            '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (D stays smooth)',
        ),
    )


def _oscillation(rows: Rows) -> Finding | None:
    """The players chase each other: scores swing widely around their mean and do not settle."""
    values = recent(rows, "score/generator", 0.5)
    if len(values) < 2 * LEAST_ROWS:
        return None
    swing = pstdev(values)
    if swing < SWINGING:
        return None
    step = course(rows, "score/generator")[-len(values)][0]
    return Finding(
        "oscillation",
        step,
        f"the generator score swings by +-{swing:.2f} around {fmean(values):.2f}",
        sureness(swing, SWINGING, 0.4),
        (
            "optimizers.generator.beta1=0.0 optimizers.discriminator.beta1=0.0  (no momentum)",
            "average.half_life_kimg=10.0  (pictures from an average of G's weights)",
            '"regularizers=[{name: gradient-penalty, weight: 1.0, target: 0.0}]"  (dampens the chase)',
        ),
        symptom=True,
    )


CHECKS: tuple[Callable[[Rows], Finding | None], ...] = (
    _discriminator_dominates,
    _generator_dominates,
    _divergence,
    _drift,
    _gradient,
    _overfitting,
    _memorization,
    _mode_collapse,
    _unlike,
    _oscillation,
)
"""Of two that are equally sure the one nearer to the cause comes first."""

DOMINANCE = (_discriminator_dominates, _generator_dominates)
