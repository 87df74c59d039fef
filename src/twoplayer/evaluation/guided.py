"""Pictures of what a discriminator's features respond to: guided back-propagation.

Source: Springenberg et al. 2014, https://arxiv.org/abs/1412.6806, section 3.4: the gradient of a unit with respect to
the image, where the backward pass of every rectifier y = max(x, 0) is dx = dy [dy > 0] [x > 0]. As figure 5 of Radford,
Metz and Chintala 2015, https://arxiv.org/abs/1511.06434.

Deviations: leaky rectifiers get the same rule, though something of negative inputs passes them forward; activations of
other kinds keep their own gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twoplayer.core.batch import to_uint8
from twoplayer.core.errors import UserError
from twoplayer.evaluation.features import RECTIFIERS, blocks_of, feature_maps
from twoplayer.runs.sampling import NOTHING

PALENESS = 0.25
"""Share of the image in the picture of a gradient."""


@dataclass(frozen=True)
class Responses:
    """The channels of a layer that respond most, the images they respond to, and to what in them.

    Attributes:
        channels: K numbers of channels, the strongest first.
        images: of each the M images with the strongest responses, uint8 [K, M, C, H, W].
        gradients: the guided gradients of these responses, as `over_pale` draws them, uint8 [K, M, C, H, W].
    """

    channels: tuple[int, ...]
    images: Tensor
    gradients: Tensor

    def tiles(self) -> Tensor:
        """For a grid of 2K columns and M rows: each channel's images with their gradients to the right of them."""
        pairs = torch.stack([self.images, self.gradients], 1)  # [K, 2, M, C, H, W]
        return pairs.permute(2, 0, 1, 3, 4, 5).flatten(0, 2)


def strongest_responses(
    discriminator: nn.Module,
    pictures: Tensor,
    layer: int = -1,
    num_channels: int = 6,
    num_images: int = 4,
    given: Mapping[str, Tensor] = NOTHING,
) -> Responses:
    """The channels with the strongest responses, on average over the images each responds to most.

    Args:
        discriminator: images to a `Verdict`.
        pictures: uint8 [N, C, H, W], N at least num_images.
        layer: see `feature_maps`; counted from 0, or from the end with -1.
        num_channels: how many channels; all where there are fewer.
        num_images: how many images of each.
        given: what a conditional D is told, [N, ...] each.

    Raises:
        UserError: there is no such layer, or a number is not sensible.
    """
    if num_channels < 1 or not 1 <= num_images <= len(pictures):
        raise UserError(f"channels={num_channels}, images={num_images}: both start at 1, images end at {len(pictures)}")
    with torch.no_grad():
        parts = [
            _strongest(_chosen(feature_maps(discriminator, images, told), layer)).cpu()
            for images, told in blocks_of(discriminator, pictures, given)
        ]
    top = torch.cat(parts).topk(num_images, 0)
    channels = top.values.mean(0).argsort(descending=True, stable=True)[:num_channels].tolist()
    gradients = []
    for channel in channels:
        places = top.indices[:, channel]
        told_here = {name: values[places] for name, values in given.items()}
        for images, told in blocks_of(discriminator, pictures[places], told_here):
            gradient = guided_backpropagation(discriminator, images, layer, channel, told)
            gradients.append(over_pale(gradient, images))
    shape = (len(channels), num_images, *pictures.shape[1:])
    return Responses(tuple(channels), pictures[top.indices[:, channels].T], torch.cat(gradients).view(shape))


def guided_backpropagation(
    discriminator: nn.Module, images: Tensor, layer: int, channel: int, given: Mapping[str, Tensor] = NOTHING
) -> Tensor:
    """The guided gradient of a channel's strongest response in each image, with respect to that image: [N, C, H, W].

    Args:
        discriminator: images to a `Verdict`; used in evaluation mode, left as it was.
        images: float [N, C, H, W] in [-1, 1], on D's device.
        layer: see `feature_maps`; counted from 0, or from the end with -1.
        channel: of that layer.
        given: what a conditional D is told, [N, ...] each.

    Raises:
        UserError: there is no such layer or channel.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad(), _guided(discriminator):
        responses = _strongest(_chosen(feature_maps(discriminator, images, given), layer))
        if not 0 <= channel < responses.shape[1]:
            raise UserError(f"channel={channel}: layer {layer} has {responses.shape[1]} channels, counted from 0")
        (gradient,) = torch.autograd.grad(responses[:, channel].sum(), images)
    return gradient


def over_pale(gradients: Tensor, images: Tensor) -> Tensor:
    """Gradients as pictures: bright where a brighter pixel strengthens the response, dark where it weakens it.

    Each gradient is divided by its largest absolute number and drawn over a pale copy of its image, which shows where
    it lies: x / 4 + 3 g / (4 max |g|).

    Args:
        gradients: [N, C, H, W].
        images: [N, C, H, W] in [-1, 1].

    Returns:
        uint8 [N, C, H, W], on the CPU.
    """
    largest = gradients.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradients.dtype).tiny)
    return to_uint8(PALENESS * images + (1.0 - PALENESS) * gradients / largest).cpu()


class _GuidedRectifier(torch.autograd.Function):
    """Forward what the rectifier made of its input; backward the rule above.

    A rectifier that works in place leaves y in the place of x; both are positive at the same places.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, rectified: Tensor) -> Tensor:
        ctx.save_for_backward(values > 0)
        return rectified.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (positive,) = ctx.saved_tensors
        return gradients[0].clamp_min(0.0) * positive, None


@contextmanager
def _guided(discriminator: nn.Module) -> Iterator[None]:
    """Inside, gradients pass the module's rectifiers by the rule above; values are what they always are."""

    def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        guided: Tensor = _GuidedRectifier.apply(inputs[0], output)  # type: ignore[no-untyped-call]
        return guided

    handles = [m.register_forward_hook(replace) for m in discriminator.modules() if isinstance(m, RECTIFIERS)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _strongest(layer: Tensor) -> Tensor:
    """The largest response of each channel in each image, [N, K]; at one place, the first of several equal ones."""
    return layer.flatten(2).max(2).values if layer.dim() == 4 else layer


def _chosen(layers: list[Tensor], number: int) -> Tensor:
    if not -len(layers) <= number < len(layers):
        raise UserError(
            f"layer={number}: this discriminator has {len(layers)}, from 0 to {len(layers) - 1}, -1 the last"
        )
    return layers[number]
