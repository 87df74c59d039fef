"""One generator made of the levels of a Laplacian pyramid: coarse to fine, each level adds detail to the last.

Source: Denton et al. 2015, https://arxiv.org/abs/1506.05751, equation 3. The latents of all levels stand one after the
other in z, so that it looks and samples like any generator: z (and label) to image.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.catalogue import Settings, any_of
from twoplayer.core.protocols import GeneratorNetwork, Given, ImageShape
from twoplayer.networks.lapgan import LapganGenerator
from twoplayer.networks.mlp import MlpGenerator
from twoplayer.ops.pyramid import upsample


class PyramidLevel(Settings):
    """One level.

    Attributes:
        latent_dim: numbers of z that belong to it; left out, what its generator needs.
        generator: its generator; all but the coarsest take a condition.
    """

    latent_dim: int | None = Field(None, ge=1)
    generator: any_of(GeneratorNetwork)  # type: ignore[valid-type]


class PyramidGenerator(GeneratorNetwork):
    """Levels, coarsest first; each next one is of twice the size.

    Attributes:
        levels: at least one.
    """

    name: Literal["pyramid"] = "pyramid"
    levels: tuple[PyramidLevel, ...] = Field(
        (
            PyramidLevel(latent_dim=16, generator=MlpGenerator()),
            PyramidLevel(generator=LapganGenerator(conditional=False)),
        ),
        min_length=1,
        strict=False,
    )

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if any("labels" in level.generator.takes for level in self.levels) else ()

    def latents_for(self, image_shape: ImageShape) -> int | None:
        return sum(self._latent_dims(image_shape))

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        shapes, dims = self.shapes(image_shape), self._latent_dims(image_shape)
        assert latent_dim == sum(dims), f"{latent_dim} latents for levels of {dims}"
        networks = [
            level.generator.build(dim, shape, num_classes)
            for level, dim, shape in zip(self.levels, dims, shapes, strict=True)
        ]
        return _Pyramid(networks, dims, [level.generator.takes for level in self.levels], shapes)

    def shapes(self, image_shape: ImageShape) -> list[ImageShape]:
        """The image shape of each level, coarsest first."""
        channels, height, width = image_shape
        found = [(channels, height, width)]
        for _ in self.levels[1:]:
            height, width = -(-height // 2), -(-width // 2)
            found.append((channels, height, width))
        return found[::-1]

    def _latent_dims(self, image_shape: ImageShape) -> list[int]:
        dims = []
        for level, shape in zip(self.levels, self.shapes(image_shape), strict=True):
            dim = level.latent_dim or level.generator.latents_for(shape)
            assert dim, f"a level with {level.generator.name} has to say its latent_dim"
            dims.append(dim)
        return dims


class _Pyramid(nn.Module):
    def __init__(
        self, networks: list[nn.Module], dims: list[int], takes: list[tuple[Given, ...]], shapes: list[ImageShape]
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(networks)
        self.dims, self.takes, self.shapes = dims, takes, shapes

    def forward(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        images: Tensor | None = None
        parts = latents.split(self.dims, 1)
        for network, part, takes, shape in zip(self.levels, parts, self.takes, self.shapes, strict=True):
            given: dict[str, Tensor] = {}
            if "labels" in takes:
                assert labels is not None, "this pyramid takes labels"
                given["labels"] = labels
            if images is not None:
                given["condition"] = upsample(images, shape[1:])
            images = network(part, **given)
        assert images is not None
        return torch.clamp(images, -1.0, 1.0)
