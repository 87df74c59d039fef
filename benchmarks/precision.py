"""Whether precision=bf16 costs quality: the Frechet distance over seeds, beside float32.

    TWOPLAYER_DATA=... python benchmarks/precision.py digits
    TWOPLAYER_DATA=... python benchmarks/precision.py mnist-wgan-gp batch_size=32 steps=1500 \\
        generator.n_filters=64 discriminator.n_filters=32

Where the processor has no bfloat16 arithmetic it is imitated: every convolution and matrix product takes bfloat16
numbers, sums in float32 and rounds its result to bfloat16, which is what such processors do; it is only not faster.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import twoplayer as tp
from twoplayer.core import precision

PRODUCTS = ("convolution", "convolve", "input_gradient", "weight_gradient", "mm", "addmm", "bmm", "linear")


class Imitated(TorchDispatchMode):
    """Products of bfloat16 tensors, computed in float32 and rounded once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if not name.startswith(PRODUCTS) or not any(_is_half(arg) for arg in args):
            return func(*args, **(kwargs or {}))
        self.seen += 1
        found = func(*tree_map_only(torch.Tensor, _widened, args), **(kwargs or {}))
        rounded = tree_map_only(torch.Tensor, lambda each: each.to(torch.bfloat16), found)
        return args[0].copy_(rounded) if func.overloadpacket.__name__.endswith("_") else rounded


def _is_half(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


def _widened(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype == torch.bfloat16 else value


def distances(name: str, changes: list[str], kind: str, around: Callable[[], AbstractContextManager[Any]]) -> None:
    """Train and judge three seeds; print each and their mean and spread."""
    found, floor = [], 0.0
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            with around() as mode:
                run = tp.train(name, *changes, f"precision={kind}", seed=seed, out=Path(folder) / "run", quiet=True)
            assert mode is None or mode.seen, "nothing was computed in bfloat16"
            figure = next(value for key, value in run.evaluate(n=2000).items() if key.startswith("fid_"))
            seconds = float(run.metrics[-1]["seconds"] or 0)
            run.grid(64).save(f"precision-{name}-{kind}-{seed}.png")
        found.append(figure["value"])
        floor = figure["floor"]
        print(f"{name} {kind} seed {seed}: Frechet distance {found[-1]:.3f}, {seconds:.0f} s", flush=True)
    spread = statistics.stdev(found)
    print(f"{name} {kind}: {statistics.mean(found):.3f} +- {spread:.3f} (real against real: {floor:.3f})", flush=True)


def main() -> None:
    name, *changes = sys.argv[1:] or ["digits"]
    imitated = not precision.has_bfloat16(torch.device("cpu"))
    distances(name, changes, "fp32", nullcontext)
    with patch.object(precision, "has_bfloat16", return_value=True):  # otherwise precision=bf16 is refused
        distances(name, changes, "bf16", Imitated if imitated else nullcontext)


if __name__ == "__main__":
    main()
