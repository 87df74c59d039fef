"""Convolutions and batch normalization against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d, count_parameters, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(28, 5, 2, (1, 2)), (28, 5, 1, (2, 2)), (7, 5, 2, (2, 2)), (4, 1, 2, (0, 0))],
)
def test_same_padding_puts_the_odd_pixel_after(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])
@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
def test_transpose_is_the_adjoint(size: tuple[int, int], kernel: int, stride: int) -> None:
    """<conv(x), y> = <x, transpose(y)> for equal weights: a law that fixes size, padding and crop at once."""
    torch.manual_seed(0)
    forward = SameConv2d(3, 4, kernel, stride, bias=False).double()
    back = SameConvTranspose2d(4, 3, kernel, stride, size, bias=False).double()
    back.weight.data = forward.weight.data
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = torch.randn_like(forward(x))
    assert forward(x).shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close((forward(x) * y).sum(), (x * back(y)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 3), (6, 3, 4, 5)])
def test_batch_norm_against_numpy(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    layer = BatchNorm(3, epsilon=1e-3, momentum=0.25).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    values = x.numpy()
    mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
    view = (1, 3) + (1,) * (len(shape) - 2)
    gamma, beta = (t.detach().numpy().reshape(view) for t in (layer.weight, layer.bias))
    np.testing.assert_allclose(layer(x).detach().numpy(), (values - mean) / np.sqrt(variance + 1e-3) * gamma + beta)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * mean.ravel())
    np.testing.assert_allclose(layer.running_variance.numpy(), 0.75 + 0.25 * variance.ravel())
    layer.eval()
    running_mean, running_variance = (t.numpy().reshape(view) for t in (layer.running_mean, layer.running_variance))
    expected = (values - running_mean) / np.sqrt(running_variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(layer(x).detach().numpy(), expected)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_second_derivative(training: bool) -> None:
    torch.manual_seed(0)
    layer = BatchNorm(2).double().train(training)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x), x)


def test_count_parameters() -> None:
    layer = BatchNorm(5)
    assert count_parameters(layer) == 20
    assert count_parameters(layer, trainable_only=True) == 10
