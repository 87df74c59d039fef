"""Every figure of the catalogue about one generator, each with its spread, its floor and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev
from typing import Any, Protocol

from twoplayer.core.catalogue import components, discover
from twoplayer.core.errors import UserError
from twoplayer.core.metric import Metric
from twoplayer.core.observed import Observed, View
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.evaluation.extraction import Fitted, observe_real, remembered
from twoplayer.evaluation.game import Figures
from twoplayer.metrics.memorization import memorization
from twoplayer.metrics.modes import class_shares

SEEN_BY_EXTRACTOR: frozenset[View] = frozenset({"features", "probabilities"})

MEMORIZATION_IMAGES = 2000
"""Fakes, and held-out images, whose nearest training images are looked for."""

discover("twoplayer.metrics")

Values = dict[str, float]


class Draw(Protocol):
    """Draws fakes."""

    def __call__(self, n: int, place: Stream, *, seen: bool = True) -> Observed:
        """n fakes: pixels, of a conditional generator the labels asked for, and what the extractor sees, if wanted."""


@dataclass(frozen=True)
class Pool:
    """Real images, and how the extractor sees them."""

    data: ImageData
    seen: Observed

    @classmethod
    def of(cls, data: ImageData, extractor: Fitted, see: Callable[[], Observed] | None = None) -> Pool:
        """All images of a data set; `see` as for `observe_real`."""
        return cls(data, observe_real(extractor, data, see))


@dataclass(frozen=True)
class Evaluation:
    """What figures are made of.

    Attributes:
        extractor: images to features.
        real: what fakes are compared with.
        train: what the generator learned from, where that is something else.
        n: fakes, and real images, in each figure; fewer where there are not so many real images.
        seeds: how often each figure is taken, with other latents and other real images.
    """

    extractor: Fitted
    real: Pool
    train: Pool | None = None
    n: int = 2000
    seeds: int = 3

    @property
    def size(self) -> int:
        """Images of each kind in a figure; for its floor there have to be twice as many real ones in one set."""
        held_out = len(self.real.data)
        halves = max(held_out, 0 if self.train is None else len(self.train.data)) // 2
        return min(self.n, held_out, halves)

    @property
    def floor_pool(self) -> Pool:
        """Where the floor's two halves come from: the same images, or those of training where there are too few."""
        return self.real if self.train is None or 2 * self.size <= len(self.real.data) else self.train

    def compared_with(self, place: Stream) -> Observed:
        """The real images that fakes are compared with."""
        return self.real.seen[place.child("halves").permutation(len(self.real.seen))[: self.size]]

    def floor_pair(self, place: Stream) -> tuple[Observed, Observed]:
        """Disjoint real images of one distribution, as many of each: the second take the place of fakes."""
        pool, n = self.floor_pool.seen, self.size
        order = place.child("halves").permutation(len(pool))
        return pool[order[:n]], pool[order[n : 2 * n]]

    def fakes(self, draw: Draw, place: Stream) -> Observed:
        """As many fakes, seen in the same way."""
        return draw(self.size, place.child("fakes"))

    @property
    def floor_key(self) -> tuple[Any, ...]:
        """What floors depend on, beside seed and metric."""
        return self.extractor.facts["weights_sha256"], self.floor_pool.data.fingerprint, self.size

    @property
    def names_classes(self) -> bool:
        """Whether the extractor's classes are those of the data."""
        named = self.real.seen.probabilities
        return named is not None and named.shape[1] == len(self.real.data.class_names)

    @property
    def facts(self) -> dict[str, Any]:
        """Where all figures come from."""
        data, n = self.real.data, self.size
        return {
            "n_real": n,
            "n_fake": n,
            "seeds": self.seeds,
            "data": data.name,
            "split": data.split,
            "floor_split": self.floor_pool.data.split,
            "data_sha256": data.fingerprint,
            "image_shape": list(data.shape),
        }


def catalogue_figures(draw: Draw, evaluation: Evaluation) -> tuple[Figures, list[str]]:
    """The figures of every metric that can look at these images, and why others could not be taken."""
    values: dict[Metric, list[tuple[Values, Values]]] = {}
    shares: list[tuple[list[float], list[float]]] = []
    refused: dict[str, None] = {}
    for seed in range(evaluation.seeds):
        place = Stream(seed).child("evaluate")
        real, fake = evaluation.compared_with(place), evaluation.fakes(draw, place)
        half, other = evaluation.floor_pair(place)
        for metric in _metrics():
            if metric.of_classes and not evaluation.names_classes:
                continue
            if all(fake.has(view) and other.has(view) for view in metric.needs):
                try:
                    of_fakes = metric.measure(real, fake, place)
                    key = [*evaluation.floor_key, seed, metric.model_dump(mode="json")]
                    floor = remembered(key, partial(metric.measure, half, other, place))
                    values.setdefault(metric, []).append((of_fakes, floor))
                except UserError as error:
                    refused[str(error)] = None
        if fake.probabilities is not None and real.probabilities is not None:
            shares.append((class_shares(fake.probabilities).tolist(), class_shares(real.probabilities).tolist()))
    figures: Figures = {}
    for metric, found_by_seed in values.items():
        figures |= _summed_up(metric, found_by_seed, evaluation)
    names = evaluation.real.data.class_names
    if shares and evaluation.names_classes:
        figures[evaluation.extractor.figure("class-shares")] = _shares_figure(shares, names, evaluation)
    return figures, list(refused)


