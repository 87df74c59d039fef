"""Number of statistically different bins: where in the real distribution there are too many or too few fakes.

Source: Richardson and Weiss 2018, On GANs and GMMs, https://arxiv.org/abs/1805.12462: k-means cuts the real images into
bins, each fake goes to the bin with the nearest center, and the proportions of each bin are compared with a
two-proportion z-test. The Jensen-Shannon divergence of the proportions is from the authors' program.
"""

from __future__ import annotations

import warnings
from statistics import NormalDist
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View
from twoplayer.core.rng import Stream
from twoplayer.metrics.distances import jensen_shannon

Array = NDArray[np.float64]


class DifferentBins(Metric):
    """Share of the bins that differ, and the Jensen-Shannon divergence in nats.

    With equal distributions about `significance` of the bins differ. More images tell finer differences apart: figures
    at different N do not compare.

    Attributes:
        bins: how many; fewer where real images are equal.
        significance: how often a bin may be called different by chance.
        view: what the images are compared by.
    """

    name: Literal["different-bins"] = "different-bins"
    better: ClassVar[dict[str, Better]] = {"ndb": "lower", "ndb-js": "lower"}
    bins: int = Field(100, ge=2)
    significance: float = Field(0.05, gt=0.0, lt=1.0)
    view: Literal["features", "pixels"] = "features"

    @property
    def needs(self) -> tuple[View, ...]:
        return (self.view,)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(self.bins, real=len(real))
        self.require(1, fake=len(fake))
        reals, fakes = (images.see(self.view).flatten(1).double().cpu().numpy() for images in (real, fake))
        of_real, of_fake = binned(reals, fakes, self.bins, stream.child("bins"))
        return {
            "ndb": float(different(of_real, of_fake, self.significance).mean()),
            "ndb-js": jensen_shannon(of_real / len(reals), of_fake / len(fakes)),
        }


def binned(reals: Array, fakes: Array, bins: int, stream: Stream) -> tuple[Array, Array]:
    """How many of the reals [N, F] and the fakes [M, F] are in each bin that is not empty, [bins] or fewer."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    seed = stream.derived_seed() % 2**32
    with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():  # threads would add in any order
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct images than bins
        means: Any = KMeans(bins, n_init=1, random_state=seed).fit(reals)
        where = means.predict(reals), means.predict(fakes)
    of_real, of_fake = (np.bincount(bin_of, minlength=bins).astype(np.float64) for bin_of in where)
    return of_real[of_real + of_fake > 0], of_fake[of_real + of_fake > 0]


# The two-proportion z-test: z = (P - Q) / SE with the pooled proportion's standard error.
def different(one: Array, other: Array, significance: float) -> NDArray[np.bool_]:
    """Whether counts [K] and [K] over the same bins, none of them empty in both, differ more than chance explains."""
    n, m = one.sum(), other.sum()
    pooled = (one + other) / (n + m)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m))
    bound = NormalDist().inv_cdf(1.0 - significance / 2.0)
    found: NDArray[np.bool_] = np.abs(one / n - other / m) > bound * error
    return found
