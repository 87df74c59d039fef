"""What a discriminator has learned to see, and how much of it a linear classifier can use.

Source: Radford, Metz and Chintala 2015, https://arxiv.org/abs/1511.06434, section 5: every convolution layer's
activations max-pooled to 4x4, flattened and concatenated, then a regularized linear L2-SVM; the choice of C as in the
authors' code, https://github.com/Newmu/dcgan_code.

A layer is the output of the first activation module after a convolution, found by watching D at work; the features of
`Verdict` stand in as the only layer of a network without such.

Deviations: C is chosen by cross-validation on the training images instead of on further labeled images, from 1e-4 to
1e-1 instead of to 1e-2. Whether each feature is standardized is chosen with it; the authors do not standardize, but one
range of C does not serve networks of every scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.images import ImageData
from twoplayer.runs.sampling import BLOCK, NOTHING

POOLED_SIDE = 4
FOLDS = 3
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""What C is chosen from."""

TEST_SHARE = 0.2
"""Of data without splits."""

RECTIFIERS = (nn.ReLU, nn.LeakyReLU)
ACTIVATIONS = (*RECTIFIERS, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh, nn.Sigmoid)


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier tells the classes of held-out images apart.

    Attributes:
        accuracy: share of the test images, in [0, 1].
        c: the inverse strength of the regularization that cross-validation chose.
        standardized: whether cross-validation chose to standardize each feature.
        num_features: numbers per image.
    """

    accuracy: float
    c: float
    standardized: bool
    num_features: int


@dataclass(frozen=True)
class LabelProbe:
    """What D's features say about classes, beside what the pixels themselves say.

    Attributes:
        features: the classifier on D's features.
        pixels: the same on pixels: what D's features have to beat.
        train_images: how many labeled images the classifiers were trained on.
        test_images: how many other images they were tested on.
        test_split: of the data that these are; "all" where a part of everything was held out.
    """

    features: Probe
    pixels: Probe
    train_images: int
    test_images: int
    test_split: str


def feature_maps(discriminator: nn.Module, images: Tensor, given: Mapping[str, Tensor] = NOTHING) -> list[Tensor]:
    """D's layers on float images [N, C, H, W] in [-1, 1], in evaluation mode, with a graph where gradients are on.

    Args:
        discriminator: images to a `Verdict`.
        images: on D's device.
        given: what a conditional D is told, [N, ...] each.

    Returns:
        One [N, K, h, w] for each layer, the nearest to the image first; or only [N, F], see above.

    Raises:
        UserError: D neither has such layers nor shows features.
    """
    with mode(discriminator, training=False), _watching(discriminator) as maps:
        verdict: Verdict = discriminator(images, **given)
    if maps:
        return maps
    if verdict.features is None:
        raise UserError("this discriminator shows no features")
    return [verdict.features]


@contextmanager
def _watching(discriminator: nn.Module) -> Iterator[list[Tensor]]:
    """The list that fills with layers while D works. Calls are watched: a network may use one module many times."""
    maps: list[Tensor] = []
    waiting = False

    def convolved(*_: Any) -> None:
        nonlocal waiting
        waiting = True

    def activated(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal waiting
        if waiting and output.dim() == 4:
            maps.append(output)
            waiting = False

    handles = [m.register_forward_hook(convolved) for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_hook(activated) for m in discriminator.modules() if isinstance(m, ACTIVATIONS)]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def pooled_features(discriminator: nn.Module, pictures: Tensor, given: Mapping[str, Tensor] = NOTHING) -> Tensor:
    """Every layer max-pooled to 4x4, flattened and concatenated: float [N, F], on the CPU.

    A map smaller than 4x4 is pooled over overlapping pixels; the features of `Verdict` are taken as they are.

    Args:
        discriminator: images to a `Verdict`.
        pictures: uint8 [N, C, H, W].
        given: what a conditional D is told, [N, ...] each.
    """
    found = []
    for images, told in blocks_of(discriminator, pictures, given):
        maps = feature_maps(discriminator, images, told)
        pooled = [F.adaptive_max_pool2d(layer, POOLED_SIDE) if layer.dim() == 4 else layer for layer in maps]
        found.append(torch.cat([layer.flatten(1) for layer in pooled], 1).float().cpu())
    return torch.cat(found)


def blocks_of(
    discriminator: nn.Module, pictures: Tensor, given: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Images in [-1, 1] on D's device and what it is told about them, up to BLOCK at a time."""
    like = next(discriminator.parameters())
    for start in range(0, len(pictures), BLOCK):
        part = slice(start, start + BLOCK)
        yield (
            to_float(pictures[part].to(like.device), like.dtype),
            {k: v[part].to(like.device) for k, v in given.items()},
        )


