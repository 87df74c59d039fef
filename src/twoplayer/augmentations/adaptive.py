"""Adaptive discriminator augmentation (ADA): images are changed the more often, the more D overfits.

Source: Karras, Aittala, Hellsten, Laine, Lehtinen and Aila 2020, https://arxiv.org/abs/2006.06676: section 2 and
appendix B for the changes, section 3 for the probability p. Every change hits every image with probability p. Now and
then the overfitting r of D is looked at, and p goes up where r is above its target, else down.

- With images that are not trained on: r = (E D(train) - E D(held out)) / (E D(train) - E D(fake)), the paper's r_v: 0
  where D knows nothing that is true of the training images alone, 1 where held-out images are fakes to it.
- Without: r = E sign D(train), the paper's r_t. Where logits are no log-odds, so that none is the border between real
  and fake, it is the sign of D(train) - D(fake) in pairs.

Deviations: D is looked at in inference mode on one batch every few steps, and r is of running sums. Images are sampled
between pixels directly, mirrored beyond their edges, without the paper's filter. Filtering and corruptions, which did
not help there, are left out. p stays below 0.8, above which the paper sees changes leak into pictures.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from twoplayer.core.augmentation import Augmentation, FollowsOverfitting
from twoplayer.core.rng import Stream
from twoplayer.ops import color as colors
from twoplayer.ops.warp import Affine, rotation, scaling, translation, warp

Change = Literal["blit", "geometry", "color"]

KEPT = 0.9
"""The share of the running sums that a look leaves there: r is of about the last ten looks."""


class Adaptive(Augmentation):
    """Changes whose probability follows the overfitting of D.

    Attributes:
        policy: "blit": mirrored, quarter turns, moves by whole pixels; "geometry": scaled, turned, stretched, moved by
            any amount; "color": brightness, contrast, light and dark exchanged, hue, saturation.
        follows: which overfitting: "held-out" needs a test split that is not trained on, "signs" does not; "auto":
            held-out images where there are any.
        target: the overfitting that p is moved to; 0.6 is the paper's for signs.
        kimg: thousands of real images after which p has gone from 0 to 1 at the fastest.
        maximum: the largest p.
        start: p before training.
        every: steps between looks at D.
    """

    name: Literal["adaptive"] = "adaptive"
    policy: Annotated[tuple[Change, ...], Field(strict=False, min_length=1)] = ("blit", "geometry", "color")
    follows: Literal["auto", "held-out", "signs"] = "auto"
    target: float = Field(0.6, ge=0.0, le=1.0)
    kimg: float = Field(500.0, gt=0.0)
    maximum: float = Field(0.8, ge=0.0, le=1.0)
    start: float = Field(0.0, ge=0.0, le=1.0)
    every: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _start_is_possible(self) -> Self:
        if self.start > self.maximum:
            raise ValueError(f"start={self.start} is above maximum={self.maximum}")
        return self

    @property
    def figures(self) -> tuple[str, ...]:
        return "augmentation/probability", "augmentation/overfitting"

    def build(self) -> nn.Module:
        return AdaptiveChanges(self)


class AdaptiveChanges(FollowsOverfitting):
    """The changes at their present probability.

    Args:
        config: what is changed and followed.

    Attributes:
        probability: p, a scalar.
        overfitting: r at the last look, a scalar; 0 before the first.
        sums: running sums [2] of the upper and the lower part of r.
    """

    probability: Tensor
    overfitting: Tensor
    sums: Tensor

    def __init__(self, config: Adaptive) -> None:
        super().__init__()
        self.config = config
        self.follows, self.every = config.follows, config.every
        self.register_buffer("probability", torch.tensor(config.start))
        self.register_buffer("overfitting", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(2))

    def forward(self, images: Tensor, stream: Stream) -> Tensor:
        """Images [N, C, H, W] changed at random, with a graph to them."""
        policy, p = self.config.policy, self.probability
        where = None
        if "blit" in policy:
            where = blit(images, stream.child("blit"), p)
        if "geometry" in policy:
            further = geometry(images, stream.child("geometry"), p)
            where = further if where is None else where.after(further)
        images = images if where is None else warp(images, where)
        return color(images, stream.child("color"), p) if "color" in policy else images

    @torch.no_grad()
    def follow(self, part: Tensor, whole: Tensor, images: int) -> None:
        """Take a look into the running sums, and move the probability.

        Args:
            part: the upper part of r, a scalar.
            whole: the lower part; where it is not above 0, D does not know reals from fakes, and r is 0.
            images: real images shown to D since the last look.
        """
        self.sums.mul_(KEPT).add_(torch.stack([part, whole]))
        upper, lower = self.sums.unbind()
        found = torch.where(lower > 0.0, upper / torch.where(lower > 0.0, lower, 1.0), 0.0)
        self.overfitting.copy_(found.clamp(-1.0, 1.0))
        step = images / (1000.0 * self.config.kimg)
        self.probability.add_(step * torch.sign(self.overfitting - self.config.target)).clamp_(0.0, self.config.maximum)

    def report(self) -> dict[str, Tensor]:
        """What is worth logging."""
        return {
            "augmentation/probability": self.probability.clone(),
            "augmentation/overfitting": self.overfitting.clone(),
        }


def blit(images: Tensor, stream: Stream, p: Tensor) -> Affine:
    """Where pixels of images that are mirrored, turned by quarters and moved by whole pixels come from.

    Moves are up to an eighth of each side.
    """
    height, width = images.shape[-2:]
    draws = stream.uniform((len(images), 7), like=images)
    mirrored, turned, moved = (draws[:, :3] < p).unbind(1)
    side, quarter, x, y = draws[:, 3:].unbind(1)
    sign = torch.where(mirrored & (side < 0.5), -1.0, 1.0).to(images)
    angle = torch.where(turned, (4.0 * quarter).floor() * (math.pi / 2.0), 0.0)
    x, y = ((2.0 * each - 1.0) * 0.125 * size for each, size in ((x, width), (y, height)))
    move = translation(torch.where(moved, x.round(), 0.0), torch.where(moved, y.round(), 0.0))
    return scaling(sign, torch.ones_like(sign)).after(rotation(angle)).after(move)


def geometry(images: Tensor, stream: Stream, p: Tensor) -> Affine:
    """Where pixels of images that are scaled, turned, stretched, turned again and moved come from.

    Either turn alone or both happen with probability p together: each with 1 - sqrt(1 - p).
    """
    height, width = images.shape[-2:]
    draws = stream.child("uniform").uniform((len(images), 7), like=images)
    size, stretch, x, y = stream.child("normal").normal((len(images), 4), like=images).unbind(1)
    scaled, stretched, moved = (draws[:, :3] < p).unbind(1)
    turned = (1.0 - (1.0 - draws[:, 3:5]).square() < p).unbind(1)
    turns = [
        rotation(torch.where(gate, (2.0 * angle - 1.0) * math.pi, 0.0))
        for gate, angle in zip(turned, draws[:, 5:].unbind(1), strict=True)
    ]
    factor = torch.where(scaled, torch.exp2(0.2 * size), 1.0)
    stretch = torch.where(stretched, torch.exp2(0.2 * stretch), 1.0)
    move = translation(torch.where(moved, 0.125 * width * x, 0.0), torch.where(moved, 0.125 * height * y, 0.0))
    shape = scaling(factor, factor).after(turns[0]).after(scaling(stretch, 1.0 / stretch))
    return shape.after(turns[1]).after(move)


def color(images: Tensor, stream: Stream, p: Tensor) -> Tensor:
    """Images [N, C, H, W] in [-1, 1] in other colors; hue changes only where there are three channels."""
    draws = stream.child("uniform").uniform((len(images), 7), like=images)
    amount, factor, saturation = stream.child("normal").normal((len(images), 3), like=images).unbind(1)
    brighter, scaled, flipped, turned, saturated = (draws[:, :5] < p).unbind(1)
    side, angle = draws[:, 5:].unbind(1)
    images = colors.brighten(images, torch.where(brighter, 0.2 * amount, 0.0))
    images = colors.scale(images, torch.where(scaled, torch.exp2(0.5 * factor), 1.0))
    images = colors.flip_gray(images, (flipped & (side < 0.5)).to(images))
    if images.shape[1] == 3:
        images = colors.rotate_hue(images, torch.where(turned, (2.0 * angle - 1.0) * math.pi, 0.0))
    if images.shape[1] > 1:
        images = colors.saturate(images, torch.where(saturated, torch.exp2(saturation), 1.0))
    return images