def _metrics() -> list[Metric]:
    known: dict[str, type[Metric]] = components(Metric)  # type: ignore[type-abstract]
    return [piece.model_validate({"name": name}) for name, piece in known.items()]


def _summed_up(metric: Metric, found: list[tuple[Values, Values]], evaluation: Evaluation) -> Figures:
    """A metric's figures over the seeds."""
    extracted = bool(SEEN_BY_EXTRACTOR & set(metric.needs))
    figures: Figures = {}
    for key, better in metric.better.items():
        values, floors = ([one[key] for one in side] for side in zip(*found, strict=True))
        figure = over_seeds(values, floors) | {"better": better}
        for deviation, of in metric.deviations.items():
            if of == key:
                figure["deviation"] = fmean(fake[deviation] for fake, _ in found) or None  # 0: of one part only
        figure |= {"metric": metric.model_dump(mode="json")} | evaluation.facts
        name = evaluation.extractor.figure(key) if extracted else key
        if extracted:
            figure["extractor"] = evaluation.extractor.provenance
        figures[name] = figure
    return figures


def _shares_figure(
    shares: list[tuple[list[float], list[float]]], names: tuple[str, ...], evaluation: Evaluation
) -> dict[str, Any]:
    """Which share of the fakes, and of the reals, the extractor takes for each class."""
    fakes, reals = (
        {name: fmean(share) for name, *share in zip(names, *side, strict=True)} for side in zip(*shares, strict=True)
    )
    return {"shares": fakes, "real_shares": reals, "extractor": evaluation.extractor.provenance} | evaluation.facts


def memorization_figure(draw: Draw, evaluation: Evaluation) -> dict[str, Any]:
    """Whether fakes are copies of training images; needs images that the generator did not learn from.

    Half of the held-out images say what is near, and the other half, in the place of fakes, makes the floor: that of
    images which nobody copied, whatever tells the two splits apart.
    """
    assert evaluation.train is not None, "memorization needs training images beside the held-out ones"
    pool, train = evaluation.real.seen, evaluation.train.seen.see("features")
    n = min(MEMORIZATION_IMAGES, len(pool) // 2)
    found, floors = [], []
    for seed in range(evaluation.seeds):
        place = Stream(seed).child("evaluate", "memorization")
        order = place.child("held-out").permutation(len(pool))
        near, fresh = (pool[rows].see("features") for rows in (order[:n], order[n : 2 * n]))
        found.append(memorization(train, near, draw(n, place.child("fakes")).see("features")))
        floors.append(memorization(train, near, fresh))
    figure: dict[str, Any] = {}
    for name in ("nearer_to_train", "distance_ratio", "copying_z"):
        figure[name] = over_seeds(*([getattr(one, name) for one in side] for side in (found, floors)))
    figure["extractor"] = evaluation.extractor.provenance
    counts = {"n_train": len(train), "n_real": n, "n_fake": n, "floor_split": evaluation.real.data.split}
    return figure | evaluation.facts | counts


def provenance(figures: Figures) -> list[str]:
    """What the figures were made from, as lines for a person."""
    distance = figures["sliced-wasserstein"]
    n, split = distance["n_fake"], distance["split"]
    lines = [
        f"data       {distance['data']}, {split} split: {n:,} fakes, {n:,} real images, {distance['seeds']} times; "
        f"floor: disjoint real images of the {distance['floor_split']} split"
    ]
    extracted = [figure["extractor"] for figure in figures.values() if "extractor" in figure]
    if extracted:
        facts = extracted[0]
        right = f", {facts['held_out_accuracy']:.2%} right on held-out images" if "held_out_accuracy" in facts else ""
        lines.append(f"extractor  {facts['id']} {facts['weights_sha256'][:12]}{right}")
    return lines


def series(by_step: dict[int, Figures]) -> dict[str, Any]:
    """The course of each figure with a value over checkpoints: by figure, a list of step, value and spread."""
    steps = sorted(by_step)
    names = [name for name, figure in by_step[steps[-1]].items() if "value" in figure] if steps else []
    return {
        name: [{"step": step} | {key: by_step[step][name][key] for key in ("value", "spread")} for step in steps]
        for name in names
    }


def over_seeds(values: Sequence[float], floors: Sequence[float]) -> dict[str, Any]:
    """Means and population deviations of a figure and of its floor; JSON has no infinity, such ones are null."""
    found: dict[str, Any] = {}
    for name, spread, numbers in (("value", "spread", values), ("floor", "floor_spread", floors)):
        finite = all(map(math.isfinite, numbers))
        found |= {name: fmean(numbers) if finite else None, spread: pstdev(numbers) if finite else None}
    return found
