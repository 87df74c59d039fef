"""Stacked MNIST: three random MNIST digits as the channels of one image; 1,000 modes that a digit classifier can name.

Source: Metz, Poole, Pfau and Sohl-Dickstein 2017, https://arxiv.org/abs/1611.02163, section 3.3.1; 128,000 training
images as in the code of Lin et al. 2018 (PacGAN), https://arxiv.org/abs/1712.04086. Here they are drawn once and for
all, from the train digits; 26,000 others are drawn from the test digits.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from twoplayer.core.rng import Stream
from twoplayer.data.form import Form
from twoplayer.data.idx import MnistSource
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source, Split

DIGITS = 3
"""Channels of an image."""


class StackedMnistSource(Source):
    """`stacked-mnist`: 128,000 train and 26,000 test images, 28x28 with three channels; label 100 a + 10 b + c."""

    name: Literal["stacked-mnist"] = "stacked-mnist"
    syntax = "stacked-mnist"
    num_images: ClassVar[dict[Split, int]] = {"train": 128_000, "test": 26_000, "all": 154_000}

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls() if text == cls.syntax else None

    def load(self, split: Split, form: Form) -> ImageData:
        digits = MnistSource().load(split, replace(form, channels=None))
        data = stacked(digits, self.num_images[split], Stream(0).child("stacked", split))
        return data.resized(replace(form, image_size=None))


def stacked(digits: ImageData, n: int, stream: Stream) -> ImageData:
    """n images of three digits each, drawn with replacement.

    Args:
        digits: labeled gray images of K classes.
        n: how many.
        stream: which digits.

    Returns:
        Images [n, 3, H, W] of K^3 classes; the first channel's class counts most: K^2 a + K b + c.
    """
    assert digits.labels is not None, "the classes of the channels make the class of the image"
    assert digits.shape[0] == 1, "each channel is one gray image"
    rows = draw_triples(len(digits), n, stream)
    names = tuple("".join(triple) for triple in product(digits.class_names, repeat=DIGITS))
    labels = joined_class(digits.labels[rows], len(digits.class_names))
    return ImageData(digits.images[rows].squeeze(2), "stacked-mnist", digits.split, labels, names)


def draw_triples(num_digits: int, n: int, stream: Stream) -> Tensor:
    """Which digits are in each of n images: int64 [n, 3]."""
    return torch.randint(num_digits, (n, DIGITS), generator=stream.generator())


def joined_class(classes: Tensor, num_classes: int) -> Tensor:
    """The class of an image from those of its channels: int64 [N, 3] to [N]."""
    weights = num_classes ** torch.arange(DIGITS - 1, -1, -1, device=classes.device)
    return (classes * weights).sum(1)
