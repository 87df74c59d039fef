"""A view of a game in the plane as `learn.js` is told of it: whole thousandths, and words in the visitor's language."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from twoplayer.explore.plane import View

LEAST_REACH = 0.1
"""Probabilities nearer than this to 0.5 are drawn pale: D knows nothing yet."""


def told(view: View, tell: Callable[..., str]) -> dict[str, Any]:
    """A view for `learn.js`: places, pushes and the field in whole thousandths, and all words."""
    gaps = view.field - view.center
    reach = max(float(gaps.abs().flatten().quantile(0.98)), LEAST_REACH if view.is_probability else 1e-6)
    ends = [f"{view.center + side * reach:.3g}" for side in (-1.0, 1.0)]
    says = "says-probability" if view.is_probability else "says-logit"
    names = ("real", "fake", "boundary", "arrows", "trails")
    words = {name: tell(f"plane-{name}") for name in names} | {"says": tell(says), "low": ends[0], "high": ends[1]}
    return {
        "step": view.step,
        "moves": view.moves,
        "side": len(view.field),
        "real": thousandths(view.real),
        "fake": thousandths(view.fake),
        "push": thousandths(view.push),
        "field": thousandths((gaps / reach).clamp(-1.0, 1.0)),
        "losses": [[rounded(on_g), rounded(on_d)] for _, on_g, on_d in view.losses],
        "said": in_one_line(view, tell),
        "words": words | {"lossG": tell("loss-g"), "lossD": tell("loss-d")},
    }


def in_one_line(view: View, tell: Callable[..., str]) -> str:
    """How far a game is, and how well it goes."""
    if view.diverged is not None:
        return tell("game-diverged", step=f"{view.diverged:,}")
    words = [tell("at", step=f"{view.step:,}")]
    words += [tell("alone", moves=view.moves)] if view.moves else []
    if view.found is not None:
        found, all_of_them = view.found
        words.append(tell("found", found=found, all=all_of_them, near=f"{100 * view.near:.0f}"))
    words.append(tell("mean-push", push=f"{float(view.push.norm(dim=1).mean()):.2g}"))
    return " · ".join(words)


def thousandths(values: Tensor) -> list[int]:
    """Rounded, flat."""
    whole_ones: list[int] = (1000.0 * values).round().clamp(-1e9, 1e9).to(torch.int64).flatten().tolist()
    return whole_ones


def rounded(value: float) -> float | None:
    """To four digits; None where there is none, which is all that JSON has for it."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
