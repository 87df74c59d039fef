"""Drawing pictures from a trained generator, wherever it lies: a run's folder, or one that was exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.process import one_thread
from twoplayer.core.protocols import Bounded
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.data.prepared import Told, nobody
from twoplayer.evaluation.extraction import weights_hash
from twoplayer.evaluation.game import Figures
from twoplayer.evaluation.latents import Recovered, arithmetic, pictures_of, recover, walk
from twoplayer.runs.classes import Labels, class_ids
from twoplayer.runs.grid import tile
from twoplayer.runs.sampling import Drawn, Truncated, in_turn, latents_of, sample_best, sample_blocks
from twoplayer.runs.shards import MOST_PICTURES, PER_SHARD, Plan, write_shards
from twoplayer.runs.snapshot import SnapshotInfo, read_snapshot

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SAMPLES = 1_000_000
CPU = torch.device("cpu")


class Sampler(ABC):
    """A generator and what can be drawn with it.

    Attributes:
        path: where it lies, for messages.
        device: where its networks compute.
    """

    path: Path
    device: torch.device

    @property
    @abstractmethod
    def info(self) -> SnapshotInfo:
        """What the generator is and was trained on."""

    @property
    @abstractmethod
    def generator(self) -> nn.Module:
        """In evaluation mode: latents [N, latent_dim] to float images in [-1, 1]."""

    @property
    @abstractmethod
    def discriminator(self) -> nn.Module:
        """In evaluation mode: images in [-1, 1] to a `Verdict`. Raises UserError where there is none."""

    @property
    def figures(self) -> Figures:
        """Those that `evaluate` took, if it did."""
        return {}

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """What its layers compute in, if not their own dtype."""
        return None

    @abstractmethod
    def best(self, n: int, best_of: int, stream: Stream, ids: list[int], latents: Drawn) -> Tensor:
        """The n of n * best_of pictures that the discriminator finds most real. Raises UserError without one."""

    def sample(
        self, n: int, seed: int = 0, best_of: int = 1, labels: Labels | None = None, truncation: float = 1.0
    ) -> Tensor:
        """n pictures, uint8 [n, C, H, W]. Picture i depends on the seed only, not on n.

        Args:
            n: how many, at most a million.
            seed: which ones.
            best_of: draw this many times as many and keep those that the discriminator finds most real.
            labels: for a conditional run, the class or classes, by name or id; picture i has the i-th of them, round
                and round. All classes when left out.
            truncation: psi of the truncation trick, see `runs.sampling.Truncated`.

        Raises:
            UserError: n, seed, best_of or truncation is not a sensible number; the run has no such class.
        """
        return torch.cat(list(self.sample_blocks(n, seed, best_of, labels, truncation)))

    def sample_blocks(
        self, n: int, seed: int = 0, best_of: int = 1, labels: Labels | None = None, truncation: float = 1.0
    ) -> Iterator[Tensor]:
        """The same pictures, some at a time, for more of them than fit into memory."""
        _require_sensible(n, seed, best_of, truncation)
        ids, latents = self.label_ids(labels), self._drawn(truncation)
        if best_of > 1:
            return iter([self.best(n, best_of, Stream(seed).child("sample"), ids, latents)])
        return self._numbered(range(n), seed, ids, latents)

    def _drawn(self, truncation: float) -> Drawn:
        """What latents are drawn from."""
        return self.info.latents if truncation == 1.0 else Truncated(self.info.latents, truncation)

    def _numbered(self, numbers: range, seed: int, ids: list[int], latents: Drawn) -> Iterator[Tensor]:
        """Pictures `numbers` of all that a seed has."""
        given = {"labels": in_turn(_turned(ids, numbers.start), len(numbers))} if ids else {}
        stream = Stream(seed).child("sample")
        return sample_blocks(
            self.generator, latents, len(numbers), stream, given, self.compute_dtype, first=numbers.start
        )

    def write_shards(
        self,
        folder: Path,
        n: int,
        seed: int = 0,
        best_of: int = 1,
        labels: Labels | None = None,
        truncation: float = 1.0,
        *,
        per_shard: int = PER_SHARD,
        ranks: Ranks = ALONE,
        told: Told = nobody,
    ) -> Plan:
        """Write the n pictures of `sample` as shards, those that are not there yet; see `runs.shards`.

        With `best_of` the best are chosen for each shard by itself, so that these are other pictures than those of
        `sample`. Each process computes on one thread: so all of them round alike, however many there are.

        Args:
            folder: where to; empty, or begun with the same arguments and the same generator.
            n: how many, at most a billion.
            seed: as for `sample`.
            best_of: as for `sample`.
            labels: as for `sample`.
            truncation: as for `sample`.
            per_shard: how many pictures lie in each file.
            ranks: this process among all that write, see `core.joining.joined`.
            told: on rank 0, is told how many of the missing pictures are there.

        Returns:
            What the folder holds.

        Raises:
            UserError: as `sample` and `runs.shards.write_shards` do.
        """
        _require_sensible(n, seed, best_of, truncation, MOST_PICTURES * best_of)
        ids, latents = self.label_ids(labels), self._drawn(truncation)
        plan = self._plan(n, seed, best_of, truncation, ids, per_shard)
        if ranks.any(plan != ranks.told(plan)):
            raise UserError(f"{self.path}: not all processes read the same generator; does it still train?")

        def draw(numbers: range) -> Iterator[Tensor]:
            if best_of == 1:
                return self._numbered(numbers, seed, ids, latents)
            place = Stream(seed).child("sample", "shard", numbers.start)
            return iter([self.best(len(numbers), best_of, place, _turned(ids, numbers.start), latents)])

        with one_thread():
            write_shards(folder, plan, draw, ranks, told)
        return plan

    def _plan(self, n: int, seed: int, best_of: int, truncation: float, ids: list[int], per_shard: int) -> Plan:
        """What a folder is to hold. Raises UserError."""
        if best_of > 1:
            _ = self.discriminator  # there has to be one before anything is written
        info = self.info
        return Plan(
            n=n,
            per_shard=per_shard,
            seed=seed,
            best_of=best_of,
            truncation=truncation,
            labels=tuple(ids),
            class_names=info.class_names if ids else (),
            image_shape=info.image_shape,
            recipe=info.recipe,
            step=info.step,
            generator_sha256=weights_hash(self.generator),
            device=self.device.type,
            computes_in=str(self.compute_dtype or next(self.generator.parameters()).dtype).removeprefix("torch."),
        )

    def label_ids(self, labels: Labels | None) -> list[int]:
        """The class ids that a user's labels mean; all of them for None, none for an unconditional run.

        Raises UserError for classes that the run does not have.
        """
        return class_ids(labels, self.info, self.path)

    def latents_of(self, numbers: Sequence[int], seed: int = 0) -> Tensor:
        """The latents of pictures `numbers` of `sample(seed=seed)`: [len(numbers), latent_dim]. Raises UserError."""
        if not numbers or not 0 <= min(numbers) <= max(numbers) < MAX_SAMPLES or seed < 0:
            raise UserError(
                f"pictures {list(numbers)}, seed {seed}: both count from 0, pictures to {MAX_SAMPLES - 1:,}"
            )
        like = next(self.generator.parameters())
        return latents_of(self.info.latents, numbers, Stream(seed).child("sample"), like)

    def draw(self, latents: Tensor, label: int | str | None = None) -> Tensor:
        """The pictures of latents [N, latent_dim], uint8 [N, C, H, W]; a conditional run needs a label for them."""
        ids = self.label_ids(label)
        if len(ids) > 1:
            raise UserError(f"{self.path} is conditional; say which label (it has: {', '.join(self.info.class_names)})")
        return pictures_of(self.generator, latents, {"labels": torch.tensor(ids * len(latents))} if ids else {})

    def walk(
        self, stops: Sequence[int], frames: int = 12, seed: int = 0, spherical: bool | None = None, loop: bool = False
    ) -> Tensor:
        """Latents [T, latent_dim] of a way past pictures `stops` of `sample(seed=seed)`, `frames` for each part of it.

        `loop` is that of `evaluation.latents.walk`. Left out, `spherical` is true unless the latents are bounded: an
        arc between two of those leaves their range. Raises UserError.
        """
        if spherical is None:
            spherical = not isinstance(self.info.latents, Bounded)
        return walk(self.latents_of(stops, seed), frames, spherical, loop)

    def arithmetic(self, plus: Sequence[int], minus: Sequence[int], plus_again: Sequence[int], seed: int = 0) -> Tensor:
        """Latents [latent_dim]: the mean of pictures `plus`, less that of `minus`, and that of `plus_again`."""
        return arithmetic(*(self.latents_of(numbers, seed) for numbers in (plus, minus, plus_again)))

    def recover(self, picture: Tensor, labels: Labels | None = None, restarts: int = 8, **how: Any) -> Recovered:
        """The latents whose picture is nearest to a picture uint8 [C, H, W]; see `evaluation.latents.recover`.

        A conditional run tries `labels`, or all its classes, each from one or more of the beginnings. Raises UserError.
        """
        if tuple(picture.shape) != self.info.image_shape:
            raise UserError(f"the picture is {tuple(picture.shape)}, those of the run are {self.info.image_shape}")
        ids = self.label_ids(labels)
        restarts = max(restarts, len(ids))
        given = {"labels": in_turn(ids, restarts)} if ids else {}
        return recover(self.generator, picture, self.info.latents, restarts=restarts, given=given, **how)

    def grid(
        self, n: int = 25, seed: int = 0, best_of: int = 1, labels: Labels | None = None, truncation: float = 1.0
    ) -> Image:
        """The same pictures tiled, as a Pillow image; those of a conditional run with one column per class."""
        pictures = self.sample(n, seed, best_of, labels, truncation)
        ids = self.label_ids(labels)[:n]
        if len(ids) < 2:
            return tile(pictures)
        return tile(pictures, len(ids), [self.info.class_names[number] for number in ids])


def _require_sensible(n: int, seed: int, best_of: int, truncation: float, most: int = MAX_SAMPLES) -> None:
    """Raise UserError for numbers that nothing can be drawn with."""
    if not all(isinstance(number, int) for number in (n, seed, best_of)):
        raise UserError(f"n={n}, best_of={best_of}, seed={seed}: all three are whole numbers")
    if n < 1 or best_of < 1 or n * best_of > most or seed < 0:
        raise UserError(
            f"n={n}, best_of={best_of}, seed={seed}: n and best_of start at 1, their product ends at "
            f"{most:,}, the seed starts at 0"
        )
    if not 0.0 < truncation <= 1.0:
        raise UserError(f"truncation={truncation}: above 0, 1 at most")


def _turned(ids: list[int], start: int) -> list[int]:
    """The same class ids round and round, from that of picture `start` on."""
    place = start % len(ids) if ids else 0
    return ids[place:] + ids[:place]


@dataclass(frozen=True)
class Exported(Sampler):
    """A folder that `twoplayer export --format safetensors` wrote: a generator alone.

    Attributes:
        path: the folder.
        device: where the generator computes.
    """

    path: Path
    device: torch.device = CPU

    @cached_property
    def _read(self) -> tuple[nn.Module, SnapshotInfo]:
        generator, info = read_snapshot(self.path)
        return generator.to(self.device), info

    @property
    def info(self) -> SnapshotInfo:
        return self._read[1]

    @property
    def generator(self) -> nn.Module:
        return self._read[0]

    @property
    def discriminator(self) -> nn.Module:
        raise UserError(f"{self.path} is a generator alone, without the discriminator that chooses the best of several")

    def best(self, n: int, best_of: int, stream: Stream, ids: list[int], latents: Drawn) -> Tensor:
        return sample_best((self.generator, self.discriminator), latents, n, best_of, stream)
