"""The 1,797 handwritten digits, 8x8 gray, that ship inside scikit-learn: no download.

Source: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", its test part, as in
`sklearn.datasets.load_digits`. Pixels are 0 .. 16 there; here they are scaled to 0 .. 255.
"""

from __future__ import annotations

from typing import Literal, Self

import torch

from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source, Split

TRAIN_SHARE = 0.8


class DigitsSource(Source):
    """`digits`. The first 80 % are the train split, the rest the test split."""

    name: Literal["digits"] = "digits"
    syntax = "digits"
    least_accuracy = 0.97

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls() if text == "digits" else None

    def load(self, split: Split, form: Form) -> ImageData:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255.0 / 16.0).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).long()
        edge = round(len(images) * TRAIN_SHARE)
        part = {"train": slice(0, edge), "test": slice(edge, None), "all": slice(None)}[split]
        data = ImageData(images[part], "digits", split, labels[part], tuple(str(digit) for digit in range(10)))
        return data.resized(form)
