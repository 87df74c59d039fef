"""The figure taken at each checkpoint: cheap, without an extractor, the same for every recipe."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from twoplayer.core.batch import to_uint8
from twoplayer.core.observed import Observed
from twoplayer.core.protocols import Given, Latents
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches
from twoplayer.metrics.sliced_wasserstein import SlicedWasserstein
from twoplayer.runs.sampling import sample

IMAGES = 1024


def sliced_wasserstein_probe(
    batches: Batches, latents: Latents, takes: tuple[Given, ...], seed: int
) -> Callable[[nn.Module], float]:
    """A function from a generator to its sliced Wasserstein distance to the data.

    Always the same up to 1,024 real images, latents and directions, so that checkpoints of one run compare. What a
    conditional generator is told is what belongs to these images.
    """
    stream = Stream(seed).child("probe")
    n = min(IMAGES, len(batches.images))
    real = batches.some(n, stream.child("real"))
    images, given = to_uint8(real.images).cpu(), real.given(takes)
    metric = SlicedWasserstein()

    def probe(generator: nn.Module) -> float:
        fakes = sample(generator, latents, n, stream.child("latents"), given)
        return metric.measure(Observed(images), Observed(fakes), stream)[metric.name]

    return probe
