"""Players without normalization: sizes, first weights, resampling, slopes of slopes; a short training."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

import twoplayer as tp
from twoplayer.core.conditioned import conditioned
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import ImageShape
from twoplayer.networks.r3gan import R3ganDiscriminator, R3ganGenerator, exact_sizes
from twoplayer.ops.closed import ClosedDerivatives
from twoplayer.ops.convolution import count_parameters
from twoplayer.ops.resampling import BilinearHalving
from twoplayer.ops.residual import Residual
from twoplayer.regularizers.spectral_normalization import SpectralNormalization

SMALL = {"widths": (8,), "blocks": (1,), "group_size": 4}


def stirred(module: nn.Module) -> nn.Module:
    """The module in float64 with no weight at its beginning: the branches of its blocks do something."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (2, 64, 64), (3, 12, 10)])
def test_sizes_that_fit(shape: ImageShape) -> None:
    z, images, labels = torch.randn(2, 5), torch.randn(2, *shape), torch.tensor([1, 0])
    assert R3ganGenerator(**SMALL).build(5, shape, 0)(z).shape == (2, *shape)
    assert R3ganDiscriminator(**SMALL).build(shape, 0)(images).logits.shape == (2,)
    assert R3ganGenerator(**SMALL, conditional=True).build(5, shape, 2)(z, labels=labels).shape == (2, *shape)
    told = R3ganDiscriminator(**SMALL, conditional=True).build(shape, 2)(images, labels=labels)
    assert told.logits.shape == (2,)
    assert told.features is not None
    assert told.features.shape == (2, 8)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [((1, 8, 8), [4, 8]), ((1, 28, 28), [7, 14, 28]), ((1, 24, 24), [6, 12, 24]), ((1, 64, 64), [4, 8, 16, 32, 64])],
)
def test_maps_double_exactly(shape: ImageShape, sides: list[int]) -> None:
    assert exact_sizes(shape) == [(side, side) for side in sides]


@pytest.mark.parametrize(("side", "fitting"), [(3, 4), (9, 8), (13, 12), (45, 48), (50, 48), (31, 32)])
def test_sizes_that_do_not_fit_are_refused_with_one_that_does(side: int, fitting: int) -> None:
    message = rf"{side}x{side} pixels do not fit.*data\.image_size={fitting}$"
    with pytest.raises(UserError, match=message):
        R3ganGenerator().build(5, (1, side, side), 0)
    with pytest.raises(UserError, match=message):
        R3ganDiscriminator().build((1, side, side), 0)
    assert exact_sizes((1, fitting, fitting))


def test_the_number_of_levels_and_groups_are_said() -> None:
    with pytest.raises(UserError, match=r"widths has 2 numbers, but there are 3 levels \(7x7, 14x14, 28x28\)"):
        R3ganDiscriminator(widths=(32, 16)).build((1, 28, 28), 0)
    with pytest.raises(UserError, match="blocks has 4 numbers"):
        R3ganGenerator(blocks=(1, 1, 1, 1)).build(5, (1, 28, 28), 0)
    with pytest.raises(ValidationError, match="group_size=16 do not divide"):
        R3ganGenerator(widths=(20,), expansion=1)
    with pytest.raises(UserError, match="the generator is conditional"):
        R3ganGenerator(conditional=True).build(5, (1, 8, 8), 0)


def test_the_numbers_of_parameters_are_those_of_the_formula() -> None:
    """At 8x8 with 12 channels below, 8 above, 3 and 1 blocks."""
    config = {"widths": (12, 8), "blocks": (3, 1), "group_size": 4, "expansion": 2}

    def block(width: int) -> int:
        inner = 2 * width
        return width * inner + inner + inner * 4 * 9 + inner + inner * width

    blocks = 3 * block(12) + block(8) + 12 * 8
    generator, discriminator = R3ganGenerator(**config).build(5, (3, 8, 8), 0), R3ganDiscriminator(**config)
    assert count_parameters(generator) == blocks + 5 * 12 + 12 * 16 + 8 * 3
    learned = count_parameters(discriminator.build((3, 8, 8), 0), trainable_only=True)
    assert learned == blocks + 3 * 8 + 12 * 16 + 12


