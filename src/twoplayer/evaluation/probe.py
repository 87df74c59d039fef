"""The figure taken at each checkpoint: cheap, without an extractor, the same for every recipe."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.metrics.sliced_wasserstein import SlicedWasserstein
from twoplayer.runs.sampling import sample

IMAGES = 1024


def sliced_wasserstein_probe(data: ImageData, latents: Latents, seed: int) -> Callable[[nn.Module], float]:
    """A function from a generator to its sliced Wasserstein distance to the data.

    Always the same up to 1,024 real images, latents and directions, so that checkpoints of one run compare.
    """
    stream = Stream(seed).child("probe")
    n = min(IMAGES, len(data))
    real = data.images[stream.child("real").permutation(len(data))[:n]]
    metric = SlicedWasserstein()

    def probe(generator: nn.Module) -> float:
        return metric.measure(real, sample(generator, latents, n, stream.child("latents")), stream)

    return probe
