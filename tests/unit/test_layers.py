"""Layers that look at more than one example: who sees whom, direct oracles, derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from twoplayer.ops.minibatch_discrimination import MinibatchDiscrimination
from twoplayer.ops.minibatch_stddev import MinibatchStddev
from twoplayer.ops.virtual_batch_norm import VirtualBatchNorm

A, B, C = 4, 3, 2
R = 5


def discrimination(initial_deviation: float = 0.5) -> MinibatchDiscrimination:
    torch.manual_seed(0)
    return MinibatchDiscrimination(A, B, C, initial_deviation=initial_deviation).double()


def virtual(num_channels: int = 3) -> VirtualBatchNorm:
    torch.manual_seed(1)
    layer = VirtualBatchNorm(num_channels, R).double()
    nn.init.normal_(layer.bias)
    return layer


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_minibatch_discrimination_is_the_double_sum_of_the_paper() -> None:
    layer, x = discrimination(), normal(6, A)
    rows = torch.einsum("na,abc->nbc", x, layer.weight)
    expected = torch.zeros(6, B, dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            if j != i:
                expected[i] += torch.exp(-(rows[i] - rows[j]).abs().sum(1))
    torch.testing.assert_close(layer(x), torch.cat([x, expected - 1.0], dim=1), rtol=1e-12, atol=1e-12)


def test_minibatch_discrimination_starts_as_published() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(200)
    assert layer.weight.shape == (200, 100, 5)
    assert layer.weight.std().item() == pytest.approx(0.05, rel=0.01)
    assert layer.bias.eq(-1.0).all()
    assert layer(torch.randn(3, 200)).shape == (3, 300)


def test_an_example_does_not_count_itself() -> None:
    """Far from everybody, what is left is exactly the bias; k copies of one point count k - 1 each."""
    layer = discrimination()
    far = torch.arange(5, dtype=torch.float64)[:, None] * 1e6 * torch.ones(A, dtype=torch.float64)
    assert torch.equal(layer(far)[:, A:], layer.bias.expand(5, B))
    assert torch.equal(layer(far[:1])[:, A:], layer.bias[None]), "alone in its batch"
    copies = torch.cat([far[:1].expand(3, A), far[1:3].repeat_interleave(2, 0)])
    others = torch.tensor([2, 2, 2, 1, 1, 1, 1], dtype=torch.float64)
    assert torch.equal(layer(copies)[:, A:], layer.bias + others[:, None])


def test_batches_of_minibatch_discrimination_are_separate() -> None:
    layer, real, fake = discrimination(), normal(4, A), normal(4, A, seed=1)
    before = layer(real)
    layer(fake)
    assert torch.equal(layer(real), before), "nothing is remembered"
    together = layer(torch.cat([real, fake]))
    assert (together[:4, A:] > before[:, A:]).all(), "in one batch each would count the other half too"


@pytest.mark.parametrize("layer", [discrimination(), MinibatchStddev()])
def test_permuting_the_batch_permutes_the_output(layer: nn.Module) -> None:
    x = normal(6, A) if isinstance(layer, MinibatchDiscrimination) else normal(6, 2, 3, 3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(layer(x[order]), layer(x)[order], rtol=1e-12, atol=1e-12)


def test_minibatch_stddev_by_hand() -> None:
    """Two places: values 0 and 2 differ by 1 from their mean, values 1 and 7 by 3; on average 2."""
    x = torch.tensor([[0.0, 1.0], [2.0, 7.0]], dtype=torch.float64).view(2, 1, 1, 2)
    output = MinibatchStddev()(x)
    assert torch.equal(output[:, :1], x)
    torch.testing.assert_close(output[:, 1:], torch.full_like(x, 2.0), rtol=1e-7, atol=0.0)


def test_minibatch_stddev_of_identical_images_is_nearly_zero() -> None:
    x = normal(1, 3, 4, 4).expand(5, 3, 4, 4).requires_grad_()
    output = MinibatchStddev()(x)
    assert output.shape == (5, 4, 4, 4)
    assert output[:, 3].max().item() == pytest.approx(1e-4)
    (slope,) = torch.autograd.grad(output[:, 3].sum(), x)
    assert slope.isfinite().all(), "the root's slope at zero is kept finite"


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (3, [3]), (7, [7]), (10, [5, 5]), (14, [5, 5, 4])])
def test_groups_of_minibatch_stddev_are_nearly_equal_and_never_too_small(n: int, sizes: list[int]) -> None:
    x = normal(n, 2, 3, 3)
    expected = torch.cat([MinibatchStddev()(part) for part in x.split(sizes)])
    assert torch.equal(MinibatchStddev(group_size=4)(x), expected)


@pytest.mark.parametrize("place", [(), (4, 6)])
def test_virtual_batch_norm_against_a_loop(place: tuple[int, ...]) -> None:
    """Each example is one more member of the reference batch; the reference stands for itself."""
    layer, x = virtual(), normal(R + 3, 3, *place) * 2 + 1
    assert layer.weight is not None
    expected = torch.empty_like(x)
    for channel in range(3):
        values = x[:, channel].unsqueeze(-1) if not place else x[:, channel]
        own = values.flatten(1).mean(1), values.flatten(1).square().mean(1)
        whole = [statistic[:R].mean() for statistic in own]
        for i in range(R + 3):
            member = i >= R
            mean, square = (own[k][i] / (R + 1) + whole[k] * R / (R + 1) if member else whole[k] for k in range(2))
            normalized = (x[i, channel] - mean) / (square - mean**2 + 1e-5).sqrt()
            expected[i, channel] = normalized * layer.weight[channel] + layer.bias[channel]
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)


def test_virtual_batch_norm_of_the_reference_is_batch_norm() -> None:
    layer, x = virtual(), normal(R, 3, 4, 6)
    expected = nn.functional.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=1e-5)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("training", [True, False])
def test_virtual_batch_norm_does_not_mix_examples(training: bool) -> None:
    layer, reference, examples = virtual().train(training), normal(R, 3, 4, 4), normal(6, 3, 4, 4, seed=1)
    together = layer(torch.cat([reference, examples]))[R:]
    for i, example in enumerate(examples):
        alone = layer(torch.cat([reference, example[None]]))[R]
        torch.testing.assert_close(alone, together[i], rtol=1e-13, atol=1e-13)
    changed = layer(torch.cat([reference + 1.0, examples]))[R:]
    assert (changed - together).abs().max() > 0.1, "the reference matters"


def test_virtual_batch_norm_survives_a_constant_channel() -> None:
    """E[x^2] - E[x]^2 may round to a little below zero."""
    layer = VirtualBatchNorm(1, 3)
    output = layer(torch.full((6, 1, 7, 7), 1000.1))
    assert output.isfinite().all()


def test_virtual_batch_norm_starts_near_the_identity_and_may_go_without_learning() -> None:
    torch.manual_seed(0)
    layer = VirtualBatchNorm(10_000, R)
    assert layer.weight is not None
    assert layer.weight.mean().item() == pytest.approx(1.0, abs=1e-3)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert not layer.bias.any()
    plain = VirtualBatchNorm(3, R, affine=False)
    assert not list(plain.parameters())
    output = plain(torch.randn(R, 3, 50))
    torch.testing.assert_close(output.mean((0, 2)), torch.zeros(3), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(output.var((0, 2), correction=0), torch.ones(3), rtol=1e-4, atol=0.0)


DERIVATIVES: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (discrimination, (3, A)),
    (MinibatchStddev, (3, 2, 2, 2)),
    (lambda: MinibatchStddev(group_size=2), (5, 1, 2, 2)),
    (lambda: virtual(2), (R + 2, 2, 3)),
]


@pytest.mark.parametrize(("build", "shape"), DERIVATIVES)
def test_first_and_second_derivatives(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """The second one is what gradient penalties take."""
    layer, x = build(), normal(*shape).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    parameters = tuple(parameter.detach().requires_grad_() for parameter in layer.parameters())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    assert math.prod(shape) < 100, "small enough for finite differences"
    assert torch.autograd.gradcheck(call, (x, *parameters))
    assert torch.autograd.gradgradcheck(call, (x, *parameters))
