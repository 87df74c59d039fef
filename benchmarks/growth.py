"""How time per step and memory grow with the number of images: `python benchmarks/growth.py`.

Prepared images are indexed; streamed ones are tiny PNGs in a Parquet file. Each case runs in a process of its own.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches, IndexedBatches, StreamedBatches
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import Wanted, open_source

BATCH, BATCHES, SIDE = 64, 400, 8
COUNTS = (1_000, 1_000_000)


def main() -> None:
    """Measure everything and print a table."""
    print(
        f"| images | where | median ms per batch of {BATCH} | first batch, ms | memory above start, MiB |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for n in COUNTS:
        for where in ("prepared", "streamed"):
            told = subprocess.run([sys.executable, __file__, where, str(n)], capture_output=True, text=True, check=True)
            found = json.loads(told.stdout)
            print(f"| {n:,} | {where} | {found['median']:.2f} | {found['first']:.0f} | {found['memory']:.0f} |")


def measured(where: str, n: int) -> dict[str, float]:
    """One case."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.parquet"
        if where == "streamed":
            write_parquet(path, n)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        batches = batches_of(where, n, path)
        times = []
        for number in range(BATCHES):
            begun = time.perf_counter()
            batches[number % batches.per_epoch if where == "prepared" else number]
            times.append(1e3 * (time.perf_counter() - begun))
        batches.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"median": median(times[1:]), "first": times[0], "memory": memory / 1024}


def batches_of(where: str, n: int, path: Path) -> Batches:
    """Batches of n images."""
    cpu = torch.device("cpu")
    if where == "prepared":
        return IndexedBatches(
            ImageData(torch.zeros(n, 3, SIDE, SIDE, dtype=torch.uint8), "many"), BATCH, Stream(0), cpu
        )
    data = open_source(str(path)).images(Wanted(form=Form(SIDE, 3), cache="none"))
    assert data.streamed is not None
    return StreamedBatches(data, data.streamed, BATCH, Stream(0), cpu)


def write_parquet(path: Path, n: int) -> None:
    """n different pictures in row groups of 1,000."""
    draw = np.random.default_rng(0)
    pictures = iter(lambda: encoded(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)), None)
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(0, n, 1000):
            writer.write_table(pa.table({"image": list(islice(pictures, 1000))}, schema))


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=0)
    return buffer.getvalue()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
