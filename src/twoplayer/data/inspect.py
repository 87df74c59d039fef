"""What a source is, and what looks wrong with it, in words."""

from __future__ import annotations

from twoplayer.data.prepared import most_bad
from twoplayer.data.survey import Survey

FEW_IMAGES = 1000
IMBALANCE = 5.0
MOST_LISTED = 8
"""Sizes, kinds and broken files that are listed one by one."""


def describe(survey: Survey, source: str) -> dict[str, str]:
    """Facts for a person, by label."""
    facts = {"source": source, "images": f"{survey.n:,}"}
    if survey.sizes:
        facts["sizes"] = _sizes(survey)
        kinds = [f"{mode} ({n:,})" for mode, n in survey.modes.most_common(MOST_LISTED)]
        facts["modes"] = ", ".join(kinds)
    if survey.classes:
        facts["classes"] = ", ".join(f"{name} ({n:,})" for name, n in survey.classes.items())
    if survey.n:
        size = survey.form.image_size
        form = "their own size" if size is None else f"data.image_size={size}"
        facts["form"] = f"{form}, {'gray' if survey.form.channels == 1 else 'color'}"
        facts["memory"] = f"{survey.memory / 2**20:,.1f} MiB in that form"
    return facts


def problems(survey: Survey) -> list[str]:
    """What a person should know before training on it; empty when nothing is wrong."""
    found = [*survey.notes, *survey.broken[:MOST_LISTED]]
    if len(survey.broken) > MOST_LISTED:
        found.append(f"and {len(survey.broken) - MOST_LISTED:,} more that cannot be read")
    if 0 < survey.n < FEW_IMAGES:
        found.append(f"only {survey.n} images: a GAN will learn them by heart")
    if survey.copies:
        found.append(f"{survey.copies:,} images are exact copies of others")
    if survey.animated:
        found.append(f"{survey.animated:,} are animations: their first frames are used")
    if survey.constant:
        found.append(f"{survey.constant:,} of those looked at have one color only")
    present = [n for n in survey.classes.values() if n]
    if present and max(present) > IMBALANCE * min(present):
        found.append(f"classes are uneven: the largest has {max(present):,}, the smallest {min(present):,}")
    return found


def may_be_skipped(survey: Survey) -> bool:
    """Whether `data.bad_images=skip` would take it as it is."""
    return 0 < len(survey.broken) <= most_bad(survey.n + len(survey.broken))


def _sizes(survey: Survey) -> str:
    if len(survey.sizes) == 1:
        width, height = next(iter(survey.sizes))
        return f"{width} x {height} pixels"
    smallest, largest = min(survey.sizes), max(survey.sizes)
    common, n = survey.sizes.most_common(1)[0]
    return (
        f"{len(survey.sizes):,} different ones, {smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]} pixels, "
        f"most often {common[0]} x {common[1]} ({n:,})"
    )
