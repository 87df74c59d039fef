"""The players of the DCGAN paper: counted by hand, started as published, normalized where they should be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import NeedsPreparation
from twoplayer.networks.paper_dcgan import PaperDcganDiscriminator, PaperDcganGenerator, fitting_blocks
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import count_parameters
from twoplayer.ops.virtual_batch_norm import VirtualBatchNorm

LATENT_DIM = 6
SHAPE = (3, 16, 16)


def small_generator(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return PaperDcganGenerator(n_filters=16, **settings).build(LATENT_DIM, SHAPE, 10)


def small_discriminator(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return PaperDcganDiscriminator(n_filters=8, **settings).build(SHAPE, 10)


def layers(module: nn.Module, kind: Any) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def test_paper_sizes_counted_by_hand() -> None:
    """100 latents, 64x64x3: dense or convolution weights, gains and shifts, then the biases of the rest."""
    generator = PaperDcganGenerator().build(100, (3, 64, 64), 10)
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    expected = 100 * 4 * 4 * 1024 + kernels + 2 * (1024 + 512 + 256 + 128) + 3
    assert count_parameters(generator, trainable_only=True) == expected == 18_855_043
    transposed = layers(generator, nn.ConvTranspose2d)
    assert [layer.output_size for layer in transposed] == [(8, 8), (16, 16), (32, 32), (64, 64)]

    discriminator = PaperDcganDiscriminator().build((3, 64, 64), 10)
    kernels = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    expected = kernels + 128 + 2 * (256 + 512 + 1024) + 4 * 4 * 1024 + 1
    assert count_parameters(discriminator, trainable_only=True) == expected == 17_232_897
    with torch.no_grad():
        verdict = discriminator(torch.zeros(1, 3, 64, 64))
    assert verdict.features is not None
    assert verdict.features.shape == (1, 4 * 4 * 1024)


@pytest.mark.parametrize("build", [lambda: PaperDcganGenerator(n_filters=256), lambda: PaperDcganDiscriminator()])
def test_first_weights(build: Any) -> None:
    torch.manual_seed(0)
    config = build()
    is_generator = isinstance(config, PaperDcganGenerator)
    module = config.build(100, (3, 28, 28), 10) if is_generator else config.build((3, 28, 28), 10)
    for layer in layers(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        few = 5.0 / layer.weight.numel() ** 0.5
        assert layer.weight.std().item() == pytest.approx(0.02, rel=few)
        assert abs(layer.weight.mean().item()) < 0.02 * few
        assert layer.bias is None or not layer.bias.any()
    for layer in layers(module, BatchNorm):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=5.0 / layer.weight.numel() ** 0.5)
        assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.02)
        assert not layer.bias.any()
        assert layer.epsilon == 1e-5


def test_normalization_is_absent_at_the_output_of_g_and_the_input_of_d() -> None:
    kinds = nn.Linear | nn.ConvTranspose2d | nn.Conv2d | BatchNorm
    names = [type(layer).__name__ for layer in layers(small_generator(), kinds)]
    assert names == ["EdgeLinear", "BatchNorm", "SameConvTranspose2d", "BatchNorm", "EdgeSameConvTranspose2d"]
    names = [type(layer).__name__ for layer in layers(small_discriminator(), kinds)]
    assert names == ["EdgeSameConv2d", "SameConv2d", "BatchNorm", "Linear"]
    for module in (small_generator(normalization="none"), small_discriminator(normalization="none")):
        assert not layers(module, BatchNorm | VirtualBatchNorm)
        assert all(layer.bias is not None for layer in layers(module, nn.Linear | nn.ConvTranspose2d | nn.Conv2d))


@pytest.mark.parametrize("normalization", ["batch", "virtual"])
def test_without_affine_only_scale_and_shift_are_gone(normalization: str) -> None:
    learned, fixed = (small_generator(normalization=normalization, affine=affine) for affine in (True, False))
    normalizations = layers(fixed, BatchNorm | VirtualBatchNorm)
    assert len(normalizations) == 2
    assert not any(list(layer.parameters()) for layer in normalizations)
    gone = count_parameters(learned, trainable_only=True) - count_parameters(fixed, trainable_only=True)
    assert gone == 2 * (16 + 8)
    gone = count_parameters(small_discriminator()) - count_parameters(small_discriminator(affine=False))
    assert gone == 2 * 16


@pytest.mark.parametrize("size", [(1, 2), (7, 7), (28, 28), (30, 45)])
@pytest.mark.parametrize("n_blocks", [None, 1, 3])
def test_any_size_and_depth(size: tuple[int, int], n_blocks: int | None) -> None:
    if n_blocks == 3 and size == (1, 2):
        with pytest.raises(UserError, match="n_blocks=3 is too many for 1x2"):
            PaperDcganGenerator(n_blocks=n_blocks).build(5, (3, *size), 10)
        return
    generator = PaperDcganGenerator(n_filters=8, n_blocks=n_blocks).build(5, (3, *size), 10)
    discriminator = PaperDcganDiscriminator(n_filters=4, n_blocks=n_blocks).build((3, *size), 10)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, *size)
    assert discriminator(images).logits.shape == (2,)


def test_depth_follows_the_shorter_side() -> None:
    sides = {1: 1, 4: 1, 8: 1, 15: 1, 16: 2, 28: 2, 32: 3, 64: 4, 128: 5}
    assert {side: fitting_blocks((3, side, 128)) for side in sides} == sides


def assert_everything_learns(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("normalization", ["batch", "virtual", "none"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("n_blocks", [None, 3])
def test_any_options_of_g_learn(normalization: str, affine: bool, n_blocks: int | None) -> None:
    generator = small_generator(normalization=normalization, affine=affine, n_blocks=n_blocks, reference_size=4)
    images = generator(torch.randn(5, LATENT_DIM))
    assert images.shape == (5, *SHAPE)
    (images * torch.randn_like(images)).sum().backward()
    assert_everything_learns(generator)


@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("minibatch", ["none", "discrimination", "standard-deviation"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_any_options_of_d_learn(normalization: str, affine: bool, minibatch: str, dropout: float) -> None:
    discriminator = small_discriminator(
        normalization=normalization, affine=affine, minibatch=minibatch, dropout=dropout, num_kernels=7, kernel_dim=3
    )
    verdict = discriminator(torch.rand(5, *SHAPE) * 2 - 1)
    assert verdict.features is not None
    assert verdict.features.shape == (5, 16 * 4 * 4), "the minibatch features are not among them"
    (verdict.logits * torch.randn(5)).sum().backward()
    assert_everything_learns(discriminator)


@pytest.mark.parametrize("minibatch", ["discrimination", "standard-deviation"])
def test_d_sees_that_a_batch_is_collapsed(minibatch: str) -> None:
    """The same image gets another logit among copies of itself; without minibatch features it does not."""
    images = torch.rand(6, *SHAPE, dtype=torch.float64) * 2 - 1
    copies = images[:1].expand_as(images)
    for name, depends in (("none", False), (minibatch, True)):
        config = {"normalization": "none", "minibatch": name}
        discriminator = small_discriminator(**config).double()
        among_others, among_copies = discriminator(images).logits[0], discriminator(copies).logits[0]
        assert (abs(among_others - among_copies) > 1e-9).item() == depends
        assert PaperDcganDiscriminator(**config).judges_alone == (not depends)


def test_minibatch_discrimination_starts_sensitive_at_any_width() -> None:
    """Distances of a few units, where exp(-distance) has a slope, though the paper's D has 16,384 features."""
    torch.manual_seed(0)
    discriminator = PaperDcganDiscriminator(minibatch="discrimination").build((3, 64, 64), 10)
    with torch.no_grad():
        features = discriminator(torch.rand(8, 3, 64, 64) * 2 - 1).features
        closeness = discriminator.compare(features)[:, features.shape[1] :] + 1.0
    assert 0.001 < closeness.mean() / 7 < 0.5


