"""What a user's class names and ids mean for a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twoplayer.core.errors import UserError
from twoplayer.runs.snapshot import SnapshotInfo

Labels = int | str | Sequence[int | str]
"""Classes by name or id."""


def class_ids(labels: Labels | None, info: SnapshotInfo, run: Path) -> list[int]:
    """The class ids that are meant; all of the run's for None, none for an unconditional run.

    Args:
        labels: what the user said.
        info: of the run's generator.
        run: for messages.

    Raises:
        UserError: the run does not have these classes.
    """
    names, takes = info.class_names, info.generator.takes
    if "condition" in takes:
        raise UserError(
            f"{run}: its generator is told a vector or a coarser image for each picture; call run.generator("
            "latents, condition=...) from Python"
        )
    if "labels" not in takes:
        if labels is not None:
            raise UserError(f"{run} is unconditional: its generator takes no label")
        return []
    if labels is None:
        return list(range(len(names)))
    asked = [labels] if isinstance(labels, int | str) else list(labels)
    if not asked:
        raise UserError("labels=[] names no class; leave it out for all classes")
    known = {name: number for number, name in enumerate(names)} | {i: i for i in range(len(names))}
    for label in asked:
        if label not in known:
            raise UserError(f"{run} has no class {label!r} (it has: {', '.join(names)})")
    return [known[label] for label in asked]
