"""Does what `twoplayer train auto` chooses train stably? Five data sets, several seeds, nothing touched.

    TWOPLAYER_DATA=... python benchmarks/stability.py RUNS --seeds 3 --at-once 2

Each run is `twoplayer train auto --data SOURCE seed=S`, kept in RUNS/NAME-S. One that has ended is not trained again,
one that was stopped goes on. Then the doctor reads the whole log: what it says of each seed at the end, and what it
would have said after any line before. Figures: fakes of the averaged generator beside as many real images that were not
trained on, 2,000 where there are so many; the features are those that `twoplayer evaluate` chooses, so distances of two
data sets are not to be compared. Minutes are those of trainings that shared the machine, where --at-once says so.
Prints the table; RUNS/NAME.png has 25 pictures of each seed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from PIL import Image
from trainings import train_to_the_end

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


def train(runs: Path, seed: int, name: str, threads: int) -> None:
    """One of the trainings."""
    source, part = SETS[name]
    words = ["auto", "--data", source, *part, f"seed={seed}"]
    train_to_the_end(words, runs / f"{name}-{seed}", threads)


def said_before(run: Run) -> set[str]:
    """What the doctor names in the log while it grows."""
    rows, told = run.metrics, remarks(run.recipe)
    looked = [line for n in range(1, len(rows)) for line in told(rows[:n])]
    return {line.split(": ")[1] for line in looked if not line.startswith("doctor: no longer")}


def distance(run: Run) -> str:
    """The Frechet distance and its floor."""
    figures = run.evaluate(n=2000, seeds=1)
    key = next(key for key in figures if key.startswith("fid_"))
    return f"{figures[key]['value']:.3g} (floor {figures[key]['floor']:.2g}, {key}, n = {figures[key]['n_fake']})"


def lines_of(name: str, runs: list[Run]) -> Iterator[str]:
    """A line for each seed."""
    for seed, run in enumerate(runs):
        last, verdict = run.metrics[-1], run.diagnose()
        unseen = f"; not examined: {'; '.join(verdict.not_examined)}" if verdict.not_examined else ""
        cells = [name, str(seed), f"{float(last['kimg'] or 0):.0f}", f"{float(last['seconds'] or 0) / 60:.0f}"]
        cells += [verdict.words + unseen, ", ".join(sorted(said_before(run))) or "nothing", distance(run)]
        yield f"| {' | '.join(cells)} |"


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
        list(pool.map(lambda job: train(asked.runs, job[0], job[1], threads), jobs))
    print("| data | seed | thousands of images | minutes | the doctor at the end | and before | Frechet distance |")
    print("|---|---|---|---|---|---|---|")
    for name in SETS:
        runs = [tp.load(asked.runs / f"{name}-{seed}") for seed in range(asked.seeds)]
        side_by_side([run.grid(25) for run in runs]).save(asked.runs / f"{name}.png")
        for line in lines_of(name, runs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
