"""Beside the published table: the same sample counts, trainings shortened to what a processor does in half an hour.

    TWOPLAYER_DATA=... python benchmarks/published.py RUNS --at-once 2

Stacked MNIST: how many of 1,000 modes are among 26,000 fakes, and the divergence of their shares from those of real
images (twoplayer/bench/stacked.py). CIFAR-10: the Frechet distance of 50,000 fakes to the 50,000 training images, by
the classifier that `twoplayer evaluate` trains: not Inception, so the published distances are on another scale; the
floor beside it is that of the 10,000 test images. Runs are kept in RUNS and not trained again. Prints the table;
RUNS/NAME.png has 25 pictures of each.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from trainings import train_to_the_end

import twoplayer as tp
from twoplayer.bench.stacked import StackedMnist
from twoplayer.core.rng import Stream
from twoplayer.evaluation.extraction import observe_real
from twoplayer.judging import Judge
from twoplayer.metrics.frechet import Moments, frechet_distance
from twoplayer.trained import Run

FAKES = 50_000
ALONE = ("objective={name: minimax}", "regularizers=[{name: r1, gamma: 0.3}]")
"""Instead of the relativistic game with both penalties."""


def of_both(*keys: str) -> tuple[str, ...]:
    """The same words about both players."""
    return tuple(f"{role}.{key}" for role in ("generator", "discriminator") for key in keys)


RATES = tuple(f"optimizers.{word}" for word in of_both("learning_rate=0.0005"))
NARROW = of_both("widths=[64,32,16]", "blocks=[1]")
NARROWER = of_both("widths=[64,32,32,16]", "blocks=[1]", "group_size=8")
"""Of players made for a GPU."""
FEW_TOLD = ("generator.embedding_dim=4",)
"""With a class vector as long as z so narrow a G drew one picture for each class."""

ADAM = "{name: adam, learning_rate: 0.0002, beta1: 0.0, beta2: 0.9}"
FIVE = ("play.discriminator_steps=5", "steps=625", f"optimizers.generator={ADAM}", f"optimizers.discriminator={ADAM}")
WGAN_GP = ("objective={name: wasserstein}", "regularizers=[{name: gradient-penalty}]", *FIVE)
SNGAN = ("objective={name: hinge}", "regularizers=[{name: spectral-normalization}]", *FIVE)
"""The same players in other games, with five updates of D for each of G, as their papers have; as many images."""


@dataclass(frozen=True)
class Row:
    """A training beside a published figure.

    Attributes:
        name: of the run's folder.
        words: behind `twoplayer train`.
        published: the figure, of the reading list's last section, and of what.
    """

    name: str
    words: tuple[str, ...]
    published: str


SMALL = "1,000 modes, KL 0.078: relativistic, R1, R2"
STACKED = (
    Row("stacked-rpgan", ("stacked-mnist-rpgan", *NARROW, *RATES, "steps=600"), f"{SMALL}, small residual players"),
    Row("stacked-auto", ("auto", "data.source=stacked-mnist"), f"{SMALL}; here the players of `auto`"),
    Row("stacked-alone", ("auto", "data.source=stacked-mnist", *ALONE), "diverges: R1 alone, no pairs"),
    Row("stacked-dcgan", ("mnist-dcgan", "data.source=stacked-mnist", "steps=1563"), "99 modes, KL 3.40: DCGAN"),
)
CIFAR10 = (
    Row("cifar10-auto", ("auto", "data.source=cifar10"), "1.96: relativistic, R1, R2; here the players of `auto`"),
    Row(
        "cifar10-r3gan",
        ("cifar10-r3gan", *NARROWER, *FEW_TOLD, *RATES, "batch_size=32", "average.half_life_kimg=1.0", "steps=1200"),
        "1.96: relativistic, R1, R2, players without normalization",
    ),
    Row("cifar10-sngan", ("auto", "data.source=cifar10", *SNGAN), "16.8: SNGAN"),
    Row("cifar10-wgan-gp", ("auto", "data.source=cifar10", *WGAN_GP), "22.3 to 26.1: WGAN-GP"),
    Row("cifar10-dcgan", ("mnist-dcgan", "data.source=cifar10", "steps=1563"), "48.3 or 29.0: DCGAN"),
)


def modes(run: Run) -> str:
    """Of the fakes, and of as many real images."""
    data, stream = StackedMnist(), Stream(0)
    found, floor = data.judge(run.generator, run.recipe.latents, stream), data.floor(stream)
    fakes, reals = (f"{each['modes']:,.0f} modes, KL {each['kl']:.3f}" for each in (found, floor))
    return f"{fakes} (real images: {reals})"


def distance(run: Run) -> str:
    """To the training images, and that of the test images."""
    judge = Judge(run.recipe, n=FAKES, seeds=1)
    network = judge.fitted.network
    train, test = (Moments.of(observe_real(judge.fitted, data).see("features")) for data in (judge.train, judge.real))
    parts = [Moments.of(network.observe(run.sample(FAKES // 10, seed)).see("features")) for seed in range(10)]
    drawn = reduce(Moments.merged, parts)
    return f"{frechet_distance(train, drawn):.1f} (test images: {frechet_distance(train, test):.1f})"


def line_of(row: Row, run: Run, reached: Callable[[Run], str]) -> str:
    """A row of the table."""
    last = run.metrics[-1]
    shown = f"{float(last['kimg'] or 0):,.0f}, {float(last['seconds'] or 0) / 60:.0f} min"
    found = [reached(run)] if run.folder.generator.exists() else []
    if run.folder.failure.exists():
        found.append("diverged")
    return f"| {row.published} | `{shlex.join(('twoplayer', 'train', *row.words))}` | {shown} | {', '.join(found)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--at-once", type=int, default=1)
    asked = parser.parse_args()
    threads = max((os.cpu_count() or 1) // asked.at_once, 1)
    with ThreadPoolExecutor(asked.at_once) as pool:
        list(pool.map(lambda row: train_to_the_end(row.words, asked.runs / row.name, threads), (*STACKED, *CIFAR10)))
    print("| published | here | thousands of images | reached (the floor) |\n|---|---|---|---|")
    for rows, reached in ((STACKED, modes), (CIFAR10, distance)):
        for row in rows:
            run = tp.load(asked.runs / row.name)
            if run.folder.generator.exists():
                run.grid(25).save(asked.runs / f"{row.name}.png")
            print(line_of(row, run, reached), flush=True)


if __name__ == "__main__":
    main()
