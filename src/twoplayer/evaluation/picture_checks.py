"""Faults that pictures show: what is seen of them in vital signs, and what may help. See `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from twoplayer.evaluation import vitals
from twoplayer.evaluation.findings import Finding, Rows, course, last_part, recent, since_when, sureness

TOTAL_COLLAPSE = 0.1
PARTIAL_COLLAPSE = 0.5
ALIKE_IN_CLASSES = 0.3
"""Of how much real images of a class differ; `digits-cgan` has 0.7 at the end, G without z to speak of 0.0."""

MISSING = 0.1
"""Of a class's share among real images: below it the class is missing."""

LEAST_EXPECTED = 20.0
"""Fakes of a class, in fair shares, from which on it is no chance that there are hardly any (below 1 in a million)."""

UNLIKE = 0.1
"""Share of the real images that have a fake near."""

LEAST_GRIDS = 4
COPIED = 0.5
OVERFITTED = 1.0
"""Where held-out images stand for D, from training images (0) to fakes (1)."""

COLLAPSE = "mode collapse"
COLLAPSE_REMEDIES = ("minibatch discrimination", "smooth discriminator", "feature matching")


def mode_collapse(rows: Rows) -> Finding | None:
    """Fakes are alike (total), or like only some kinds of real images (partial), or alike within each class."""
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
    within_classes = _collapse_in_classes(rows)
    if within_classes is not None:
        return within_classes
    if now < PARTIAL_COLLAPSE:
        since, sure = since_when(spread, lambda value: value < PARTIAL_COLLAPSE), sureness(-now, -PARTIAL_COLLAPSE, 0.0)
        return Finding(f"{COLLAPSE}, partial", since, evidence, sure, COLLAPSE_REMEDIES, symptom=True)
    return None


def _collapse_in_classes(rows: Rows) -> Finding | None:
    """G tells classes apart because it is told to, and draws one picture for each: it pays no heed to z."""
    spread = course(rows, vitals.DIVERSITY_IN_CLASSES)
    if len(spread) < 2:
        return None
    now = median(recent(rows, vitals.DIVERSITY_IN_CLASSES))
    if now >= ALIKE_IN_CLASSES:
        return None
    return Finding(
        f"{COLLAPSE}, within classes",
        since_when(spread, lambda value: value < ALIKE_IN_CLASSES),
        f"fakes that were told one class differ {now:.2f} times as much as real images of a class do",
        sureness(-now, -ALIKE_IN_CLASSES, 0.0),
        COLLAPSE_REMEDIES,
        symptom=True,
    )


def unlike(rows: Rows) -> Finding | None:
    """Fakes are varied, but hardly a real image has one near, and that is not getting better."""
    points, now = course(rows, vitals.COVERAGE), recent(rows, vitals.COVERAGE)
    if len(points) < LEAST_GRIDS or median(now) > UNLIKE:
        return None
    if median(recent(rows, vitals.DIVERSITY)) < PARTIAL_COLLAPSE or _collapse_in_classes(rows):
        return None
    before = median([value for _, value in points[len(points) // 2 : -len(now)]])
    if median(now) > 1.5 * before:
        return None
    return Finding(
        "fakes unlike real images",
        since_when(points, lambda value: value <= 2 * UNLIKE),
        f"fakes are varied, but only {median(now):.0%} of the real images have a fake near",
        sureness(-median(now), -UNLIKE, 0.0),
        (
            "slower generator",
            "smooth discriminator",
            "average",
        ),
        symptom=True,
    )


def missing_classes(found: list[Finding], figure: Mapping[str, Any], step: int) -> list[Finding]:
    """Findings with the classes that hardly any fake shows: said of a collapse that is known, or a finding of its own.

    Args:
        found: what the log shows.
        figure: shares of the classes among fakes and among real images, and how many of each were taken how often.
        step: when the shares were taken.
    """
    shares, count = figure["shares"], figure["n_fake"] * figure["seeds"]
    missing = [
        name
        for name, real in figure["real_shares"].items()
        if real * count >= LEAST_EXPECTED and shares[name] < MISSING * real
    ]
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


def memorization(rows: Rows) -> Finding | None:
    """Fakes are nearer to training images than fresh real images are."""
    points, now = course(rows, vitals.NEARNESS), recent(rows, vitals.NEARNESS)
    if len(points) < 2 or median(now) > COPIED:
        return None
    return Finding(
        "memorization",
        since_when(points, lambda value: value <= COPIED),
        f"the nearest training image is {median(now):.2f} times as far from a fake as from a held-out image",
        sureness(-median(now), -COPIED, 0.0),
        ("all images", "mirrored images", "dropout", "smooth discriminator"),
    )


def overfitting(rows: Rows) -> Finding | None:
    """D tells training images from held-out ones: it knows them by heart."""
    points = [
        (int(row["step"]), (row[vitals.LOGIT_TRAIN] - row[vitals.LOGIT_HELD_OUT]) / _gap(row))
        for row in rows
        if row.get(vitals.LOGIT_HELD_OUT) is not None and row[vitals.LOGIT_TRAIN] > row[vitals.LOGIT_FAKE]
    ]
    if len(points) < 2:
        return None
    now = median(last_part(points))
    if now < OVERFITTED:
        return None
    return Finding(
        "discriminator overfitting",
        since_when(points, lambda value: value >= OVERFITTED),
        f"held-out real images are {now:.0%} of the way from training images to fakes, as D sees them",
        sureness(now, OVERFITTED, 1.25),
        (
            "all images",
            "dropout",
            "smooth discriminator",
            "mirrored images",
        ),
    )


def _gap(row: dict[str, Any]) -> float:
    return max(float(row[vitals.LOGIT_TRAIN] - row[vitals.LOGIT_FAKE]), 1e-6)
