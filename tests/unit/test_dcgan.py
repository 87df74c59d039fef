"""The DCGAN players generalize as their source says: any size, filters halving, blocks doubling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from twoplayer.networks.dcgan import DcganDiscriminator, DcganGenerator, halved_sizes
from twoplayer.ops.convolution import count_parameters


@pytest.mark.parametrize("size", [(7, 7), (28, 28), (30, 45), (64, 64)])
@pytest.mark.parametrize("n_blocks", [0, 1, 3])
def test_any_size_and_depth(size: tuple[int, int], n_blocks: int) -> None:
    generator = DcganGenerator(n_filters=8, n_blocks=n_blocks).build(5, (3, *size), 10)
    discriminator = DcganDiscriminator(n_filters=4, n_blocks=n_blocks).build((3, *size), 10)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, *size)
    assert discriminator(images).logits.shape == (2,)


def test_filters_halve_in_g_and_double_in_d() -> None:
    generator = DcganGenerator(n_filters=32, n_blocks=3).build(5, (1, 32, 32), 10)
    transposed = [layer for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in transposed] == [32, 16, 8, 4, 1]
    discriminator = DcganDiscriminator(n_filters=4, n_blocks=3).build((1, 32, 32), 10)
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4, 8, 16, 32, 1]


def test_sizes_are_halved_rounding_up() -> None:
    assert halved_sizes((1, 28, 30), 3) == [(28, 30), (14, 15), (7, 8), (4, 4)]


def test_without_batch_norm_the_layers_before_it_get_a_bias() -> None:
    plain = DcganGenerator(n_filters=8, batch_norm=False).build(5, (1, 28, 28), 10)
    assert not list(plain.buffers())
    assert count_parameters(plain) == (5 + 1) * 8 * 49 + 25 * (8 * 8 + 8 * 4 + 4 * 2 + 2) + 8 + 4 + 2