def svm_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, seed: int = 0
) -> Probe:
    """Train a linear L2-SVM (squared hinge, one class against the rest) and test it.

    C is chosen from 1e-4, 1e-3, 1e-2, 1e-1, and whether to standardize with the training images' mean and deviation,
    by stratified 3-fold cross-validation on the training features (2-fold where a class has only two images).

    Args:
        train_features: [N, F].
        train_labels: int64 [N].
        test_features: [M, F].
        test_labels: int64 [M].
        seed: of the folds and the solver.

    Raises:
        UserError: there are fewer than two classes, or a class has a single training image.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    counts = train_labels.unique(return_counts=True)[1].tolist()
    if len(counts) < 2 or min(counts) < 2:
        raise UserError(
            f"{len(train_labels)} training images of {len(counts)} classes, at least {min(counts)} of each: a probe "
            "needs two classes and two images of each; use more training images"
        )
    folds = StratifiedKFold(min(FOLDS, *counts), shuffle=True, random_state=seed)
    svm = LinearSVC(dual="auto", random_state=seed, max_iter=10_000)
    search = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("svm", svm)]),
        {"scale": ["passthrough", StandardScaler()], "svm__C": STRENGTHS},
        cv=folds,
    )
    search.fit(train_features.numpy(), train_labels.numpy())
    accuracy = float(search.score(test_features.numpy(), test_labels.numpy()))
    chosen = search.best_params_
    return Probe(accuracy, float(chosen["svm__C"]), chosen["scale"] != "passthrough", train_features.shape[1])


def label_probe(discriminator: nn.Module, train: ImageData, test: ImageData, seed: int = 0) -> LabelProbe:
    """How well classes can be read off D's features, and off pixels in [-1, 1].

    Args:
        discriminator: images to a `Verdict`, not told labels: a classifier would read those.
        train: labeled images to train the classifiers on.
        test: labeled images to test them on.
        seed: see `svm_probe`.
    """
    assert train.labels is not None, "see held_out"
    assert test.labels is not None, "see held_out"
    seen = [pooled_features(discriminator, data.images) for data in (train, test)]
    pixels = [to_float(data.images).flatten(1) for data in (train, test)]
    of_features, of_pixels = (
        svm_probe(of_train, train.labels, of_test, test.labels, seed) for of_train, of_test in (seen, pixels)
    )
    return LabelProbe(of_features, of_pixels, len(train), len(test), test.split)


def held_out(train: ImageData, test: ImageData, train_size: int, seed: int) -> tuple[ImageData, ImageData]:
    """Up to `train_size` images to train a probe on, drawn at random, and the images to test it on.

    Args:
        train: the train split, or everything where there are no splits; then a fifth of it is held out for the test.
        test: the test split.
        train_size: how many.
        seed: of the choice.

    Raises:
        UserError: the data is unlabeled.
    """
    if train.labels is None or test.labels is None:
        raise UserError(f"{train.name} is unlabeled: a probe needs the classes of the images")
    order = Stream(seed).child("probe", "choice").permutation(len(train))
    if train.split == "all":
        edge = round(TEST_SHARE * len(train))
        order, test = order[edge:], train.chosen(order[:edge])
    return train.chosen(order[:train_size]), test
