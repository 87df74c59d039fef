"""The players of the tanh GAN, the plain Keras GAN and the flower GAN: published sizes, exact shapes, random layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.networks.cgan import CganDiscriminator, CganGenerator
from twoplayer.networks.flowers import FlowersDiscriminator, FlowersGenerator, UncroppedConvTranspose2d
from twoplayer.networks.lapgan import LapganDiscriminator, LapganGenerator
from twoplayer.networks.semi_supervised import SemiSupervisedDiscriminator, SemiSupervisedGenerator
from twoplayer.networks.simple import SimpleDiscriminator, SimpleGenerator
from twoplayer.networks.upsampling import UpsamplingDiscriminator, UpsamplingGenerator, sizes_by_doubling
from twoplayer.ops.convolution import count_parameters

GENERATORS = [UpsamplingGenerator(n_filters=8), SimpleGenerator(n_filters=16), FlowersGenerator(n_filters=4)]
DISCRIMINATORS = [UpsamplingDiscriminator(n_filters=4), SimpleDiscriminator(), FlowersDiscriminator(n_filters=4)]


@pytest.mark.parametrize(
    ("network", "shape", "with_statistics", "trainable"),
    [
        (UpsamplingGenerator(), (1, 28, 28), 6_763_777, 6_751_233),
        (UpsamplingDiscriminator(), (1, 28, 28), 3_485_441, 3_485_441),
        (SimpleGenerator(), (3, 28, 28), 14_076_099, 14_076_099),
        (SimpleDiscriminator(), (3, 28, 28), 1_369_089, 1_369_089),
        (FlowersGenerator(), (3, 64, 64), 5_134_339 + 2 * (256 + 128 + 64), 5_134_339),
        (FlowersDiscriminator(), (3, 64, 64), 4_316_545 + 2 * (128 + 256 + 512), 4_316_545),
    ],
)
def test_published_parameter_counts(
    network: GeneratorNetwork | DiscriminatorNetwork, shape: ImageShape, with_statistics: int, trainable: int
) -> None:
    module = network.build(100, shape, 0) if isinstance(network, GeneratorNetwork) else network.build(shape, 0)
    assert count_parameters(module) == with_statistics
    assert count_parameters(module, trainable_only=True) == trainable


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 9), (1, 31, 17), (3, 45, 64), (1, 6, 50)])
def test_odd_sizes(shape: ImageShape) -> None:
    for generator in GENERATORS:
        assert generator.build(5, shape, 0)(torch.randn(2, 5)).shape == (2, *shape)
    for discriminator in DISCRIMINATORS:
        assert discriminator.build(shape, 0)(torch.randn(2, *shape)).logits.shape == (2,)


def shapes_on_the_way(module: nn.Module, inputs: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[tuple[int, ...]]:
    """Output shapes, without the batch, of all layers of some kinds, in the order in which they are called."""
    seen: list[tuple[int, ...]] = []
    for layer in module.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    module(inputs)
    return seen


def test_the_tanh_discriminator_pools_28_to_5() -> None:
    module = UpsamplingDiscriminator().build((1, 28, 28), 0)
    seen = shapes_on_the_way(module, torch.zeros(1, 1, 28, 28), (nn.Conv2d, nn.MaxPool2d, nn.Flatten))
    assert seen == [(64, 28, 28), (64, 14, 14), (128, 10, 10), (128, 5, 5), (3200,)]


def test_the_tanh_discriminator_pads_only_the_axis_that_needs_it() -> None:
    module = UpsamplingDiscriminator(n_filters=2).build((1, 12, 10), 0)
    seen = shapes_on_the_way(module, torch.zeros(1, 1, 12, 10), (nn.Conv2d, nn.MaxPool2d))
    assert seen == [(2, 12, 10), (2, 6, 5), (4, 2, 5), (4, 1, 2)]


def test_the_tanh_discriminator_refuses_images_that_pool_to_nothing() -> None:
    with pytest.raises(UserError, match=r"28x3 pixels are too small.*'upsampling'.*data\.image_size"):
        UpsamplingDiscriminator().build((1, 3, 28), 0)


@pytest.mark.parametrize("size", [28, 29, 30, 31, 125])
def test_enlarging_repeats_each_pixel_twice(size: int) -> None:
    """At odd sizes the last repetition is left out, as if the doubled map were cropped."""
    sizes = [height for height, _ in sizes_by_doubling((1, size, size), 2)]
    for generator in (UpsamplingGenerator(n_filters=1, hidden_units=1), SimpleGenerator(n_filters=8, widths=(1,))):
        enlarge = [
            layer for layer in generator.build(3, (1, size, size), 0).modules() if isinstance(layer, nn.Upsample)
        ]
        for layer, side, larger in zip(enlarge, sizes[:-1], sizes[1:], strict=True):
            small = torch.randn(1, 1, side, side)
            doubled = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
            assert torch.equal(layer(small), doubled[..., :larger, :larger])


def test_sizes_double_up_to_the_image() -> None:
    assert sizes_by_doubling((3, 28, 30), 2) == [(7, 8), (14, 15), (28, 30)]
    assert sizes_by_doubling((3, 64, 9), 3) == [(8, 2), (16, 3), (32, 5), (64, 9)]


def test_the_simple_generator_halves_filters_where_the_size_doubles() -> None:
    seen = shapes_on_the_way(SimpleGenerator().build(100, (3, 28, 28), 0), torch.zeros(1, 100), (nn.Conv2d,))
    assert seen == [(128, 7, 7), (128, 7, 7), (64, 14, 14), (32, 28, 28), (3, 28, 28)]


def test_the_flower_generator_goes_from_4_to_8_without_cropping() -> None:
    module = FlowersGenerator().build(100, (3, 64, 64), 0)
    seen = shapes_on_the_way(module, torch.zeros(2, 100), (nn.Unflatten, nn.ConvTranspose2d))
    assert seen == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]


def test_the_uncropped_transposed_convolution_is_the_adjoint_of_a_valid_convolution() -> None:
    """<convolution(y), x> = <y, transposed(x)> for all x and y: the map grows from 4 to 8 by definition."""
    layer = UncroppedConvTranspose2d(3, 2, 5, (8, 8))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    small, large = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 8, 8)
    assert layer(small).shape == large.shape
    torch.testing.assert_close((F.conv2d(large, layer.weight) * small).sum(), (large * layer(small)).sum())
    cropped = UncroppedConvTranspose2d(3, 2, 5, (5, 8))
    cropped.load_state_dict(layer.state_dict())
    assert torch.equal(cropped(small), layer(small)[..., 1:6, :]), "of 3 rows too many the odd one goes after"


def test_the_flower_discriminator_drops_pixels_of_its_input_in_training_only() -> None:
    torch.manual_seed(0)
    module = FlowersDiscriminator(n_filters=4).build((3, 32, 32), 0)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(module(images).logits, module(images).logits)
    module.eval()
    assert torch.equal(module(images).logits, module(images).logits)
    dropout = next(layer for layer in module.modules() if isinstance(layer, nn.Dropout)).train()
    kept = dropout(torch.ones(1, 3, 100, 100))
    assert kept.unique().tolist() == [0.0, 2.0]
    assert 0.48 < (kept == 0).float().mean() < 0.52
    without = FlowersDiscriminator(n_filters=4, dropout=0.0).build((3, 32, 32), 0)
    assert torch.equal(without(images).logits, without(images).logits), "nothing else in it is random"


def test_only_what_judges_each_image_alone_says_so() -> None:
    """The law behind `judges_alone`: in training mode too, half a batch gets the verdicts it has in the whole."""
    images = torch.randn(4, 1, 16, 16)
    for config in DISCRIMINATORS:
        module = config.model_copy(update={"dropout": 0.0}).build((1, 16, 16), 0)
        whole, half = module(images).logits, module(images[:2]).logits
        assert torch.allclose(whole[:2], half, atol=1e-5) == config.judges_alone, config.name


@pytest.mark.parametrize(
    ("generator", "discriminator", "shape", "latent_dim", "counts"),
    [
        (CganGenerator(), CganDiscriminator(), (1, 28, 28), 100, (2_413_984, 1_224_351)),
        (LapganGenerator(), LapganDiscriminator(), (3, 32, 32), 1024, (232_579, 129_409)),
        (SemiSupervisedGenerator(), SemiSupervisedDiscriminator(), (1, 28, 28), 100, (694_568, 1_538_770)),
    ],
)
def test_trainable_parameters_of_published_players(
    generator: GeneratorNetwork,
    discriminator: DiscriminatorNetwork,
    shape: tuple[int, int, int],
    latent_dim: int,
    counts: tuple[int, int],
) -> None:
    players = generator.build(latent_dim, shape, 10), discriminator.build(shape, 10)
    assert tuple(count_parameters(player, trainable_only=True) for player in players) == counts
