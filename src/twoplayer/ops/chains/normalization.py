"""Batch normalization as a link: parts in training mode with statistics of their own, others with the running ones."""

from __future__ import annotations

import torch
from torch import Tensor

from twoplayer.core.ranks import Ranks, synchronized
from twoplayer.ops.batch_norm import BatchNorm, across
from twoplayer.ops.chains.link import Gradients, Link, Rows, Setting, joins
from twoplayer.ops.tracing import is_traced
from twoplayer.ops.whole_batch import moments


class Normalization(Link):
    """The parts in training mode move the running statistics in their order, before any other part is looked at.

    In training mode the images of a part are coupled, so no slope is penalized there: such a chain is not built.
    """

    learns = True
    couples = True
    centers = True
    fresh = True

    def __init__(self, layer: BatchNorm) -> None:
        self.layer = layer
        self.weight_gradients: list[Tensor] = []
        self.bias_gradients: list[Tensor] = []

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        layer, self.values, self.rows = self.layer, values, rows
        result = torch.empty_like(values)
        self.statistics: list[tuple[Tensor, Tensor]] = []  # mean, 1 / deviation
        for part, told in zip(rows.slices, rows.parts, strict=True):
            mean, variance = layer.running_mean, layer.running_variance
            if told.training:
                mean, variance = _statistics(values[part], layer.running_mean)
                layer.remember(mean, variance)
            self.statistics.append((mean, (variance + layer.epsilon).rsqrt()))
            given = (values[part], layer.weight, layer.bias, mean, variance, False, 0.0, layer.epsilon)
            if is_traced():
                result[part] = torch.native_batch_norm(*given)[0]
                continue
            unused = {name: mean.new_empty(0) for name in ("save_mean", "save_invstd")}  # CUDA's kernel writes to both
            torch.ops.aten.native_batch_norm.out(*given, out=result[part], **unused)
        return result

    def transpose(self, delta: Tensor, start: int) -> Tensor:
        self.delta = delta[len(delta) - self.rows.sloped :]
        result = torch.empty_like(delta)
        for number, part in self.rows.within(0, len(delta)):
            self._adjoint(delta[part], number, result[part], learn=True)
        return result[start:]

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        result = torch.empty_like(delta)
        for number, part in self.rows.within(start, len(delta)):
            self._adjoint(delta[part], number, result[part], learn=False)
        return result

    def _adjoint(self, delta: Tensor, number: int, result: Tensor, *, learn: bool) -> None:
        """Of one part, into `result`; in training mode what it adds to the parameters is known at once."""
        mean, scale = self.statistics[number]
        if not self.rows.parts[number].training:
            self._scaled(delta, result)
            return
        layer, ranks = self.layer, synchronized()
        found: tuple[Tensor, ...]
        given = (
            delta, self.values[self.rows.slices[number]], layer.weight, None, None, mean, scale, True, layer.epsilon,
        )  # fmt: skip
        if ranks is not None:
            found = self._shared(delta, number, result, ranks)
        elif layer.weight is None or layer.bias is None or is_traced():
            found = torch.ops.aten.native_batch_norm_backward(
                *given, (True, layer.weight is not None, layer.bias is not None)
            )
            result.copy_(found[0])
        else:
            found = (result, torch.empty_like(mean), torch.empty_like(mean))
            outs = dict(zip(("out0", "out1", "out2"), found, strict=True))
            torch.ops.aten.native_batch_norm_backward.out(*given, (True, True, True), **outs)
        if learn:
            self.weight_gradients.append(found[1])
            self.bias_gradients.append(found[2])

    def _shared(self, delta: Tensor, number: int, result: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
        """Of a part with the statistics of all ranks, into `result`; and this rank's share of factor and summand."""
        mean, scale = self.statistics[number]
        values, wide = self.values[self.rows.slices[number]].to(mean.dtype), delta.to(mean.dtype)
        normalized = (values - across(mean, values)) * across(scale, values)
        to_weight, to_bias = _sums(wide * normalized), _sums(wide)
        means = ranks.mean(torch.stack([to_weight, to_bias]) * (len(mean) / values.numel()))
        along, level = (across(each, values) for each in means)
        factor = scale if self.layer.weight is None else scale * self.layer.weight
        result.copy_((wide - level - normalized * along) * across(factor, values))
        return result, to_weight, to_bias

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        mean, scale = self.statistics[-1]
        self.weight_gradients.append(_sums(self.delta.to(mean.dtype) * direction) * scale)
        return self._scaled(direction, torch.empty_like(direction))

    def bend(self, epsilon: Tensor | None, start: int) -> Tensor | None:
        if epsilon is not None:
            mean, scale = self.statistics[-1]
            values = self.values[start:]
            self.weight_gradients.append(_sums(epsilon * (values - across(mean, values))) * scale)
            self.bias_gradients.append(_sums(epsilon.to(mean.dtype)))
        return super().bend(epsilon, start)

    def gradients(self) -> Gradients:
        for learned, found in ((self.layer.weight, self.weight_gradients), (self.layer.bias, self.bias_gradients)):
            if learned is not None:
                yield learned, torch.stack(found).sum(0)

    def _scaled(self, values: Tensor, result: Tensor) -> Tensor:
        """Times what inference mode multiplies each channel by."""
        scale = self.statistics[-1][1]
        factor = scale if self.layer.weight is None else scale * self.layer.weight
        return (
            result.copy_(values * across(factor, values))
            if is_traced()
            else torch.mul(values, across(factor, values), out=result)
        )


def _statistics(values: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, in the dtype of `like`."""
    if (ranks := synchronized()) is not None:
        return moments(values.to(like.dtype), ranks)
    if values.device.type in ("cpu", "cuda"):  # the kernels that there are
        nothing = torch.zeros_like(like)
        mean, variance = torch.batch_norm_update_stats(values, nothing, nothing.clone(), 0.0)
        return mean, variance
    variance, mean = torch.var_mean(values.to(like.dtype), [0, *range(2, values.ndim)], correction=0)
    return mean, variance


@joins(BatchNorm)
def _batch_norm(layer: BatchNorm, setting: Setting) -> Link:
    return Normalization(layer)


def _sums(values: Tensor) -> Tensor:
    """[N, C, ...] summed over everything but C."""
    return values.sum([0, *range(2, values.ndim)])
