"""Streaming a million small pictures: `python benchmarks/shards.py`, with
$TWOPLAYER_DATA/cifar10 and 5 GB for a while.

The pictures are the 50,000 of CIFAR-10, 32x32 JPEGs of 920 bytes on the average, 20 times each: as 100 tar shards
with a folder for each class, and as one Parquet file with row groups of 1,000. Every case runs in processes of its own;
several ranks are several processes that begin together, each with its rows of every batch. Seconds on the clock depend
on who else uses the machine, those of the processor hardly: both are told.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.data.batches import StreamedBatches
from twoplayer.data.form import Form
from twoplayer.data.shards import TarCollection, expanded
from twoplayer.data.source import Wanted, data_root, open_source

N, PER_SHARD, PER_GROUP = 1_000_000, 10_000, 1_000
BATCH, BATCHES = 256, 200
LATE = 0.9
"""Of a pass: where a run goes on."""

READ_COLD = 20_000


COLUMNS = (
    "",
    "first start",
    "later start",
    "batch at 90 %",
    "images/s, one process",
    "of two, each",
    "memory above start",
)

Spent = tuple[float, float]
"""Seconds on the clock, and of the processor."""


def main(n: int) -> None:
    """Measure everything and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["TWOPLAYER_CACHE"] = str(place / "cache")
        print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", sep="\n", flush=True)
        for name, write in ((f"{n // PER_SHARD} tar shards", write_shards), ("a Parquet file", write_parquet)):
            source = write(place, n)
            print(f"| {' | '.join([f'{n:,} in {name}', *row(source)])} |", flush=True)
        in_turn, anyhow = cold(shards_of(place, n))
        print(f"read from an empty page cache, one thread: {in_turn:,.0f}/s in order, {anyhow:,.0f}/s in any order")


def row(source: str) -> list[str]:
    """What is measured of a source, in words."""
    alone, pair = together(source, 1)[0], together(source, 2)
    return [
        *(spent(alone[what]) for what in ("first", "later", "late")),
        rate(alone),
        " and ".join(map(rate, pair)),
        f"{alone['memory']:.0f} MiB",
    ]


def spent(told: list[float]) -> str:
    """Seconds on the clock and of the processor."""
    return f"{told[0]:.1f} s ({told[1]:.1f})"


def rate(told: dict[str, Any]) -> str:
    """Images a second on the clock and of the processor."""
    clock, processor = (told["images"] / seconds for seconds in told["streaming"])
    return f"{clock:,.0f} ({processor:,.0f})"


def together(source: str, n: int) -> list[dict[str, Any]]:
    """What n processes measure, of which each waits for the others before it streams."""
    started = [
        subprocess.Popen(
            [sys.executable, __file__, source, str(rank), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    for each in started:
        assert each.stdout is not None
        each.stdout.readline()
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    return [json.loads(each.communicate()[0]) for each in started]


def measured(source: str, ranks: Ranks) -> dict[str, Any]:
    """One process: what it takes to its first batch, twice, for many, and to a late one; MiB of its own that it has."""
    os.environ["LOCAL_WORLD_SIZE"] = str(ranks.count)  # as torchrun says it
    found: dict[str, Any] = {}
    for what in ("first", "later"):
        before, begun = own_memory(), now()
        batches = opened(source)
        batches.part(0, ranks)
        found[what] = since(begun)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = now()
    for number in range(1, BATCHES + 1):
        batches.part(number, ranks)
    found |= {"streaming": since(begun), "images": BATCHES * BATCH // ranks.count, "memory": own_memory() - before}
    begun = now()
    batches.part(int(LATE * batches.per_epoch), ranks)
    found["late"] = since(begun)
    batches.close()
    return found


def opened(source: str) -> StreamedBatches:
    """As a training opens it."""
    data = open_source(source).images(Wanted(form=Form(32, 3), cache="none"))
    assert data.streamed is not None
    return StreamedBatches(data, data.streamed, BATCH, Stream(0), torch.device("cpu"), flip=True)


def now() -> Spent:
    """The clock, and the processor's time of this process."""
    return time.perf_counter(), time.process_time()


def since(begun: Spent) -> Spent:
    """What has been spent since then."""
    clock, processor = now()
    return clock - begun[0], processor - begun[1]


def own_memory() -> float:
    """MiB that this process does not share with files; Linux alone tells."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def cold(pattern: str) -> tuple[float, float]:
    """Pictures a second read by one thread from archives that are not in memory: in their order, and in any."""
    archives = expanded(pattern)
    collection = TarCollection.open(archives, pattern)
    first = random.Random(0).randrange(len(collection) - READ_COLD)
    orders = (range(first, first + READ_COLD), random.Random(1).sample(range(len(collection)), READ_COLD))
    speeds = []
    for order in orders:
        for path in archives:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        for number in order:
            collection.read(number)
        speeds.append(READ_COLD / (time.perf_counter() - begun))
    return speeds[0], speeds[1]


def pictures() -> Iterator[tuple[bytes, int]]:
    """Encoded ones and their classes, without an end."""
    root = data_root()
    assert root is not None, "TWOPLAYER_DATA names no folder"
    table = pq.read_table(root / "cifar10" / "train.parquet")
    columns: list[list[Any]] = [table.column(number).to_pylist() for number in range(2)]
    return cycle([(cell["bytes"], label) for cell, label in zip(*columns, strict=True)])


def write_shards(place: Path, n: int) -> str:
    """Shards with class folders. Returns the pattern of their names."""
    many = pictures()
    for shard in range(n // PER_SHARD):
        with (place / f"train-{shard:03}.tar").open("wb") as file:
            for number, (encoded, label) in enumerate(islice(many, PER_SHARD)):
                member = tarfile.TarInfo(f"{label}/{shard:03}{number:05}.jpg")
                member.size = len(encoded)
                header = member.tobuf(tarfile.USTAR_FORMAT)
                file.write(header + encoded + bytes(-len(encoded) % tarfile.BLOCKSIZE))
            file.write(bytes(2 * tarfile.BLOCKSIZE))
    return shards_of(place, n)


def shards_of(place: Path, n: int) -> str:
    """The pattern of the shards' names."""
    return f"{place}/train-{{000..{n // PER_SHARD - 1:03}}}.tar"


def write_parquet(place: Path, n: int) -> str:
    """One file with row groups. Returns its name."""
    many, path = pictures(), place / "many.parquet"
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(0, n, PER_GROUP):
            images, labels = zip(*islice(many, PER_GROUP), strict=True)
            writer.write_table(pa.table({"image": list(images), "label": list(labels)}, schema))
    return str(path)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measured(sys.argv[1], Ranks(int(sys.argv[2]), int(sys.argv[3])))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else N)
