"""Many pictures as shards: tar files in the manner of WebDataset, written by any number of processes.

A plan says what lies in which shard. A shard is a function of the plan and of its own number: whoever writes it, and
whatever was written before, its bytes are the same, for one version of Pillow and on one kind of processor. A shard
appears under its name when it is whole, so that what is there need not be written again.

Source of the format: https://github.com/webdataset/webdataset: files of one sample have one name, and lie beside each
other; `.cls` holds its class.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.data.prepared import Told, nobody
from twoplayer.runs.files import replacing, write_text
from twoplayer.runs.folder import locked
from twoplayer.runs.grid import encoded, to_picture

PER_SHARD = 10_000
MOST_PICTURES = 1_000_000_000
MOST_SHARDS = 100_000
"""What the names have digits for."""

MANIFEST = "manifest.json"
SECONDS_BETWEEN_LOOKS = 1.0


class Plan(BaseModel):
    """What a folder of shards holds.

    Attributes:
        format: of this description and the shards.
        n: pictures in all.
        per_shard: pictures in each shard but the last.
        seed: which pictures.
        best_of: how many were drawn for each.
        truncation: psi of the truncation trick.
        labels: class ids that the pictures have in turn; empty for an unconditional generator.
        class_names: of all classes, by id.
        image_shape: channels, height, width.
        recipe: of the run.
        step: generator updates behind the weights.
        generator_sha256: of the weights.
        device: kind of device that draws: others round differently.
        computes_in: the dtype of the layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    n: int
    per_shard: int = PER_SHARD
    seed: int = 0
    best_of: int = 1
    truncation: float = 1.0
    labels: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int]
    recipe: str
    step: int
    generator_sha256: str
    device: str = "cpu"
    computes_in: str = "float32"

    def require_sensible(self) -> None:
        """Raise UserError for counts that shards cannot have."""
        if not 1 <= self.n <= MOST_PICTURES or self.per_shard < 1:
            raise UserError(
                f"n={self.n}, per_shard={self.per_shard}: both start at 1, and n ends at {MOST_PICTURES:,} for shards"
            )
        if self.shards > MOST_SHARDS:
            raise UserError(f"per_shard={self.per_shard} makes {self.shards:,} shards; {MOST_SHARDS:,} are the most")

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.n // self.per_shard)

    def pictures(self, shard: int) -> range:
        """The numbers of the pictures in a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.n))

    def name(self, shard: int) -> str:
        """What the file of a shard is called."""
        return f"shard-{shard:05d}.tar"

    def label(self, picture: int) -> int | None:
        """The class of a picture; None for an unconditional generator."""
        return self.labels[picture % len(self.labels)] if self.labels else None


Draw = Callable[[range], Iterable[Tensor]]
"""The numbers of one shard's pictures to these, uint8 [N, C, H, W] at a time."""


def write_shards(folder: Path, plan: Plan, draw: Draw, ranks: Ranks = ALONE, told: Told = nobody) -> None:
    """Write those shards of a plan that are not there yet; each rank a part of them.

    Rank 0 returns when all are there, the others when theirs are.

    Args:
        folder: where to; it is made. All ranks have to see the same.
        plan: what the folder is to hold.
        draw: makes the pictures of one shard.
        ranks: this process among all that write.
        told: on rank 0, is told how many of the pictures that were missing are there.

    Raises:
        UserError: the folder holds something else, another process writes to it, or not all ranks see it.
    """
    plan.require_sensible()
    with ExitStack() as stack:
        missing: list[int] | None = None
        if ranks.writes:
            stack.enter_context(locked(folder))
            missing = _missing(folder, plan)
        missing = ranks.told(missing)
        assert missing is not None, "rank 0 says which"
        if not (folder / MANIFEST).is_file():
            raise UserError(f"rank {ranks.index} does not see {folder}: all processes need one folder that they share")
        sizes = {folder / plan.name(shard): len(plan.pictures(shard)) for shard in missing}
        shown = _Shown(sizes, told if ranks.writes else nobody)
        for shard in missing[ranks.index :: ranks.count]:
            numbers = plan.pictures(shard)
            write_shard(folder / plan.name(shard), shown.counting(draw(numbers)), numbers.start, plan)
        while ranks.writes and not shown.look():
            time.sleep(SECONDS_BETWEEN_LOOKS)


def write_shard(path: Path, blocks: Iterable[Tensor], first: int, plan: Plan) -> None:
    """One tar file of PNG files, each with a .cls where the generator is conditional.

    Args:
        path: of the file; it appears when it is whole.
        blocks: the pictures, uint8 [N, C, H, W] at a time.
        first: the number of the first picture.
        plan: knows the classes.
    """
    with replacing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        number = first
        for block in blocks:
            for image in block.permute(0, 2, 3, 1).numpy():
                label = plan.label(number)
                if label is not None:
                    _add(archive, f"{number:09d}.cls", str(label).encode())
                _add(archive, f"{number:09d}.png", encoded(to_picture(image)))
                number += 1


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A file without owner and time, so that the archive's bytes hang on its content alone."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _missing(folder: Path, plan: Plan) -> list[int]:
    """The shards that are not there, in a folder that is now this plan's. Raises UserError for one that is not."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        _require_same(manifest, plan)
    elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose a new or empty folder for --out")
    else:
        write_text(manifest, plan.model_dump_json(indent=2) + "\n")
    for left in folder.glob(".shard-*.tmp"):  # by a process that was killed; whoever holds the lock is the only one
        left.unlink(missing_ok=True)
    there = {entry.name for entry in folder.iterdir()}
    return [shard for shard in range(plan.shards) if plan.name(shard) not in there]


def _require_same(manifest: Path, plan: Plan) -> None:
    """Raise UserError unless the folder holds shards of this plan."""
    try:
        found: Any = json.loads(manifest.read_text(encoding="utf-8"))
        there = {name: found.get(name) for name in Plan.model_fields}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{manifest} is damaged; choose another folder for --out") from error
    asked = plan.model_dump(mode="json")
    other = [
        f"{name} is {_short(there[name])}, not {_short(asked[name])}" for name in asked if there[name] != asked[name]
    ]
    if other:
        raise UserError(f"{manifest.parent} holds other shards ({'; '.join(other)}); choose another folder for --out")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 20 else f"{text[:12]}..."


class _Shown:
    """Tells how far all ranks are: by the shards that have appeared, and this rank's pictures of its present one.

    Args:
        missing: files that are to appear, and how many pictures each has.
        told: is told.
    """

    def __init__(self, missing: dict[Path, int], told: Told) -> None:
        self.told, self.waiting = told, missing
        self.n = sum(missing.values())
        self.looked = time.monotonic()

    def look(self, more: int = 0) -> bool:
        """Look which shards there are, and tell; whether it is all of them."""
        self.waiting = {path: size for path, size in self.waiting.items() if not path.is_file()}
        self.told(self.n - sum(self.waiting.values()) + more, self.n)
        self.looked = time.monotonic()
        return not self.waiting

    def counting(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The blocks of a shard, and a word now and then while they pass."""
        count = 0
        for block in blocks:
            yield block
            count += len(block)
            if self.told is not nobody and time.monotonic() - self.looked > SECONDS_BETWEEN_LOOKS:
                self.look(count)
