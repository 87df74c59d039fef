"""The images that a recipe means, and what is said about them."""

from __future__ import annotations

from typing import Any

from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.recipes.schema import DataOptions


def load_data(options: DataOptions) -> ImageData:
    """The images that a recipe's `data` section means. Raises UserError."""
    data = open_source(options.source).load(options.split, options.image_size, options.channels)
    if options.limit is not None:
        data = data.chosen(Stream(0).child("limit").permutation(len(data))[: options.limit])
    return data.halved(options.halvings)


def whole_splits(options: DataOptions) -> tuple[ImageData, ImageData]:
    """The train and the test split without a limit; twice everything where the source has no splits."""
    train, test = (load_data(options.model_copy(update={"split": split, "limit": None})) for split in ("train", "test"))
    return train, test


def held_out_data(options: DataOptions) -> ImageData | None:
    """The test split, brought to the form of the training images; None where the source has no splits."""
    data = load_data(options.model_copy(update={"split": "test", "limit": None}))
    return data if data.split == "test" else None


def data_facts(data: ImageData) -> dict[str, Any]:
    """What a run says about its data; nothing that names a place on disk."""
    return {
        "source": data.name,
        "split": data.split,
        "images": len(data),
        "shape": list(data.shape),
        "sha256": data.fingerprint,
    }
