"""Class agreement: do fakes show the class that they were asked for? The accuracy of GAN-test.

Source: Shmelkov, Schmid and Alahari 2018, How good is my GAN?, https://arxiv.org/abs/1807.09499: a classifier that was
trained on real images judges fakes whose labels are what the generator was told.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from twoplayer.core.metric import Better, SummedMetric
from twoplayer.core.observed import Measurement, Observed, View
from twoplayer.core.rng import Stream


class ClassAgreement(SummedMetric):
    """Share of the fakes whose most probable class is their label, in [0, 1].

    The classifier's own accuracy on real test images is what perfect fakes would get. Much more than that means fakes
    that are easier than real images.
    """

    name: Literal["class-agreement"] = "class-agreement"
    needs: ClassVar[tuple[View, ...]] = ("probabilities", "labels")
    better: ClassVar[dict[str, Better]] = {"class-agreement": "higher"}
    of_fakes_only: ClassVar[bool] = True
    of_classes: ClassVar[bool] = True

    def start(self) -> Measurement:
        return _Hits(self)


class _Hits(Measurement):
    def __init__(self, metric: ClassAgreement) -> None:
        self.metric = metric
        self.hits = self.total = 0

    def update(self, images: Observed, *, real: bool) -> None:
        if not real and len(images):
            named = images.see("probabilities").argmax(1)
            self.hits += int((named == images.see("labels").to(named.device)).sum())
            self.total += len(images)

    def compute(self, stream: Stream) -> dict[str, float]:
        self.metric.require(1, fake=self.total)
        return {"class-agreement": self.hits / self.total}
