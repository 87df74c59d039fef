"""Does what `twoplayer train auto` chooses train stably? Five data sets, several seeds, nothing touched.

    TWOPLAYER_DATA=... python benchmarks/stability.py RUNS --seeds 3 --at-once 2

Each run is `twoplayer train auto --data SOURCE seed=S`, kept in RUNS/NAME-S. One that has ended is not trained again,
one that was stopped goes on. Then the doctor reads the whole log: what it says at the end, and what it said at any time
before. Figures: up to 2,000 fakes of the averaged generator beside as many real images that were not trained on.
Prints the table; RUNS/NAME.png has 25 pictures of each seed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from PIL import Image

import twoplayer as tp
from twoplayer.evaluation.doctor import remarks
from twoplayer.trained import Run

SETS = {
    "digits": ("digits", []),
    "mnist": ("mnist", []),
    "cifar10": ("cifar10", []),
    "horses": ("cifar10", ["data.classes=[horse]"]),
    "five-hundred": ("cifar10", ["data.limit=500"]),
}
"""By name: the source, and what is said to take a part of it."""


def train(place: Path, name: str, seed: int, threads: int) -> None:
    """Train to the end, unless that has been done."""
    if (place / "config.yaml").exists():
        words = ["--resume"]
    else:
        source, part = SETS[name]
        words = ["auto", "--data", source, *part, f"seed={seed}"]
    command = [sys.executable, "-m", "twoplayer", "train", *words, "--out", str(place), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


def said_before(run: Run) -> set[str]:
    """All that the doctor said of the log while it grew, by what it names."""
    rows, told = run.metrics, remarks(run.recipe)
    looked = [line for n in range(1, len(rows) + 1) for line in told(rows[:n])]
    return {line.split(": ")[1] for line in looked if not line.startswith("doctor: no longer")}


def line_of(name: str, runs: list[Run]) -> str:
    """A row of the table."""
    judged = [run.evaluate(n=2000, seeds=1) for run in runs]
    keys = [next(key for key in figures if key.startswith("fid_")) for figures in judged]
    distances = [figures[key] for figures, key in zip(judged, keys, strict=True)]
    verdicts = {figures["doctor"]["verdict"] for figures in judged}
    before = set().union(*map(said_before, runs)) or {"nothing"}
    kimg = ", ".join(f"{float(run.metrics[-1]['kimg'] or 0):.0f}" for run in runs)
    minutes = ", ".join(f"{float(run.metrics[-1]['seconds'] or 0) / 60:.0f}" for run in runs)
    fid = ", ".join(f"{each['value']:.0f}" for each in distances)
    floor = f"{min(each['floor'] for each in distances):.0f}"
    said = "; ".join(sorted(verdicts))
    return f"| {name} | {kimg} | {minutes} | {said} | {', '.join(sorted(before))} | {fid} ({floor}, {keys[0]}) |"


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Grids of one size in a row."""
    gap = 16
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + gap) - gap, height), "white")
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * (width + gap), 0))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1)
    asked = parser.parse_args()
    threads = max((os.cpu_count() or 1) // asked.at_once, 1)
    jobs = list(product(range(asked.seeds), SETS))
    with ThreadPoolExecutor(asked.at_once) as pool:
        list(pool.map(lambda job: train(asked.runs / f"{job[1]}-{job[0]}", job[1], job[0], threads), jobs))
    lines = ["| data | thousands of images | minutes | the doctor at the end | and before | Frechet distance (floor) |"]
    lines.append("|---|---|---|---|---|---|")
    for name in SETS:
        runs = [tp.load(asked.runs / f"{name}-{seed}") for seed in range(asked.seeds)]
        side_by_side([run.grid(25) for run in runs]).save(asked.runs / f"{name}.png")
        lines.append(line_of(name, runs))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