def test_blocks_begin_as_identities_with_scaled_weights() -> None:
    torch.manual_seed(0)
    module = R3ganDiscriminator(blocks=(3,)).build((1, 16, 16), 0)
    blocks = [layer for layer in module.modules() if isinstance(layer, Residual)]
    assert len(blocks) == 9
    values = torch.randn(2, 128, 6, 6)
    for block in blocks:
        assert torch.equal(block(values), values)
        first, grouped, last = (layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
        assert not last.weight.any()
        assert last.bias is None
        assert grouped.weight.shape == (256, 16, 3, 3)
        for layer, fan_in in ((first, 128), (grouped, 16 * 9)):
            expected = math.sqrt(2 / 1.04) * 9 ** (-1 / 4) / math.sqrt(fan_in)
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
            assert layer.bias is not None
            assert not layer.bias.any()


def test_a_generator_begins_with_images_that_are_not_saturated() -> None:
    torch.manual_seed(0)
    images = R3ganGenerator().build(64, (3, 32, 32), 0)(torch.randn(64, 64))
    before = images.atanh().square().mean()
    assert 0.3 < before < 3.0, "the mean square of independent numbers of variance 1, blurred by the enlargement"


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (8, 10)])
def test_halving_is_torchs_with_antialiasing(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(BilinearHalving().double()(images), expected)


def test_inside_a_map_halving_is_a_quarter_of_the_adjoint_of_bilinear_enlargement() -> None:
    small = F.pad(torch.randn(2, 3, 4, 2, dtype=torch.float64), (1, 1, 1, 1))  # zero at the border
    large = torch.randn(2, 3, 12, 8, dtype=torch.float64)
    enlarged = nn.Upsample((12, 8), mode="bilinear")(small)
    torch.testing.assert_close((enlarged * large).sum(), 4.0 * (small * BilinearHalving().double()(large)).sum())


def slope_penalty(module: nn.Module, images: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(module(images).logits.sum(), images, create_graph=True)
    return slope.square().sum() / len(images)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_gradient_of_a_slope_penalty_is_that_of_finite_differences(*, conditional: bool, closed: bool) -> None:
    """R1 along a random direction of all parameters at once, by central differences."""
    config = R3ganDiscriminator(widths=(4, 8), blocks=(1,), group_size=4, conditional=conditional)
    network = stirred(config.build((1, 8, 8), 3))
    module = conditioned(network, {"labels": torch.tensor([2, 0])} if conditional else {})
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    parameters = list(network.parameters())
    directions = [torch.randn_like(parameter) for parameter in parameters]

    with ClosedDerivatives() if closed else nullcontext():
        penalty = slope_penalty(module, images)
        gradients = torch.autograd.grad(penalty, parameters, allow_unused=True, materialize_grads=True)
    found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))

    def moved(by: float) -> Tensor:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += by * direction
        penalty = slope_penalty(module, images).detach()
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= by * direction
        return penalty

    step = 1e-7
    torch.testing.assert_close(found, (moved(step) - moved(-step)) / (2 * step), rtol=1e-5, atol=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_labels_reach_every_parameter() -> None:
    labels = torch.arange(3)
    generator = stirred(R3ganGenerator(**SMALL, conditional=True).build(5, (1, 8, 8), 3))
    discriminator = stirred(R3ganDiscriminator(**SMALL, conditional=True).build((1, 8, 8), 3))
    z = torch.randn(1, 5, dtype=torch.float64).expand(3, 5)
    images = generator(z, labels=labels)
    assert not torch.equal(images[0], images[1]), "G listens"
    same = images[:1].expand(3, -1, -1, -1)
    logits = discriminator(same, labels=labels).logits
    assert len(logits.unique()) == 3, "D listens"
    (discriminator(images, labels=labels).logits * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_spectral_normalization_refuses_what_begins_with_zeros() -> None:
    with pytest.raises(UserError, match="begin with zeros"):
        SpectralNormalization().attach(R3ganDiscriminator(**SMALL).build((1, 8, 8), 0))


PLAYERS = {
    "unconditional": "name: r3gan, widths: [16], blocks: [1]",
    "conditional": "name: r3gan, widths: [16], blocks: [1], conditional: true",
    "half precision": "name: r3gan, widths: [16], blocks: [1]",
    "residual, with labels and attention": "name: resnet, n_filters: 8, conditional: true, attention_side: 4",
}


@pytest.mark.parametrize("players", PLAYERS)
def test_two_steps_of_a_training(players: str, tmp_path: Path) -> None:
    words = [f"{player}={{{PLAYERS[players]}}}" for player in ("generator", "discriminator")]
    words += ["objective={name: relativistic}", "regularizers=[{name: r1}]", "steps=2", "batch_size=8"]
    words += ["precision=bf16"] if players == "half precision" else []
    words += ["sample_every=2", "checkpoint_every=2", "log_every=1", "optimizers.generator.learning_rate=0.01"]
    run = tp.train("digits", *words, out=tmp_path / "run", quiet=True, device="cpu")
    assert run.sample(3, seed=0).shape == (3, 1, 8, 8)
