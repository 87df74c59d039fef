"""A network as a chain of links: one pass up, one down, and the slope's own pass up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from twoplayer.core.protocols import Chained
from twoplayer.ops.chains import affine, normalization, parallel, pointwise, shapes  # noqa: F401  (their layers join)
from twoplayer.ops.chains.link import Gradients, Link, Rows, Setting, flat, joined, link_of, links_of, through


class Chain:
    """One pass over a batch. Nothing in it keeps a graph.

    Args:
        links: in the order in which values go through them; edges and the last compute in their parameters' dtype.
        setting: how the others compute.

    Attributes:
        couples: in training mode an image's answer depends on the rest of its part.
    """

    def __init__(self, links: list[Link], setting: Setting) -> None:
        self.links = links
        self.setting = setting
        self.couples = any(link.couples for link in links)
        learning = [number for number, link in enumerate(links) if link.learns]
        self.lowest = learning[0] if learning else len(links)

    @torch.no_grad()
    def forward(self, values: Tensor, rows: Rows) -> Tensor:
        """The network's answer on a batch whose parts are `rows`. `features` is then what the last link was given."""
        self.rows = rows
        *hidden, last = self.links
        self.features = through(hidden, values, rows)
        answer = last.forward(self.setting.wide(self.features), rows, reuse=False)
        self.answer_shape = answer.shape[1:]
        return answer

    @torch.no_grad()
    def transpose(self, delta: Tensor, start: int, features_delta: Tensor | None = None) -> Tensor:
        """The derivative of a sum over the batch with respect to the images from `start` on.

        Args:
            delta: the derivative with respect to the answer, of its shape or, where an answer is one number, [N].
            start: the first image that needs one; no later than the first sloped one.
            features_delta: the derivative with respect to the features of the first images, where they count directly.
        """
        delta = self._seeds(delta)
        for number in reversed(range(len(self.links))):
            if number >= self.lowest:
                delta = self.links[number].transpose(delta, start if number == self.lowest else 0)
            elif len(delta):  # below, only the images that need one are gone through
                delta = self.links[number].adjoint(delta, start)
            if number == len(self.links) - 1:
                if features_delta is not None:
                    delta[: len(features_delta)] += features_delta
                delta = delta.to(self.features.dtype)
        return delta

    @torch.no_grad()
    def adjoint(self, delta: Tensor, start: int, features_delta: Tensor | None = None) -> Tensor:
        """The same for as many images as there are deltas, from image `start` on, and for no parameters."""
        delta = self._seeds(delta)
        for number in reversed(range(len(self.links))):
            delta = self.links[number].adjoint(delta, start)
            if number == len(self.links) - 1:
                delta = (delta if features_delta is None else delta + features_delta).to(self.features.dtype)
        return delta

    @torch.no_grad()
    def rescale(self, part: slice, factors: Tensor) -> None:
        """Multiply what each image [N] of a part adds to the gradients, after its deltas went down as they were.

        Where images are not coupled, deltas are proportional to what they began with.
        """
        assert not self.couples, "another image's delta would change too"
        for link in self.links:
            link.rescale(part, factors)

    @torch.no_grad()
    def tangent(self, direction: Tensor) -> None:
        """Push a direction for each sloped image up, and what the slope's own change sends down."""
        start = sum(part.size for part in self.rows.parts) - len(direction)
        smooth = [number for number, link in enumerate(self.links) if link.smooth]
        *hidden, last = self.links
        for link in hidden:
            direction = link.tangent(direction, keep=bool(smooth))
        last.tangent(self.setting.wide(direction), keep=bool(smooth))
        epsilon = None
        for link in reversed(self.links[: smooth[-1] + 1 if smooth else 0]):
            epsilon = link.bend(epsilon, start)
            if link is last and epsilon is not None:
                epsilon = epsilon.to(self.features.dtype)

    def _seeds(self, delta: Tensor) -> Tensor:
        """Of the shape and dtype of its answer."""
        return self.setting.wide(delta).reshape(-1, *self.answer_shape)

    def gradients(self) -> Gradients:
        """Of every parameter, after all passes."""
        for link in self.links:
            yield from link.gradients()


def chain_of(layers: Iterable[nn.Module], setting: Setting) -> Chain | None:
    """The chain of layers in their order; None where one of them cannot be a link."""
    layers = list(flat(layers))
    links, last = links_of(layers[:-1], setting), link_of(layers[-1], Setting())
    return None if links is None or last is None else Chain(joined([*links, last]), setting)


def chain_through(network: nn.Module, setting: Setting) -> Chain | None:
    """The chain that a network is; None where it is none, or a part of it is no link."""
    layers = network.chain() if isinstance(network, Chained) else [network]
    return None if layers is None else chain_of(layers, setting)
