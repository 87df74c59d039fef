"""Inception score: fakes of which each is clearly of one class, and which together are of all classes.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 4: exp E_x KL(p(y|x) || p(y)), the mean over ten
parts of the fakes. The parts are those of the original program, from i N / 10 to (i + 1) N / 10 rounded down.

It is called so for the classes of one Inception network; with another classifier it is another figure.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean, pstdev
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View
from twoplayer.core.rng import Stream


class InceptionScore(Metric):
    """From 1, when all fakes get the same probabilities, to the number of classes, when they are sure and balanced.

    Real images are not looked at: a generator that knows one image of each class by heart is given the best score.

    Attributes:
        splits: parts of consecutive fakes; where their number is no multiple, parts differ in size by one. The
            deviation is the population's over them. The order of the fakes must be random: parts of one class each
            would have score 1.
    """

    name: Literal["inception-score"] = "inception-score"
    needs: ClassVar[tuple[View, ...]] = ("probabilities",)
    better: ClassVar[dict[str, Better]] = {"inception-score": "higher"}
    deviations: ClassVar[dict[str, str]] = {"inception-score-deviation": "inception-score"}
    of_fakes_only: ClassVar[bool] = True
    splits: int = Field(10, ge=1)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(self.splits, fake=len(fake))
        probabilities, n = fake.see("probabilities").double(), len(fake)
        ends = [part * n // self.splits for part in range(self.splits + 1)]
        scores = [exp_mutual_information(probabilities[start:end]) for start, end in pairwise(ends)]
        return {"inception-score": fmean(scores), "inception-score-deviation": pstdev(scores)}


# E_x KL(p(y|x) || p(y)) is H(y) - H(y|x), the mutual information of image and class.
def exp_mutual_information(probabilities: Tensor) -> float:
    """exp (H(mean of rows) - mean of H(row)) of probabilities [N, K], float64; 1 to K."""
    marginal = probabilities.mean(0)
    conditional = torch.xlogy(probabilities, probabilities).sum(1).mean()
    return math.exp(max(float(conditional - torch.xlogy(marginal, marginal).sum()), 0.0))
