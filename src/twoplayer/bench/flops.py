"""How many floating-point operations a step needs at least, counted from the layers; and how fast this machine is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.protocols import SlopePenalty
from twoplayer.ops.weight_norm import WeightNormLinear
from twoplayer.recipes.schema import Recipe, Simultaneous


@torch.no_grad()
def layer_flops(network: nn.Module, inputs: Tensor, given: Mapping[str, Tensor]) -> list[int]:
    """Of each convolution and dense layer, in the order of their calls, for one image; a product-sum counts as two."""
    found: list[int] = []

    def count(layer: nn.Module, seen: tuple[Tensor, ...], made: Tensor) -> None:
        weight = layer.direction if isinstance(layer, WeightNormLinear) else layer.weight
        assert isinstance(weight, Tensor)
        transposed = isinstance(layer, nn.ConvTranspose2d)
        moved = seen[0] if transposed else made
        products = moved.numel() * weight.numel() // weight.shape[0]
        found.append(2 * products // max(len(inputs), len(made)))  # a reference batch may go along

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, WeightNormLinear)
    handles = [each.register_forward_hook(count) for each in network.modules() if isinstance(each, kinds)]
    was_training = network.training
    network.eval()(inputs, **given)
    network.train(was_training)
    for handle in handles:
        handle.remove()
    return found


def useful_flops(recipe: Recipe, generator: list[int], discriminator: list[int]) -> int:
    """Of one step, per image of a batch: what no way of computing the same gradients can leave out.

    Up, down and for its weight's gradient each layer costs the same. Slopes need a way up and down at their places, a
    way up of their directions, and count once more in the weights' gradients. The lowest layer's way down is needed
    only where an image's own derivative is asked for. Where both players learn from the same fakes, D's way down serves
    G as well, up to a factor for each image.

    Args:
        recipe: what is played.
        generator: G's layers, see `layer_flops`.
        discriminator: D's layers.
    """
    places = sum(isinstance(rule, SlopePenalty) for rule in recipe.regularizers)
    g, d, first = sum(generator), sum(discriminator), discriminator[0]
    backward_g = 2 * g - generator[0]
    turn = 2 * (3 * d - first) + places * 4 * d
    if isinstance(recipe.play, Simultaneous):
        return g + turn + first + backward_g
    last = g + (2 if not recipe.objective.generator_judges_real else 3) * d + backward_g
    return recipe.play.discriminator_steps * (g + turn) + last


def convolution_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Of a large convolution, in the faster memory layout: operations per second."""

    def speed(layout: torch.memory_format) -> float:
        images = torch.randn(64, 128, 28, 28, device=device, dtype=dtype).contiguous(memory_format=layout)
        weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
        return 2 * images.numel() * weight[0].numel() / fastest(lambda: F.conv2d(images, weight, padding=1), device)

    return max(speed(torch.channels_last), speed(torch.contiguous_format))


def fastest(work: Any, device: torch.device, times: int = 7) -> float:
    """Seconds of the fastest of a few calls."""
    seconds = []
    with torch.no_grad():
        for _ in range(times):
            synchronize(device)
            begun = time.perf_counter()
            work()
            synchronize(device)
            seconds.append(time.perf_counter() - begun)
    return min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait for an accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
