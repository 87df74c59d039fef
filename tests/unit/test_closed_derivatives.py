"""Convolutions and rectifiers whose derivatives stay among themselves: against torch, to the second order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops import closed
from twoplayer.ops.closed import ClosedDerivatives
from twoplayer.ops.convolve import convolve, input_gradient, weight_gradient
from twoplayer.ops.window import Window

WINDOWS = {
    "plain": (3, 4, Window()),
    "stride": (3, 4, Window((2, 2), (1, 1), (1, 1))),
    "uneven": (3, 4, Window((2, 2), (1, 1), (2, 2))),
    "more before": (2, 4, Window((2, 1), (2, 0), (0, 1))),
    "dilation": (3, 4, Window((1, 2), (1, 2), (1, 2), (2, 1))),
    "groups": (4, 6, Window((1, 1), (1, 1), (1, 1), (1, 1), 2)),
    "one channel": (1, 4, Window((1, 1), (1, 1), (1, 1))),
    "one channel, all": (1, 4, Window((2, 1), (1, 0), (2, 3), (1, 2))),
    "one channel a group": (3, 3, Window((1, 1), (1, 1), (1, 1), (1, 1), 3)),
}


def numbers(*shape: int, last: bool = False) -> Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))
    return values.contiguous(memory_format=torch.channels_last) if last else values


def by_torch(images: Tensor, weight: Tensor, window: Window) -> Tensor:
    (top, left), (bottom, right) = window.before, window.after
    padded = F.pad(images, (left, right, top, bottom))
    return F.conv2d(padded, weight, None, window.stride, 0, window.dilation, window.groups)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("case", WINDOWS)
def test_the_three_maps_are_those_of_torch(case: str, n: int, last: bool) -> None:
    channels, outputs, window = WINDOWS[case]
    images = numbers(n, channels, 7, 6, last=last).requires_grad_()
    weight = numbers(outputs, channels // window.groups, 3, 2, last=last).requires_grad_()
    expected = by_torch(images, weight, window)
    assert window.output_size((7, 6), (3, 2)) == expected.shape[2:]
    delta = numbers(*expected.shape, last=last)
    by_images, by_weight = torch.autograd.grad(expected, (images, weight), delta)
    images, weight = images.detach(), weight.detach()
    torch.testing.assert_close(convolve(images, weight, window), expected.detach())
    torch.testing.assert_close(input_gradient(delta, weight, (7, 6), window), by_images)
    torch.testing.assert_close(weight_gradient(images, delta, (3, 2), window), by_weight)


def test_a_kernel_as_large_as_the_image_is_a_dense_layer() -> None:
    images, weight = numbers(3, 4, 5, 2).requires_grad_(), numbers(6, 4, 5, 2).requires_grad_()
    expected = F.conv2d(images, weight)
    delta = numbers(3, 6, 1, 1)
    by_images, by_weight = torch.autograd.grad(expected, (images, weight), delta)
    torch.testing.assert_close(convolve(images, weight, Window()), expected)
    torch.testing.assert_close(input_gradient(delta, weight, (5, 2), Window()), by_images)
    torch.testing.assert_close(weight_gradient(images, delta, (5, 2), Window()), by_weight)


@pytest.mark.parametrize("window", [Window(), Window((2, 2), (1, 1), (2, 2)), Window(dilation=(2, 1))])
def test_weights_gradient_as_a_matrix_product(window: Window) -> None:
    """Whatever this processor is, both ways give the same sums: enough images for several helpings, uneven ones."""
    from twoplayer.ops import convolve as file

    torch.manual_seed(0)
    images = torch.randn(9, 16, 12, 11).contiguous(memory_format=torch.channels_last)
    delta = torch.randn(9, 5, *window.output_size((12, 11), (3, 4))).contiguous(memory_format=torch.channels_last)
    padded = file.pad(images, window)
    original, file.COLUMN_NUMBERS = file.COLUMN_NUMBERS, 4 * delta[0, 0].numel() * 16 * 12
    try:
        found = file._weight_gradient_columns(padded, delta, (3, 4), window.unpadded)
    finally:
        file.COLUMN_NUMBERS = original
    expected = weight_gradient(images.double(), delta.double(), (3, 4), window)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("case", WINDOWS)
def test_derivatives_of_both_orders(case: str, n: int, last: bool) -> None:
    channels, outputs, window = WINDOWS[case]
    images = numbers(n, channels, 5, 4, last=last).requires_grad_()
    weight = numbers(outputs, channels // window.groups, 3, 2, last=last).requires_grad_()

    def function(images: Tensor, weight: Tensor) -> Tensor:
        return closed._convolve(images, weight, window.flat)

    assert torch.autograd.gradcheck(function, (images, weight))
    assert torch.autograd.gradgradcheck(function, (images, weight), fast_mode=True)  # along random directions


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "dilation": 2}]
)
def test_transposed_convolution(options: dict[str, int]) -> None:
    images, bias = numbers(2, 4, 4, 3).requires_grad_(), numbers(6).requires_grad_()
    weight = numbers(4, 6 // options.get("groups", 1), 3, 3).requires_grad_()
    torch.testing.assert_close(
        closed.conv_transpose2d(images, weight, bias, **options), F.conv_transpose2d(images, weight, bias, **options)
    )

    def function(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return closed.conv_transpose2d(images, weight, bias, **options)

    assert torch.autograd.gradcheck(function, (images, weight, bias))
    assert torch.autograd.gradgradcheck(function, (images, weight, bias), fast_mode=True)


def test_no_images_have_no_gradient_to_give() -> None:
    images, weight = numbers(0, 3, 5, 5).requires_grad_(), numbers(4, 3, 3, 3).requires_grad_()
    closed.conv2d(images, weight).sum().backward()
    assert images.grad is not None
    assert images.grad.shape == (0, 3, 5, 5)
    assert weight.grad is not None
    assert weight.grad.abs().max() == 0


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_rectifier(slope: float) -> None:
    values = numbers(3, 7).requires_grad_()
    torch.testing.assert_close(closed.leaky_relu(values, slope), F.leaky_relu(values, slope))
    assert torch.autograd.gradcheck(closed.leaky_relu, (values, slope))
    assert torch.autograd.gradgradcheck(closed.leaky_relu, (values, slope))


def test_a_rectifiers_second_derivative_sends_nothing_down() -> None:
    """torch's sends a tensor of zeros, which then goes through every layer below."""
    values = numbers(3, 7).requires_grad_()
    (slope,) = torch.autograd.grad(closed.leaky_relu(values, 0.2).sum(), values, create_graph=True)
    assert not slope.requires_grad
    (by_torch,) = torch.autograd.grad(F.leaky_relu(values, 0.2).sum(), values, create_graph=True)
    assert by_torch.requires_grad


