"""Faults of the game: what shows them in a log, and what may help. Sources and the meaning of the limits: `doctor`."""

from __future__ import annotations

import math
from statistics import fmean, median, pstdev

from twoplayer.evaluation import vitals
from twoplayer.evaluation.findings import LEAST_ROWS, Finding, Rows, course, last_part, recent, since_when, sureness

LOST_SCORE = 0.05
WON_SCORE = 0.85
VANISHED = 1e-6
EXPLODED = 100.0
LARGE = 10.0
"""A generator gradient below this is large for no network."""

DRIFTED = 100.0
GUESSING = math.log(4.0)
"""D's cross-entropy when it gives every image the probability 1/2."""

GUESSING_PAIRS = math.log(2.0)
"""The same where it says which image of a pair is the real one."""

DIVERGED = 3.0
SWINGING = 0.15
GRADIENT = "gradient/generator"

DIVERGENCE = "divergence"
DIVERGENCE_REMEDIES = ("slower players", "smooth discriminator", "no momentum")


def discriminator_dominates(rows: Rows) -> Finding | None:
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
            "less of the discriminator",
            "slower discriminator",
            "smooth discriminator",
            "smoothing",
        ),
    )


def generator_dominates(rows: Rows) -> Finding | None:
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
            "more of the discriminator",
            "slower generator",
        ),
    )


def gradient(rows: Rows) -> Finding | None:
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
                "non-saturating",
                "slower discriminator",
                "wasserstein",
            ),
        )
    if change > EXPLODED and now > LARGE:
        return Finding(
            "exploding generator gradient",
            since_when(points, lambda value: value > EXPLODED * early / 4),
            f"the generator's gradient is {now:.3g}, {change:.0f} times that of the beginning",
            sureness(math.log(change), math.log(EXPLODED), math.log(100 * EXPLODED)),
            ("slower players", "smooth discriminator"),
        )
    return None


def drift(rows: Rows) -> Finding | None:
    """The level of an unbounded D wanders off: only differences of its answers mean something to the game."""
    if course(rows, "score/generator"):
        return None
    level = _level(rows, "loss/real", "loss/fake") or _level(rows, vitals.LOGIT_TRAIN, vitals.LOGIT_FAKE)
    if len(level) < LEAST_ROWS:
        return None
    early = median([value for _, value in level[len(level) // 8 : len(level) // 4 + 1]])
    now = median(last_part(level))
    if now < DRIFTED or now < 3.0 * early:
        return None
    return Finding(
        "drift of an unbounded discriminator",
        since_when(level, lambda value: value > max(DRIFTED, 3.0 * early) / 2.0),
        f"D's answers are around {now:,.0f}; they were around {early:,.0f}",
        sureness(math.log(now), math.log(DRIFTED), math.log(30 * DRIFTED)),
        (
            "penalty in training mode",
            "quick statistics",
            "slower discriminator",
        ),
    )


def _level(rows: Rows, real: str, fake: str) -> list[tuple[int, float]]:
    """How large two figures are, where both were taken."""
    both = [row for row in rows if row.get(real) is not None and row.get(fake) is not None]
    return [(int(row["step"]), (abs(float(row[real])) + abs(float(row[fake]))) / 2.0) for row in both]


def diverged(step: int, words: str) -> Finding:
    """The training ended because something became NaN or infinite."""
    return Finding(DIVERGENCE, step, words, 1.0, DIVERGENCE_REMEDIES)


def divergence(rows: Rows, guessing: float = GUESSING) -> Finding | None:
    """D is often sure and often wrong: its loss is far above that of a D that only guesses."""
    points, now = course(rows, "loss/discriminator"), recent(rows, "loss/discriminator")
    if not course(rows, "score/generator") or not now or median(now) < guessing * DIVERGED:
        return None
    return Finding(
        DIVERGENCE,
        since_when(points, lambda loss: loss > guessing * DIVERGED / 2),
        f"D's loss is {median(now):.3g}; guessing would cost {guessing:.2f}",
        sureness(math.log(median(now)), math.log(guessing * DIVERGED), math.log(20 * DIVERGED)),
        DIVERGENCE_REMEDIES,
    )


def oscillation(rows: Rows) -> Finding | None:
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
            "no momentum",
            "smooth discriminator",
            "average",
        ),
        symptom=True,
    )
