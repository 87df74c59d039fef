"""Extractors at work: choosing one, fitting it once for a data set, and keeping what it saw of real images.

Everything is kept under `cache_folder()`, by content: an extractor by its settings and the data it learned from, real
features by the extractor's weights and the images. Deleting the folder costs time only.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from twoplayer.core.catalogue import components, discover
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.core.extractor import Extractor, ExtractorNetwork, Images
from twoplayer.core.observed import Observed
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.extractors.cnn import ClassifierCnn, RandomCnn
from twoplayer.runs.files import write_atomically, write_json

VERSION = 1
"""Of what is kept; raised when the way it is made changes."""

AUTO = "auto"

discover("twoplayer.extractors")


@dataclass(frozen=True)
class Fitted:
    """An extractor ready for use.

    Attributes:
        name: for figures: `mnist-cnn`, `random-cnn`; empty for the reference.
        network: images to what metrics see.
        facts: for the provenance of figures: settings, hash of the weights, held-out accuracy.
    """

    name: str
    network: ExtractorNetwork
    facts: dict[str, Any]

    def figure(self, key: str) -> str:
        """What a figure made with this extractor is called: `fid_mnist-cnn`; `fid` with the reference."""
        return f"{key}_{self.name}" if self.name else key


def cache_folder() -> Path:
    """`$TWOPLAYER_CACHE`, else `twoplayer` in the user's cache folder."""
    if place := os.environ.get("TWOPLAYER_CACHE"):
        return Path(place).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "twoplayer"


def choose(name: str, data: ImageData) -> Extractor:
    """The extractor that a user means; `auto` is a classifier of the data's own labels, without labels a random CNN.

    Raises:
        UserError: there is no such extractor.
    """
    if name == AUTO:
        if data.labels is None or len(data.class_names) < 2:
            return RandomCnn()
        return ClassifierCnn(least_accuracy=open_source(data.source).least_accuracy)
    known: dict[str, type[Extractor]] = components(Extractor)  # type: ignore[type-abstract]
    if name not in known:
        near = did_you_mean(name, [AUTO, *known])
        raise UserError(f"there is no extractor {name!r}{near} (there are: {', '.join([AUTO, *known])})")
    return known[name].model_validate({"name": name})


def fitted(extractor: Extractor, train: ImageData, held_out: ImageData) -> Fitted:
    """The extractor fitted to a data set, from the cache where it has been fitted before.

    Args:
        extractor: its settings.
        train: images that it may learn from.
        held_out: others that it is checked on.

    Raises:
        UserError: it cannot learn from them or did not learn enough.
    """
    facts: dict[str, Any] = {"extractor": extractor.name, "settings": extractor.model_dump(mode="json")}
    if extractor.of_data:
        network, learned = _fit(extractor, train, held_out)
        facts |= learned
    else:
        network = extractor.build(train.shape, len(train.class_names))
    facts["weights_sha256"] = weights_hash(network)
    return Fitted(f"{train.title}-{extractor.label}" if extractor.of_data else extractor.label, network, facts)


def _fit(extractor: Extractor, train: ImageData, held_out: ImageData) -> tuple[ExtractorNetwork, dict[str, Any]]:
    """The network, fitted now or in an earlier call, and the facts that came of it."""
    key = [VERSION, extractor.model_dump(mode="json"), train.fingerprint, held_out.fingerprint]
    folder = cache_folder() / "extractors" / _digest(key)
    weights, notes = folder / "weights.safetensors", folder / "facts.json"
    network = extractor.build(train.shape, len(train.class_names))
    try:
        facts: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        network.load_state_dict(load_file(weights))
        return network, facts
    except (OSError, ValueError, RuntimeError, SafetensorError):  # never fitted, or a damaged file
        network = extractor.build(train.shape, len(train.class_names))
    with torch.random.fork_rng(devices=[]):
        Stream(0).child("extractor").seed_torch()
        facts = extractor.fit(network, _images(train), _images(held_out), Stream(0).child("extractor"))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(weights, save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))
    write_json(notes, facts)
    return network, facts


def observe_real(extractor: Fitted, data: ImageData) -> Observed:
    """What the extractor sees in a whole real data set, with pixels and labels; from the cache where it is known."""
    key = [VERSION, extractor.facts["weights_sha256"], data.fingerprint]
    place = cache_folder() / "features" / f"{_digest(key)}.safetensors"
    try:
        seen = Observed(**load_file(place))
    except (OSError, SafetensorError, TypeError):
        seen = extractor.network.observe(data.images)
        place.parent.mkdir(parents=True, exist_ok=True)
        views = {"features": seen.features, "probabilities": seen.probabilities}
        write_atomically(place, save({name: tensor for name, tensor in views.items() if tensor is not None}))
    return Observed(data.images, seen.features, seen.probabilities, data.labels)


def _images(data: ImageData) -> Images:
    return Images(data.images, data.labels, len(data.class_names))


def weights_hash(network: nn.Module) -> str:
    """SHA-256 over names and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _digest(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
