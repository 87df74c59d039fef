"""What a benchmark's process does with pictures in files: batches of floats, our ways or the ordinary ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import count
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from twoplayer.bench.workloads import Setup, Work, next_of
from twoplayer.core.errors import UserError
from twoplayer.data.encoded import EncodedSource, selected
from twoplayer.data.folder import FolderSource
from twoplayer.data.form import Form
from twoplayer.data.parquet import ParquetCollection, ParquetSource
from twoplayer.data.prepared import nobody
from twoplayer.data.source import open_source
from twoplayer.loading import load_data, wanted
from twoplayer.recipes.schema import DataOptions, Recipe
from twoplayer.session import batches_of


def is_of_files(options: DataOptions) -> bool:
    """Whether a recipe's pictures have to be decoded."""
    return isinstance(open_source(options.source), EncodedSource)


def ways(options: DataOptions) -> dict[str, str]:
    """The contenders: what they are called and which work they do; the second is what the others are compared with."""
    found = {"twoplayer": "ours", "a loop over Pillow": "pillow", "twoplayer, data.cache=none": "streamed"}
    if isinstance(open_source(options.source), ParquetSource | FolderSource):
        found["datasets, DataLoader"] = "datasets"
    return found


def with_form(recipe: Recipe, shape: tuple[int, ...]) -> Recipe:
    """A recipe that says what its pictures are brought to."""
    form = {"channels": shape[0], "image_size": shape[-1]}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=form)})


def prepared(setup: Setup) -> Work:
    """The next batch as `train` gets it; the pictures have been decoded before."""
    return _ours(setup, "auto")


def streamed(setup: Setup) -> Work:
    """The next batch as `train` gets it with data.cache=none."""
    return _ours(setup, "none")


def _ours(setup: Setup, cache: str) -> Work:
    options = setup.recipe.data.model_copy(update={"cache": cache})
    recipe = setup.recipe.model_copy(update={"data": options})
    batches, numbers = batches_of(recipe, load_data(options), setup.device), count()

    def work() -> None:
        batches[next(numbers)]

    return work


def pillow(setup: Setup) -> Work:
    """The next batch of a plain loop: each picture opened, converted, fitted, turned into floats in [-1, 1]."""
    options = setup.recipe.data
    source = open_source(options.source)
    assert isinstance(source, EncodedSource)
    collection = selected(source.collection(options.split), wanted(options, nobody))
    if not collection.is_random:
        raise UserError(f"{options.source} can be read from its start only: a plain loop cannot shuffle it")
    picture_of = ordinary(Form(options.image_size, options.channels))

    def forever() -> Iterator[Tensor]:
        while True:
            for numbers in torch.randperm(len(collection)).split(setup.recipe.batch_size):
                pictures = [picture_of(Image.open(io.BytesIO(collection.read(n)))) for n in numbers.tolist()]
                yield torch.stack(pictures).to(setup.device)

    return next_of(forever())


def with_datasets(setup: Setup) -> Work:
    """The next batch of the `datasets` library: a transform, torch's DataLoader with one worker per core."""
    import datasets

    datasets.disable_progress_bars()
    options = setup.recipe.data
    source = open_source(options.source)
    assert isinstance(source, ParquetSource | FolderSource)
    path = str(Path(source.path).expanduser())
    if isinstance(source, ParquetSource):
        column = ParquetCollection.open(Path(path), path).column
        rows = datasets.load_dataset("parquet", data_files=path, split="train")
    else:
        column, rows = "image", datasets.load_dataset("imagefolder", data_dir=path, split="train")
    rows = rows.cast_column(column, datasets.Image())
    picture_of = ordinary(Form(options.image_size, options.channels))

    def transform(found: dict[str, list[Any]]) -> dict[str, list[Tensor]]:
        return {"pixels": [picture_of(each) for each in found[column]]}

    loader: DataLoader[Any] = DataLoader(
        rows.select_columns([column]).with_transform(transform),
        setup.recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=cpu_count() or 1,
        persistent_workers=True,
    )

    def forever() -> Iterator[Tensor]:
        while True:
            for batch in loader:
                yield batch["pixels"].to(setup.device)

    return next_of(forever())


def ordinary(form: Form) -> Callable[[Image.Image], Tensor]:
    """What scripts do to a picture: float [C, H, W] in [-1, 1]."""
    assert form.image_size is not None
    side, mode = (form.image_size, form.image_size), "L" if form.channels == 1 else "RGB"

    def made(picture: Image.Image) -> Tensor:
        fitted = ImageOps.fit(picture.convert(mode), side, Image.Resampling.BICUBIC)
        pixels = np.asarray(fitted, np.float32).reshape(*side, -1).transpose(2, 0, 1)
        return torch.from_numpy(pixels / 127.5 - 1.0)

    return made


WORK: dict[str, Callable[[Setup], Work]] = {
    "files/ours": prepared,
    "files/streamed": streamed,
    "files/pillow": pillow,
    "files/datasets": with_datasets,
}
