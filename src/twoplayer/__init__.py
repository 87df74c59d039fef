"""twoplayer: train, judge, compare and use generative adversarial networks on images.

    import twoplayer as tp

    run = tp.train("digits", steps=500)
    images = run.sample(16)  # uint8 [16, 1, 8, 8]

Importing this package is cheap: torch is loaded when something is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twoplayer.api import load, load_generator, train
    from twoplayer.comparison import compare
    from twoplayer.core.batch import Batch
    from twoplayer.core.errors import Diverged, TrainingStopped, UserError
    from twoplayer.core.rng import Stream
    from twoplayer.core.verdict import Verdict
    from twoplayer.trained import Run

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Diverged",
    "Run",
    "Stream",
    "TrainingStopped",
    "UserError",
    "Verdict",
    "__version__",
    "compare",
    "load",
    "load_generator",
    "train",
]

_HOMES = {
    "Run": "twoplayer.trained",
    "compare": "twoplayer.comparison",
    "load": "twoplayer.api",
    "load_generator": "twoplayer.api",
    "train": "twoplayer.api",
    "Batch": "twoplayer.core.batch",
    "Stream": "twoplayer.core.rng",
    "Verdict": "twoplayer.core.verdict",
    "Diverged": "twoplayer.core.errors",
    "TrainingStopped": "twoplayer.core.errors",
    "UserError": "twoplayer.core.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'twoplayer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