def network(act: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.BatchNorm2d(6),
        act,
        nn.Conv2d(6, 8, 4, stride=2, padding="valid"),
        act,
        nn.ConvTranspose2d(8, 4, 3, stride=2, groups=2),
        act,
        nn.Conv2d(4, 3, 3, padding="same"),
        nn.Flatten(),
        nn.LazyLinear(1),
    ).double()


def slope_and_gradients(module: nn.Module, images: Tensor) -> list[Tensor]:
    images = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(images).sum(), images, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1.0).square().mean()
    found = torch.autograd.grad(penalty, list(module.parameters()), allow_unused=True)
    return [slope.detach(), *(torch.zeros(()) if each is None else each for each in found)]


@pytest.mark.parametrize("act", [nn.LeakyReLU(0.2, inplace=True), nn.ReLU(), nn.Tanh(), nn.GELU()])
def test_any_network_inside_the_context(act: nn.Module) -> None:
    module, images = network(act), numbers(3, 1, 9, 9)
    module(images)  # gives the lazy layer its weights and batch normalization something to remember
    module.eval()
    expected = slope_and_gradients(module, images)
    with ClosedDerivatives():
        found = slope_and_gradients(module, images)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12


def test_compiled_second_derivatives_are_the_uncompiled_ones() -> None:
    """The trap this guards against: a compiled autograd function can lose its second derivative without a word."""
    torch.manual_seed(0)
    images, weight, last = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(4)

    def penalty(images: Tensor, weight: Tensor) -> Tensor:
        hidden = closed.leaky_relu(closed.conv2d(images, weight, stride=2, padding=1), 0.2)
        hidden = closed.leaky_relu(closed.conv_transpose2d(hidden, weight, stride=2, padding=1), 0.2)
        logits = (closed.conv2d(hidden, weight).mean((2, 3)) * last).sum()
        (slope,) = torch.autograd.grad(logits, images, create_graph=True)
        return slope.square().sum()

    def gradients(function: object) -> tuple[Tensor, ...]:
        leaves = images.clone().requires_grad_(), weight.clone().requires_grad_()
        return torch.autograd.grad(function(*leaves), leaves, allow_unused=True)  # type: ignore[operator]

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = gradients(torch.compile(penalty, backend="aot_eager"))
    expected = gradients(penalty)
    torch.testing.assert_close(compiled[1], expected[1], rtol=1e-5, atol=1e-5)


def test_keywords_are_those_of_torch() -> None:
    images, weight = numbers(2, 3, 5, 4), numbers(4, 3, 3, 2)
    with ClosedDerivatives():
        found = F.relu(input=F.conv2d(input=images, weight=weight, stride=2))
        normal = F.batch_norm(input=images, running_mean=weight[0, :, 0, 0], running_var=weight[0, :, 0, 0].square())
    torch.testing.assert_close(found, F.relu(F.conv2d(images, weight, stride=2)))
    expected = F.batch_norm(images, weight[0, :, 0, 0], weight[0, :, 0, 0].square())
    torch.testing.assert_close(normal, expected)
