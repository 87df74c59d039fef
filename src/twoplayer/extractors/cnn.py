"""A small convolutional network, as a classifier trained on the data's own labels or with random weights.

Sources: features of a classifier of the data set itself instead of ImageNet's, as used for MNIST since Li et al. 2017,
https://arxiv.org/abs/1705.08584 and for the Inception Score by Che et al. 2017, https://arxiv.org/abs/1612.02136;
random weights: Naeem et al. 2020, https://arxiv.org/abs/2002.09797, section 4.2. The layers are our own choice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.extractor import Extractor, ExtractorNetwork, Images
from twoplayer.core.modes import mode
from twoplayer.core.observed import Observed
from twoplayer.core.protocols import ImageShape
from twoplayer.core.rng import Stream

BATCH = 128
CHUNK = 512
DROPOUT = 0.3
SMALLEST_MAP = 4
"""Pixels a side at which the convolutions end."""

SMALL_IMAGE = 16
"""Pixels a side up to which a first convolution keeps the size."""


class CnnNetwork(ExtractorNetwork):
    """[convolution, batch normalization, rectifier] halving the image until 4x4 -> rectified features -> classes.

    Args:
        image_shape: channels, height, width.
        width: channels after the first layer; each next has twice as many.
        num_features: F.
        num_classes: K; 0 leaves the last layer out.
    """

    chunk = CHUNK

    def __init__(self, image_shape: ImageShape, width: int, num_features: int, num_classes: int) -> None:
        super().__init__()
        channels, *size = image_shape
        count = max(1, math.ceil(math.log2(max(size) / SMALLEST_MAP)))
        whole = max(size) <= SMALL_IMAGE
        widths = [width * 2**level for level in range(count + whole)]
        self.num_features = num_features
        first = _block(channels, width, 3, 1) if whole else _block(channels, width)
        self.body = nn.Sequential(first, *(_block(*pair) for pair in pairwise(widths)))
        pixels = math.prod(math.ceil(side / 2**count) for side in size)
        self.to_features = nn.Linear(widths[-1] * pixels, num_features)
        self.dropout = nn.Dropout(DROPOUT)
        self.to_classes = nn.Linear(num_features, num_classes) if num_classes else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Float [N, C, H, W] in [-1, 1] to features [N, F] and class logits [N, K]."""
        features = F.relu(self.to_features(self.body(images).flatten(1)))
        return features, None if self.to_classes is None else self.to_classes(self.dropout(features))

    @torch.no_grad()
    def observe(self, pixels: Tensor) -> Observed:
        device = self.to_features.weight.device
        with mode(self, training=False):
            parts = [self(to_float(chunk.to(device))) for chunk in pixels.split(CHUNK)]
        features = torch.cat([features for features, _ in parts]).cpu()
        if self.to_classes is None:
            return Observed(features=features)
        logits = torch.cat([logits for _, logits in parts if logits is not None]).cpu()
        return Observed(features=features, probabilities=logits.double().softmax(1))


def _block(channels: int, width: int, kernel: int = 5, stride: int = 2) -> nn.Module:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class _Cnn(Extractor):
    """What both kinds share.

    Attributes:
        width: channels after the first layer.
        num_features: of each image.
        seed: of the first weights.
    """

    width: int = Field(32, ge=1, le=1024)
    num_features: int = Field(128, ge=1, le=65536)
    seed: int = Field(0, ge=0)

    def _network(self, image_shape: ImageShape, num_classes: int) -> CnnNetwork:
        with torch.random.fork_rng(devices=[]):
            Stream(self.seed).child(self.name, "weights").seed_torch()
            return CnnNetwork(image_shape, self.width, self.num_features, num_classes).eval()


class RandomCnn(_Cnn):
    """Never trained: its figures order fakes of one data set by what random filters see, and mean nothing beyond."""

    name: Literal["random-cnn"] = "random-cnn"
    label: ClassVar[str] = "random-cnn"
    of_data: ClassVar[bool] = False

    def build(self, image_shape: ImageShape, num_classes: int) -> ExtractorNetwork:
        return self._network(image_shape, 0)


class ClassifierCnn(_Cnn):
    """Trained on labeled real images to name their classes.

    Attributes:
        thousand_images: how many training images it is shown, in thousands, each set over and over.
        learning_rate: of Adam at the peak of its one cycle.
        move: training images are moved by up to this share of their side.
        stretch: and turned and stretched: each entry of the linear map is off by up to this.
        least_accuracy: on held-out images; below it the extractor refuses to judge.
    """

    name: Literal["classifier-cnn"] = "classifier-cnn"
    label: ClassVar[str] = "cnn"
    of_data: ClassVar[bool] = True
    thousand_images: float = Field(70.0, gt=0.0)
    learning_rate: float = Field(0.004, gt=0.0)
    move: float = Field(0.06, ge=0.0, lt=0.5)
    stretch: float = Field(0.15, ge=0.0, lt=1.0)
    least_accuracy: float = Field(0.5, ge=0.0, le=1.0)

    def build(self, image_shape: ImageShape, num_classes: int) -> ExtractorNetwork:
        if num_classes < 2:
            raise UserError(f"{self.name} needs data with at least two classes; use the extractor random-cnn")
        return self._network(image_shape, num_classes)

    def fit(self, network: ExtractorNetwork, train: Images, held_out: Images, stream: Stream) -> dict[str, Any]:
        assert isinstance(network, CnnNetwork)
        assert train.labels is not None, "only labeled data builds this network"
        if not len(held_out):
            raise UserError(f"{self.name} needs images to be checked on; use the extractor random-cnn")
        steps = math.ceil(1000.0 * self.thousand_images / BATCH)
        optimizer = torch.optim.Adam(network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        with mode(network, training=True):
            for step in range(steps):
                place = stream.child("fit", step)
                rows = _rows(len(train), step, stream)
                images = _moved(to_float(train.pixels[rows]), self.move, self.stretch, place)
                loss = F.cross_entropy(network(images)[1], train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        accuracy = accuracy_of(network, held_out)
        if accuracy < self.least_accuracy:
            raise UserError(
                f"the extractor names only {accuracy:.2%} of {len(held_out):,} held-out images rightly, less than the "
                f"{self.least_accuracy:.1%} asked for; use the extractor random-cnn"
            )
        return {"held_out_accuracy": accuracy, "held_out_images": len(held_out), "train_images": len(train)}


def accuracy_of(network: ExtractorNetwork, images: Images) -> float:
    """Share of labeled images that the network names rightly."""
    assert images.labels is not None, "only labeled images can be named rightly"
    named = network.observe(images.pixels).see("probabilities").argmax(1)
    return float((named == images.labels).double().mean())


def _rows(count: int, step: int, stream: Stream) -> Tensor:
    """Images of a step: epochs in a new order each, the short last batch left out."""
    size = min(BATCH, count)
    epoch, place = divmod(step, count // size)
    return stream.child("epoch", epoch).permutation(count)[place * size : (place + 1) * size]


def _moved(images: Tensor, move: float, stretch: float, stream: Stream) -> Tensor:
    """Each image turned, stretched and moved a little by itself; the edge is repeated."""
    n = len(images)
    turned = torch.eye(2) + stream.child("turn").uniform((n, 2, 2), -stretch, stretch)
    moved = stream.child("move").uniform((n, 2, 1), -2.0 * move, 2.0 * move)  # the grid is 2 wide
    grid = F.affine_grid(torch.cat([turned, moved], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
