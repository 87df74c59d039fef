"""DRAGAN: D's slope is pulled to a target around the real images, not between them and the fakes.

Source: Kodali, Abernethy, Hays and Kira 2017, https://arxiv.org/abs/1705.07215, section 2.3, with the perturbation
that they run: x^ = x + u * strength * deviation * r, where the deviation is that of all pixels of the batch, r is
uniform in [0, 1) per pixel and u per image.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.ranks import batch_deviation
from twoplayer.core.rng import Stream
from twoplayer.regularizers.gradient_penalty import PulledSlope


class Dragan(PulledSlope):
    """Gradient penalty around reals.

    Attributes:
        strength: of the perturbation, in standard deviations of the batch's pixels.
    """

    coupled_images: ClassVar[int | None] = None

    name: Literal["dragan"] = "dragan"
    strength: float = Field(0.5, ge=0.0)

    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """Each real, perturbed; the fakes have no part in it."""
        images = real.images
        perturbation = stream.child("perturbation").uniform(tuple(images.shape), like=images)
        share = stream.child("interpolation").uniform((len(images), 1, 1, 1), like=images)
        return images + share * (self.strength * batch_deviation(images)) * perturbation
