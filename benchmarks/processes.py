"""What several processes cost: a model of the time per step, beside what 1, 2 and 4 processes on this machine take.

    TWOPLAYER_DATA=... python benchmarks/processes.py mnist-auto
    TWOPLAYER_DATA=... python benchmarks/processes.py digits generator.batch_norm=false batch_size=64

The model: a step of p processes takes what one process takes for its share of the batch, as many times as processes
share a core, and one exchange for each player. Both are measured apart: shares by one process that trains alone with a
batch of that size, exchanges by all-reducing tensors of the players' sizes. Every process computes on one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

COUNTS = (1, 2, 4)
ROUNDS = 3
STEPS = 60
LINE = 10
BYTES = 4
"""Of a float32."""

EXCHANGES = 30
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def launched(count: int, *words: str) -> str:
    """What so many processes print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *words]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout


def seconds_per_step(count: int, words: list[str], batch: int) -> tuple[float, dict[str, int]]:
    """Of a training, and how many parameters the players have; the first lines of the log are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        rhythm = [f"steps={STEPS}", f"log_every={LINE}", "sample_every=1000000", "checkpoint_every=1000000"]
        settings = [f"batch_size={batch}", *rhythm, "compile=false", "--out", str(run), "--quiet"]
        launched(count, "-m", "twoplayer", "train", *words, *settings)
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rates = [json.loads(line)["images_per_second"] for line in lines[2:-1]]
        parameters = json.loads((run / "environment.json").read_text(encoding="utf-8"))["parameters"]
    return batch / statistics.median(rates), parameters


def exchange_seconds(count: int, numbers: int) -> float:
    """The median time of an all-reduce among so many processes."""
    return 0.0 if count == 1 else float(launched(count, __file__, "--exchange", str(numbers)))


def exchange(numbers: int) -> None:
    """Time all-reduces of so many numbers; a process of `exchange_seconds`."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    tensor, taken = torch.zeros(numbers), []
    for _ in range(EXCHANGES):
        distributed.barrier()
        begun = time.perf_counter()
        distributed.all_reduce(tensor)
        taken.append(time.perf_counter() - begun)
    if distributed.get_rank() == 0:
        print(statistics.median(taken))
    distributed.destroy_process_group()


def compared(words: list[str], batch: int) -> list[dict[str, Any]]:
    """The model and what was measured, for each number of processes; the rounds take turns."""
    cores = os.cpu_count() or 1
    shares: dict[int, list[float]] = {count: [] for count in COUNTS}
    together: dict[int, list[float]] = {count: [] for count in COUNTS}
    parameters: dict[str, int] = {}
    for _ in range(ROUNDS):
        for count in COUNTS:
            shares[count].append(seconds_per_step(1, words, batch // count)[0])
            found, parameters = seconds_per_step(count, words, batch)
            together[count].append(found)
    rows = []
    for count in COUNTS:
        exchanges = sum(exchange_seconds(count, numbers) for numbers in parameters.values())
        compute = statistics.median(shares[count]) * max(1.0, count / cores)
        measured = statistics.median(together[count])
        sent = sum(2 * (count - 1) / count * BYTES * numbers for numbers in parameters.values())
        row = {"processes": count, "share": batch // count, "compute": compute, "exchange": exchanges, "sent": sent}
        rows.append(row | {"model": compute + exchanges, "measured": measured})
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--exchange"]:
        exchange(int(sys.argv[2]))
        return
    words = [word for word in sys.argv[1:] if not word.startswith("batch_size=")] or ["digits"]
    batch = next((int(word.split("=")[1]) for word in sys.argv[1:] if word.startswith("batch_size=")), 64)
    print(
        "| processes | images each | compute, ms | exchange, ms | sent by each, MB | model, ms | measured, ms | of it |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in compared(words, batch):
        times = [f"{1000 * row[key]:,.1f}" for key in ("compute", "exchange")]
        ends = [f"{1000 * row[key]:,.1f}" for key in ("model", "measured")]
        sent, share = f"{row['sent'] / 1e6:.2f}", f"{row['model'] / row['measured']:.0%}"
        print("|", " | ".join([str(row["processes"]), str(row["share"]), *times, sent, *ends, share]), "|")


if __name__ == "__main__":
    main()
