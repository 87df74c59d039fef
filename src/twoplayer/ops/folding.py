"""A network for inference: batch normalization folded into the layer before it.

With running statistics batch normalization is one factor and one summand per channel, which the weights and the bias of
a convolution or dense layer before it take over (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2): the
same function with a pass over memory less, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from twoplayer.core.protocols import Chained
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.chains.chain import chain_of
from twoplayer.ops.chains.link import Part, Rows, Setting, flat

Affine = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


class Folded:
    """A chain of layers in inference mode, folded; the layers stay as they are.

    Args:
        layers: of the chain, see `ops/chains`.
        setting: how to compute.
    """

    def __init__(self, layers: Sequence[nn.Module], setting: Setting) -> None:
        self.layers = folded(list(flat(layers)))
        chain = chain_of(self.layers, setting)
        assert chain is not None, "ask `for_inference`"
        self.chain = chain

    def __call__(self, inputs: Tensor) -> Tensor:
        answer = self.chain.forward(inputs, Rows((Part(len(inputs), training=False),)))
        return answer.to(inputs.dtype)


def for_inference(network: nn.Module, setting: Setting | None = None) -> Callable[..., Tensor]:
    """The same function with its present weights, folded, where the network is a chain; else the network itself."""
    setting = setting or Setting()
    layers = network.chain() if isinstance(network, Chained) else [network]
    return network if layers is None or chain_of(layers, setting) is None else Folded(layers, setting)


def folded(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers, without batch normalization that a copy of a dense layer or convolution right before it takes over.

    Or before it but for an `Unflatten`, whose first number is then the channels.
    """
    made: list[nn.Module] = []
    for layer in layers:
        places = [number for number, each in enumerate(made) if not isinstance(each, nn.Unflatten)]
        target = made[places[-1]] if places else None
        if isinstance(layer, BatchNorm) and isinstance(target, Affine):
            made[places[-1]] = _copy(target)
            _take_over(made[places[-1]], layer)
        else:
            made.append(layer)
    return made


def _copy(layer: nn.Module) -> nn.Module:
    """Another layer of the same kind and options, whose parameters may be replaced."""
    other = copy.copy(layer)
    other._parameters = dict(layer._parameters)
    return other


@torch.no_grad()
def _take_over(target: nn.Module, norm: BatchNorm) -> None:
    """Let the layer do what the normalization after it does."""
    scale = (norm.running_variance + norm.epsilon).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale if norm.bias is None else norm.bias - norm.running_mean * scale
    assert isinstance(target, Affine)
    groups = target.groups if isinstance(target, nn.ConvTranspose2d) else 1
    outputs = target.weight.shape[1] * groups if isinstance(target, nn.ConvTranspose2d) else len(target.weight)
    scale, shift = (each.repeat_interleave(outputs // len(each)) for each in (scale, shift))
    target.bias = nn.Parameter(shift if target.bias is None else target.bias * scale + shift)
    if isinstance(target, nn.ConvTranspose2d):  # [in, out / groups, h, w], inputs group by group
        per_input = scale.view(groups, -1).repeat_interleave(target.in_channels // groups, 0)
        scale = per_input[:, :, None, None]
    else:
        scale = scale.view(-1, *[1] * (target.weight.ndim - 1))
    target.weight = nn.Parameter(target.weight * scale)
