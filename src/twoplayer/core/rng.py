"""Random numbers that depend only on where they are used, never on what was drawn before.

A `Stream` is a seed and a path of names. Asking the same stream twice gives the same numbers; `child` names a new
place. A run that stops at step 733 and goes on later therefore needs no saved generator states: step 734 draws from
`Stream(seed).child("train", 734)` in either case. The same property lets several processes slice one global draw.

Numbers are drawn on the CPU and moved, so that every device sees the same ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """A named place from which random numbers are drawn.

    Attributes:
        seed: of all streams of a run.
        path: the place.
        share: which rows of what is drawn are given, and among how many they are shared; see `shared`.

    Example:
        >>> stream = Stream(0).child("train", 12)
        >>> bool((stream.child("latents").uniform((2,)) == stream.child("latents").uniform((2,))).all())
        True
    """

    seed: int
    path: tuple[str | int, ...] = ()
    share: tuple[int, int] = (0, 1)

    def child(self, *path: str | int) -> Stream:
        """The stream at a sub-path; siblings are statistically independent."""
        return replace(self, path=self.path + path)

    def shared(self, index: int, count: int) -> Stream:
        """The same numbers for one of `count` that draw together.

        Asked for [n, ...], it draws [n * count, ...] and gives the rows from n * index on. Shares of a share are shares
        of the whole.
        """
        mine, all_of_them = self.share
        return replace(self, share=(mine * count + index, all_of_them * count))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self.share[1], *shape[1:]) if shape else shape

    def _own(self, values: Tensor) -> Tensor:
        index, count = self.share
        return values if count == 1 or not values.ndim else values.chunk(count)[index].clone()

    def derived_seed(self) -> int:
        """A 63-bit seed made of the seed and the whole path (BLAKE2b); shares of a stream have it in common."""
        text = "/".join([str(self.seed), *(f"{type(part).__name__}:{part}" for part in self.path)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def generator(self) -> torch.Generator:
        """A fresh CPU generator at the start of this stream."""
        return torch.Generator().manual_seed(self.derived_seed())

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, *, like: Tensor | None = None
    ) -> Tensor:
        """Uniform numbers in [low, high) of the given shape, in the dtype and on the device of `like`."""
        values = torch.rand(self._whole(shape), generator=self.generator(), dtype=_dtype(like))
        return _move(self._own(values.mul_(high - low).add_(low)), like)

    def normal(self, shape: tuple[int, ...], *, like: Tensor | None = None) -> Tensor:
        """Standard normal numbers of the given shape, in the dtype and on the device of `like`."""
        return _move(self._own(torch.randn(self._whole(shape), generator=self.generator(), dtype=_dtype(like))), like)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0 .. n-1, int64 [n]."""
        return torch.randperm(n, generator=self.generator())

    def seed_torch(self) -> None:
        """Put torch's global generators at this stream, for layers that draw from them (dropout); a share has its own.

        `torch.manual_seed` does the same and, where no accelerator is in use, keeps a note with the whole stack for
        the day one will be: a millisecond each time.
        """
        index, _ = self.share
        seed = (self.child("share", index) if index else self).derived_seed()
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)


def _dtype(like: Tensor | None) -> torch.dtype:
    return torch.get_default_dtype() if like is None else like.dtype


def _move(values: Tensor, like: Tensor | None) -> Tensor:
    return values if like is None else values.to(like.device, non_blocking=True)
