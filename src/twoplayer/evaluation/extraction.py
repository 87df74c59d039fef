"""Extractors at work: choosing one, fitting it once for a data set, and keeping what it saw of real images.

Everything is kept under `cache_folder()`, by content: an extractor by its settings and the data it learned from, real
features, and what real images get in the place of fakes, by the extractor's weights and the images. Deleting the
folder costs time only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from twoplayer.core.cache import cache_folder
from twoplayer.core.catalogue import components, discover
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.core.extractor import Extractor, ExtractorNetwork, Images
from twoplayer.core.observed import Observed
from twoplayer.core.process import one_thread
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.extractors.cnn import ClassifierCnn, RandomCnn
from twoplayer.runs.files import write_atomically, write_json

VERSION = 2
"""Of what is kept; raised when the way it is made changes."""

AUTO = "auto"
CLASSIFIER = "classifier-cnn"

WEIGHTS, FACTS = "weights.safetensors", "facts.json"

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

    @property
    def provenance(self) -> dict[str, Any]:
        """What a figure says about the extractor it was made with."""
        return {"id": self.name or "inception"} | self.facts

    def figure(self, key: str) -> str:
        """What a figure made with this extractor is called: `fid_mnist-cnn`; `fid` with the reference."""
        return f"{key}_{self.name}" if self.name else key


def choose(name: str, data: ImageData) -> Extractor:
    """The extractor that a user means; `auto` is a classifier of the data's own labels, without labels a random CNN.

    Raises:
        UserError: there is no such extractor.
    """
    if name == AUTO and (data.labels is None or len(data.class_names) < 2):
        return RandomCnn()
    if name in (AUTO, CLASSIFIER):
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
    network, learned = _kept(extractor, train, held_out)
    facts |= learned | {"weights_sha256": weights_hash(network)}
    return Fitted(f"{train.title}-{extractor.label}" if extractor.of_data else extractor.label, network, facts)


def _kept(extractor: Extractor, train: ImageData, held_out: ImageData) -> tuple[ExtractorNetwork, dict[str, Any]]:
    """The network with the weights that are kept, made now or in an earlier call, and the facts that came of it.

    One process makes them while others wait, so that all have the same.
    """
    network = extractor.build(train.shape, len(train.class_names))
    if not extractor.is_kept:
        return network, {}
    data = [train.fingerprint, held_out.fingerprint] if extractor.of_data else [train.shape]
    folder = cache_folder() / "extractors" / _digest([VERSION, extractor.model_dump(mode="json"), *data])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        found = _read(folder, network)
        if found is None:
            network, facts = _made(extractor, train, held_out)
            weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
            write_atomically(folder / WEIGHTS, save(weights))
            write_json(folder / FACTS, facts)
            found = facts
    return network, found


def _read(folder: Path, network: ExtractorNetwork) -> dict[str, Any] | None:
    """Load what is kept into the network; None where nothing is, or a damaged file."""
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        network.load_state_dict(load_file(folder / WEIGHTS))
        return facts
    except (OSError, ValueError, RuntimeError, SafetensorError):
        return None


def _made(extractor: Extractor, train: ImageData, held_out: ImageData) -> tuple[ExtractorNetwork, dict[str, Any]]:
    """A new network, fitted on one thread: sums of several have other last digits, and the weights would too."""
    network = extractor.build(train.shape, len(train.class_names))
    with torch.random.fork_rng(devices=[]), one_thread():
        Stream(0).child("extractor").seed_torch()
        return network, extractor.fit(network, _images(train), _images(held_out), Stream(0).child("extractor"))


def observe_real(extractor: Fitted, data: ImageData, see: Callable[[], Observed] | None = None) -> Observed:
    """What the extractor sees in a whole real data set, with pixels and labels; from the cache where it is known.

    Args:
        extractor: whose weights say what is known.
        data: the images.
        see: looks at all of them where it is not known; the extractor itself when left out.
    """
    key = [VERSION, extractor.facts["weights_sha256"], data.fingerprint]
    place = cache_folder() / "features" / f"{_digest(key)}.safetensors"
    try:
        seen = Observed(**load_file(place))
    except (OSError, SafetensorError, TypeError):
        seen = extractor.network.observe(data.images) if see is None else see()
        place.parent.mkdir(parents=True, exist_ok=True)
        views = {"features": seen.features, "probabilities": seen.probabilities}
        write_atomically(place, save({name: rows.contiguous() for name, rows in views.items() if rows is not None}))
    return Observed(data.images, seen.features, seen.probabilities, data.labels)


def remembered(key: Sequence[Any], make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Figures that depend on nothing but their key; made once and kept. The floors of a data set are such."""
    place = cache_folder() / "floors" / f"{_digest([VERSION, *key])}.json"
    try:
        found: dict[str, float] = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = make()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps(found).encode())
    return found


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