@pytest.mark.parametrize("training", [True, False])
def test_virtual_normalization_keeps_examples_apart(training: bool) -> None:
    z = torch.randn(6, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    virtual = small_generator(normalization="virtual", reference_size=4).train(training)
    together = virtual(z)
    alone = torch.cat([virtual(row[None]) for row in z])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(virtual.train(not training)(z), together, rtol=0.0, atol=0.0)
    if training:
        plain = small_generator()
        assert (torch.cat([plain(row[None]) for row in z]) - plain(z)).abs().max() > 1e-3


def test_only_the_virtual_generator_needs_preparation() -> None:
    assert not isinstance(small_generator(), NeedsPreparation)
    assert not isinstance(small_discriminator(), NeedsPreparation)
    virtual = small_generator(normalization="virtual", reference_size=4)
    assert isinstance(virtual, NeedsPreparation)
    assert virtual.preparation_size == 4
    z, reference = torch.randn(2, LATENT_DIM), torch.rand(4, LATENT_DIM)
    before = virtual(z)
    virtual.prepare(reference)
    assert (virtual(z) - before).abs().max() > 1e-3, "the reference matters"
    twin = small_generator(normalization="virtual", reference_size=4)
    twin.load_state_dict(virtual.state_dict())
    assert torch.equal(twin(z), virtual(z)), "the reference is saved with the weights"
    reference.zero_()
    assert torch.equal(twin(z), virtual(z)), "the reference is a copy"
