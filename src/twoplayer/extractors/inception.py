"""The Inception network of the published FID, KID and Inception Score, through torch-fidelity.

Source: Heusel et al. 2017, https://arxiv.org/abs/1706.08500 (features) and Salimans et al. 2016,
https://arxiv.org/abs/1606.03498 (probabilities), with the weights of TensorFlow's 2015 network as converted for
https://github.com/toshas/torch-fidelity. Images are resized to 299x299 inside it, as TensorFlow 1 did; gray ones are
repeated to three channels. Probabilities leave the last layer's bias out, as torch-fidelity's Inception Score does.

torch-fidelity unpickles the weights file. Therefore the whole file is hashed first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.extractor import Extractor, ExtractorNetwork
from twoplayer.core.observed import Observed
from twoplayer.core.protocols import ImageShape

ADDRESS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
CHUNK = 64


class InceptionNetwork(ExtractorNetwork):
    """torch-fidelity's network behind the interface of all extractors.

    Args:
        network: uint8 [N, 3, H, W] to pooled features [N, 2048] and logits without bias [N, 1008].
    """

    num_features = 2048
    chunk = CHUNK

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def observe(self, pixels: Tensor) -> Observed:
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        found = [self.network(chunk) for chunk in pixels.split(CHUNK)]
        features, logits = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        return Observed(features=features, probabilities=logits.double().softmax(1))


class Inception(Extractor):
    """The reference for photographs. Only with it a figure is called `fid` and nothing else."""

    name: Literal["inception"] = "inception"
    label: ClassVar[str] = ""
    of_data: ClassVar[bool] = False
    is_kept: ClassVar[bool] = False

    def build(self, image_shape: ImageShape, num_classes: int) -> ExtractorNetwork:
        make = _torch_fidelity()  # before a file is downloaded for it
        views = ["2048", "logits_unbiased"]
        network = make("inception-v3-compat", views, feature_extractor_weights_path=str(verified_weights()))
        return InceptionNetwork(network.eval())


def weights_place() -> Path:
    """Where torch-fidelity itself looks for the file: the checkpoints folder of torch.hub."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ADDRESS.rsplit("/", 1)[-1]


def verified_weights(
    place: Path | None = None, sha256: str = SHA256, download: Callable[[str, str], None] | None = None
) -> Path:
    """The weights file, downloaded if it is not there, its whole content checked before anything reads it.

    Args:
        place: of the file; torch.hub's when left out.
        sha256: that it has to have.
        download: (address, file) -> None; torch.hub's when left out.

    Raises:
        UserError: it is neither there nor to be had, or it is another file.
    """
    place = place or weights_place()
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            (download or torch.hub.download_url_to_file)(ADDRESS, str(place))
        except Exception as error:  # whatever the transport raises
            raise UserError(
                f"the extractor inception needs {place}, which is not there and cannot be downloaded "
                f"({type(error).__name__}); put the file from {ADDRESS} there, or use the extractor auto"
            ) from error
    with place.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(f"{place} is not the Inception weights: its SHA-256 is {found}, not {sha256}; delete it")
    return place


def _torch_fidelity() -> Callable[..., nn.Module]:
    """torch-fidelity's class of the network."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-not-found,unused-ignore]
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise UserError(
            f"the extractor inception needs torch-fidelity ({error}): pip install 'twoplayer[inception]', or use the "
            "extractor auto"
        ) from error
    made: Callable[..., nn.Module] = FeatureExtractorInceptionV3
    return made
