"""D's features: which layers are found, what is pooled, what a linear classifier makes of it, guided gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import random_images
from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.images import ImageData
from twoplayer.evaluation.features import feature_maps, held_out, pooled_features, svm_probe
from twoplayer.evaluation.guided import guided_backpropagation, over_pale, strongest_responses
from twoplayer.networks.dcgan import DcganDiscriminator
from twoplayer.networks.flowers import FlowersDiscriminator
from twoplayer.networks.mlp import MlpDiscriminator
from twoplayer.networks.paper_dcgan import PaperDcganDiscriminator
from twoplayer.networks.upsampling import UpsamplingDiscriminator

IMAGES = to_float(random_images(3, (1, 16, 16)))


def untouched(network: nn.Module) -> bool:
    hooks = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks) for m in network.modules()]
    return not any(map(any, hooks)) and all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (DcganDiscriminator(n_filters=4, n_blocks=2), [4, 8, 16]),
        (PaperDcganDiscriminator(n_filters=4, n_blocks=3, minibatch="standard-deviation"), [4, 8, 16]),
        (FlowersDiscriminator(n_filters=4), [4, 8, 16, 32]),
    ],
)
def test_every_convolution_layer_is_found_and_the_last_is_what_the_verdict_shows(
    config: DiscriminatorNetwork, channels: list[int]
) -> None:
    network = config.build((1, 16, 16), 0)
    maps = feature_maps(network, IMAGES)
    assert [layer.shape[1] for layer in maps] == channels
    assert network.training, "features are those of evaluation mode; the network is left in its own"
    shown = network.eval()(IMAGES).features
    assert torch.equal(maps[-1].flatten(1), shown)
    assert untouched(network)


def test_dense_layers_after_convolutions_do_not_count() -> None:
    network = UpsamplingDiscriminator(n_filters=4, hidden_units=7).build((1, 16, 16), 0)
    first, second = feature_maps(network, IMAGES)
    assert first.shape == (3, 4, 16, 16)
    assert second.shape == (3, 8, 4, 4)
    assert first.abs().max() < 1, "after the tanh"


def test_without_convolutions_the_verdict_speaks() -> None:
    network = MlpDiscriminator(widths=(9, 5)).build((1, 16, 16), 0).eval()
    (layer,) = feature_maps(network, IMAGES)
    assert torch.equal(layer, network(IMAGES).features)
    assert torch.equal(pooled_features(network, to_uint8(IMAGES)), layer.detach())

    class Silent(nn.Linear):
        def forward(self, images: Tensor) -> Verdict:
            return Verdict(super().forward(images.flatten(1)).flatten())

    with pytest.raises(UserError, match="shows no features"):
        feature_maps(Silent(256, 1), IMAGES)


class HandMade(nn.Module):
    """Layer 0: the picture doubled, and its negative, rectified. Layer 1: the first of these, 2x2 pixels averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.second = nn.Conv2d(2, 1, 2, stride=2, bias=False)
        self.rectify = nn.ReLU()
        nn.init.constant_(self.first.weight[0], 2.0)
        nn.init.constant_(self.first.weight[1], -1.0)
        nn.init.constant_(self.second.weight[0, 0], 0.25)
        nn.init.constant_(self.second.weight[0, 1], 0.0)

    def forward(self, images: Tensor) -> Verdict:
        return Verdict(self.rectify(self.second(self.rectify(self.first(images)))).mean((1, 2, 3)))


def test_pooled_features_by_hand() -> None:
    pictures = random_images(70, (1, 8, 8))
    blocks = to_float(pictures).view(70, 4, 2, 4, 2)  # 4x4 blocks of 2x2 pixels
    bright = 2 * blocks.amax((2, 4)).clamp_min(0)
    dark = -blocks.amin((2, 4)).clamp_max(0)
    average = blocks.clamp_min(0).mean((2, 4)) * 2
    wanted = torch.cat([part.flatten(1) for part in (bright, dark, average)], 1)
    torch.testing.assert_close(pooled_features(HandMade(), pictures), wanted)


