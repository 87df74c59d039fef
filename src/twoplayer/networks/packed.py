"""Packing: D judges m images at once, so that it sees when fakes are too much alike.

Source: Lin, Khetan, Fanti and Oh 2018 (PacGAN), https://arxiv.org/abs/1712.04086, section 2: any discriminator whose
first layer takes m images, one behind another along the channels, all real or all fake. Neighbors in the batch form a
pack; batches are drawn at random, so packs are too.

A pack has one logit. Everywhere else a verdict has one per image, [N], so the logit (and the features) of a pack stand
once for each of its images. The mean over N images is then the mean over the N / m packs, and every objective is that
of the paper. A slope with respect to an image counts each of the m copies: penalties on slopes see m times the slope
of the pack's logit.

In training mode only whole packs are judged. In evaluation mode images from the beginning of the batch fill up the
last pack.

Deviation: a batch has as many images as without packing; the paper's has as many packs.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from twoplayer.core.catalogue import any_of
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, ImageShape, NeedsPreparation
from twoplayer.core.verdict import Verdict
from twoplayer.networks.mlp import MlpDiscriminator


class PackedDiscriminator(DiscriminatorNetwork):
    """A discriminator of packs. It names no classes, and is told no labels or conditions: a pack has several.

    Attributes:
        size: images in a pack (m in the paper); the batch size has to be a multiple of it.
        network: any unconditional discriminator, here of images with `size` times the channels.
    """

    name: Literal["packed"] = "packed"
    size: int = Field(2, ge=2, le=64)
    network: any_of(DiscriminatorNetwork) = MlpDiscriminator()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _unconditional(self) -> Self:
        if self.network.takes:
            raise ValueError(f"a pack of images has no one label or condition to tell {self.network.name}")
        return self

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        channels, height, width = image_shape
        network = self.network.build((channels * self.size, height, width), num_classes)
        if isinstance(network, NeedsPreparation):
            raise UserError(f"discriminator.network.name={self.network.name} looks at single images first: not packed")
        return _Packed(network, self.size)


class _Packed(nn.Module):
    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = self.coupled_images = size

    def forward(self, images: Tensor) -> Verdict:
        verdict: Verdict = self.network(packs(images, self.size, fill=not self.training))
        features = None if verdict.features is None else self._per_image(verdict.features, len(images))
        return Verdict(self._per_image(verdict.logits, len(images)), features)

    def _per_image(self, values: Tensor, n: int) -> Tensor:
        """What was said of each pack, once for each of its images: [N / m, ...] to [N, ...]."""
        return values.repeat_interleave(self.size, dim=0)[:n]


def packs(images: Tensor, size: int, *, fill: bool = False) -> Tensor:
    """Neighbors one behind another: [N, C, H, W] to [N / size, size * C, H, W].

    Args:
        images: in the order in which they are packed.
        size: of a pack.
        fill: complete the last pack with images from the beginning.

    Raises:
        UserError: an incomplete pack is left over and not to be filled.
    """
    if len(images) % size:
        if not fill:
            raise UserError(f"batch_size={len(images)} has to be a multiple of discriminator.size={size}")
        whole = -(-len(images) // size) * size
        images = images[torch.arange(whole, device=images.device) % len(images)]
    packed: Tensor = images.unflatten(0, (-1, size)).flatten(1, 2)
    return packed
