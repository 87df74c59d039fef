"""RUN/generator and RUN/classifier: averaged networks for use, without anything that only training needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from twoplayer.core.errors import UserError
from twoplayer.recipes.schema import AnyDiscriminator, AnyGenerator, AnyLatents
from twoplayer.runs.cards import classifier_card, generator_card
from twoplayer.runs.files import write_atomically, write_text

FORMAT = 1


class NetworkInfo(BaseModel):
    """What has to be known of any trained network.

    Attributes:
        format: of this file.
        recipe: name of the recipe.
        step: generator updates behind these weights.
        kimg: thousands of real images shown to D.
        image_shape: channels, height, width.
        class_names: of the training data; empty for unlabeled data.
        data_source: what the training data was called.
        data_sha256: fingerprint of the training data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    recipe: str
    step: int
    kimg: float
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data_source: str
    data_sha256: str


class SnapshotInfo(NetworkInfo):
    """What has to be known to build and use a generator."""

    latents: AnyLatents
    generator: AnyGenerator

    def build(self) -> nn.Module:
        """The generator with fresh weights."""
        return self.generator.build(self.latents.dim, self.image_shape, len(self.class_names))


class ClassifierInfo(NetworkInfo):
    """What has to be known to build and use a discriminator that names classes."""

    discriminator: AnyDiscriminator

    def build(self) -> nn.Module:
        """The discriminator with fresh weights."""
        return self.discriminator.build(self.image_shape, len(self.class_names))


Info = TypeVar("Info", SnapshotInfo, ClassifierInfo)


def write_snapshot(folder: Path, generator: nn.Module, info: SnapshotInfo, card: str | None = None) -> None:
    """Write weights, configuration and model card (one without figures when left out), each atomically."""
    _write(folder, "generator.safetensors", generator, info, generator_card(info) if card is None else card)


def read_snapshot(folder: Path) -> tuple[nn.Module, SnapshotInfo]:
    """The generator in evaluation mode. Raises UserError when the folder holds none or a damaged one."""
    return _read(folder, "generator.safetensors", SnapshotInfo)


def write_classifier(folder: Path, discriminator: nn.Module, info: ClassifierInfo) -> None:
    """Write weights, configuration and model card, each atomically."""
    _write(folder, "classifier.safetensors", discriminator, info, classifier_card(info))


def read_classifier(folder: Path) -> tuple[nn.Module, ClassifierInfo]:
    """The classifier in evaluation mode. Raises UserError when the folder holds none or a damaged one."""
    return _read(folder, "classifier.safetensors", ClassifierInfo)


def _write(folder: Path, weights: str, network: nn.Module, info: NetworkInfo, card: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / weights, save(tensors, {"format": "pt"}))
    write_text(folder / "config.json", info.model_dump_json(indent=2) + "\n")
    write_text(folder / "README.md", card)


def read_info(folder: Path) -> SnapshotInfo:
    """What the generator in a folder is; its weights are not read. Raises UserError as `read_snapshot` does."""
    with _explained(folder):
        return _info(folder, SnapshotInfo)


def _read(folder: Path, weights: str, kind: type[Info]) -> tuple[nn.Module, Info]:
    with _explained(folder):
        info = _info(folder, kind)
        network = info.build()
        network.load_state_dict(load_file(folder / weights))
        return network.eval(), info


def _info(folder: Path, kind: type[Info]) -> Info:
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise UserError(f"{folder} has format {found}; upgrade twoplayer to read it")
    return kind.model_validate(raw)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {folder.name} yet; train for at least one checkpoint") from error
    except UserError:
        raise
    except (ValueError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder} is damaged: {str(error).splitlines()[0]}") from error