def labeled_features(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three classes, each with its own one of ten features raised."""
    stream = Stream(seed)
    labels = stream.child("labels").permutation(n) % 3
    return stream.child("noise").normal((n, 10)) * 0.2 + F.one_hot(labels, 10), labels


def test_a_linear_classifier_separates_what_is_separable() -> None:
    (train, train_labels), (test, test_labels) = labeled_features(60, 0), labeled_features(300, 1)
    found = svm_probe(train, train_labels, test, test_labels)
    assert found.accuracy > 0.97
    assert found.num_features == 10
    assert found.c in (1e-4, 1e-3, 1e-2, 1e-1)
    assert svm_probe(train, train_labels, test, test_labels) == found, "reproducible"


def test_it_is_near_chance_where_labels_mean_nothing() -> None:
    (train, train_labels), (test, test_labels) = labeled_features(120, 0), labeled_features(600, 1)
    shuffled = train_labels[Stream(2).permutation(120)]
    assert abs(svm_probe(train, shuffled, test, test_labels).accuracy - 1 / 3) < 0.15


def test_the_scale_of_features_does_not_decide() -> None:
    (train, train_labels), (test, test_labels) = labeled_features(60, 0), labeled_features(300, 1)
    tiny = svm_probe(train * 1e-6, train_labels, test * 1e-6, test_labels)
    assert tiny.standardized
    assert tiny.accuracy > 0.97


def test_too_few_images_of_a_class_are_refused() -> None:
    train, labels = labeled_features(9, 0)
    for few in (torch.zeros(9, dtype=torch.long), torch.arange(9), labels.clone().index_fill_(0, torch.tensor([0]), 8)):
        with pytest.raises(UserError, match="two classes and two images of each"):
            svm_probe(train, few, train, labels)


def numbered(n: int, split: str) -> ImageData:
    """Pictures whose only pixel is their number."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    return ImageData(images, "numbers", split, torch.arange(n) % 2, ("even", "odd"))


def test_what_is_tested_on_is_not_trained_on() -> None:
    whole = numbered(50, "all")
    train, test = held_out(whole, whole, 1000, seed=0)
    together = torch.cat([train.images, test.images]).flatten()
    assert together.sort().values.tolist() == list(range(50))
    assert len(test) == 10
    assert torch.equal(train.labels, train.images.flatten().long() % 2)
    assert len(held_out(whole, whole, 7, seed=0)[0]) == 7
    assert not torch.equal(held_out(whole, whole, 7, seed=1)[0].images, held_out(whole, whole, 7, seed=0)[0].images)
    kept = numbered(20, "test")
    train, test = held_out(numbered(50, "train"), kept, 30, seed=0)
    assert len(train.images.unique()) == 30
    assert test is kept, "a split is tested as it is"
    with pytest.raises(UserError, match="numbers is unlabeled"):
        held_out(replace(whole, labels=None), whole, 7, seed=0)


class Dense(nn.Module):
    """Features by fully connected layers on images of 2 pixels."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, images: Tensor) -> Verdict:
        features = self.layers(images)
        return Verdict(features.sum(1), features)


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def two_pixels(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 2)


def test_without_rectifiers_it_is_the_plain_gradient() -> None:
    network = Dense(linear([[1.0, -2.0], [3.0, 4.0]]))
    images = two_pixels(0.1, 0.2, -0.3, 0.4)
    assert guided_backpropagation(network, images, -1, 0).flatten(1).tolist() == [[1.0, -2.0]] * 2
    assert guided_backpropagation(network, images, 0, 1).flatten(1).tolist() == [[3.0, 4.0]] * 2
    smooth = UpsamplingDiscriminator(n_filters=2, hidden_units=3).build((1, 16, 16), 0).eval()
    watched = IMAGES.clone().requires_grad_()
    response = feature_maps(smooth, watched)[1][:, 1].amax((1, 2)).sum()
    (plain,) = torch.autograd.grad(response, watched)
    assert torch.equal(guided_backpropagation(smooth, IMAGES, 1, 1), plain)


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, True)])
def test_two_layers_by_hand(rectifier: nn.Module) -> None:
    """At x = (1, 2) the hidden units are 3, -1, 4 and the gradient that reaches them from the feature is 5, 6, -7.

    The rule keeps the first (positive both ways), not the second (negative input), not the third (negative gradient).
    The feature itself is 5 * 3 - 28 + 20 (+ the leak) > 0 in the first column, negative in the second.
    """
    network = Dense(linear([[1.0, 1.0], [1.0, -1.0], [0.0, 2.0]]), rectifier, nn.Linear(3, 2), rectifier)
    network.layers[3].weight.data = torch.tensor([[5.0, 6.0, -7.0], [5.0, 6.0, -7.0]])
    network.layers[3].bias.data = torch.tensor([20.0, -20.0])
    image = two_pixels(1.0, 2.0)
    assert guided_backpropagation(network, image, -1, 0).flatten().tolist() == [5.0, 5.0]
    assert guided_backpropagation(network, image, -1, 1).flatten().tolist() == [0.0, 0.0]


def test_the_gradient_starts_at_the_strongest_place() -> None:
    image = torch.full((1, 1, 8, 8), -0.5)
    image[0, 0, 5, 2] = 0.9
    gradient = guided_backpropagation(HandMade(), image, 0, 0)
    assert gradient.nonzero().tolist() == [[0, 0, 5, 2]]
    assert gradient[0, 0, 5, 2] == 2.0
    second = guided_backpropagation(HandMade(), image, 1, 0)
    assert second[0, 0, 5, 2] == 0.5
    assert second.count_nonzero() == 1, "the dark pixels of the window do not pass"


def test_the_network_is_left_as_it_was() -> None:
    network = DcganDiscriminator(n_filters=4).build((1, 16, 16), 0)
    with torch.no_grad():
        before = network.eval()(IMAGES).logits
    network.train()
    images = IMAGES.clone()
    with torch.no_grad():
        guided_backpropagation(network, images, -1, 0)
    assert not images.requires_grad
    for layer, channel, message in ((3, 0, "layer=3: this discriminator has 3"), (0, 4, "channel=4: layer 0 has 4")):
        with pytest.raises(UserError, match=message):
            guided_backpropagation(network, images, layer, channel)
    assert network.training
    assert untouched(network)
    assert torch.equal(network.eval()(IMAGES).logits, before)


def test_the_strongest_responses_in_order() -> None:
    """Channel 0 doubles, channel 1 turns around: bright pictures for the one, dark ones for the other."""
    tones = torch.tensor([10, 250, 100, 0, 200], dtype=torch.uint8)
    pictures = tones.view(5, 1, 1, 1).expand(5, 1, 8, 8)
    found = strongest_responses(HandMade(), pictures, layer=0, num_channels=9, num_images=2)
    assert found.channels == (0, 1)
    assert found.images[:, :, 0, 0, 0].tolist() == [[250, 200], [0, 10]]
    weak = to_float(pictures[[1, 4]])
    wanted = over_pale(guided_backpropagation(HandMade(), weak, 0, 0), weak)
    assert torch.equal(found.gradients[0], wanted)
    tiles = found.tiles().unflatten(0, (2, 2, 2))  # row, channel, picture or gradient
    assert torch.equal(tiles[1, 0, 0], found.images[0, 1])
    assert torch.equal(tiles[0, 1, 1], found.gradients[1, 0])
    for wrong in ({"num_channels": 0}, {"num_images": 0}, {"num_images": 6}):
        with pytest.raises(UserError, match="both start at 1, images end at 5"):
            strongest_responses(HandMade(), pictures, **wrong)


def test_a_gradient_is_drawn_over_a_pale_copy_at_any_scale() -> None:
    gradient = torch.zeros(1, 1, 2, 2)
    image = torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]])
    pale = over_pale(gradient, image)
    assert pale.flatten().tolist() == [159, 96, 128, 128]
    gradient[0, 0, 1] = torch.tensor([4e-9, -2e-9])
    drawn = over_pale(gradient, image)
    assert drawn.flatten().tolist() == [159, 96, 223, 80]
    assert torch.equal(over_pale(gradient * 1e9, image), drawn)
