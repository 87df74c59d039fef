"""Layers as links of a chain: what a layer has to know so that slopes can be penalized in one backward pass.

A link is one layer during one pass over a batch. Beside its values it knows the maps that belong to its slope there:

- `forward`: values up;
- `transpose`: deltas down - the derivative of what is summed over the batch with respect to each image's values;
- `tangent`: directions up, for the images whose slope is penalized;
- `bend`: deltas of the slope's own change, down, below links that are not piecewise linear;
- `gradients`: of its parameters, once, when everything has passed.

Source: the penalty's gradient in the parameters is that of the directional derivative along v = dP/dg (g: the slope),
because v is a constant for them; forward-mode differentiation of a chain of layers gives the rest.

A layer joins by `joins`; a network with a layer of a kind that has not joined is no chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Gradients = Iterator[tuple[Tensor, Tensor]]
"""Parameters (or tensors computed from them) and what is to be added to their gradients."""


@dataclass(frozen=True)
class Part:
    """Images that belong together in a batch.

    Attributes:
        size: how many.
        training: judged in training mode: with the part's own batch statistics, with dropout.
        sloped: the slope at these images is penalized; such parts come last.
    """

    size: int
    training: bool = True
    sloped: bool = False


@dataclass(frozen=True)
class Rows:
    """Which images of a batch are what."""

    parts: tuple[Part, ...]

    @property
    def sloped(self) -> int:
        """How many images, at the end, have their slope penalized."""
        return sum(part.size for part in self.parts if part.sloped)

    def within(self, start: int, n: int) -> list[tuple[int, slice]]:
        """The parts among images start .. start + n - 1: which, and where counted from `start`; all are whole."""
        inside = [
            (number, slice(part.start - start, part.stop - start))
            for number, part in enumerate(self.slices)
            if start <= part.start and part.stop <= start + n
        ]
        assert sum(part.stop - part.start for _, part in inside) == n, "a part was cut"
        return inside

    @property
    def slices(self) -> list[slice]:
        """The images of each part."""
        ends = list(accumulate(part.size for part in self.parts))
        return [slice(end - part.size, end) for end, part in zip(ends, self.parts, strict=True)]


class Link:
    """A layer during one pass; what it saw is kept on it.

    Attributes:
        normalized: the next link takes the mean away again in training mode, so that no bias is felt there.
        smooth: its slope changes along the piece it is on.
        learns: it has parameters.
        couples: in training mode an image's values depend on the rest of its part.
        centers: in training mode it takes the mean of each channel away from all that goes through it.
        fresh: nobody but the next link needs the values it made, so that they may be overwritten.
        sign_only: of the values it made it needs the signs alone, and no sign where a zero was put.
        overwrites: it changes the deltas and directions that it is given.
        keeps_signs: it overwrites values with others of the same sign, or with zero.
    """

    normalized = False
    smooth = False
    learns = False
    couples = False
    centers = False
    fresh = False
    sign_only = False
    keeps_signs = False
    overwrites = False

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        """The layer's values. `reuse`: those it was given may be overwritten."""
        raise NotImplementedError

    def transpose(self, delta: Tensor, start: int) -> Tensor:
        """Deltas of the values it made to deltas of those it was given, from image `start` on; for `gradients`."""
        return self.adjoint(delta[start:], start) if start < len(delta) else delta[start:]

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        """How the values of the sloped images change along a direction.

        `keep`: the chain has a smooth link, so that the values themselves are needed again.
        """
        raise NotImplementedError

    def bend(self, epsilon: Tensor | None, start: int) -> Tensor | None:
        """The deltas of the slope's own change, down: `adjoint`, plus what a smooth link's curvature adds to it.

        Of the sloped images, which begin at `start`; None stands for zeros.
        """
        return None if epsilon is None else self.adjoint(epsilon, start)

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        """The same for as many images as there are deltas, from image `start` on (whole parts), keeping nothing."""
        raise NotImplementedError

    def rescale(self, part: slice, factors: Tensor) -> None:
        """Multiply the deltas that `transpose` kept of a part's images."""

    def gradients(self) -> Gradients:
        """What the pass adds to the gradients of the layer's parameters."""
        return iter(())


@dataclass(frozen=True)
class Setting:
    """How a chain computes.

    Attributes:
        dtype: of values, deltas and directions, if not the parameters' own; those and statistics stay what they are.
    """

    dtype: torch.dtype | None = None

    def cast(self, values: Tensor) -> Tensor:
        """In the chain's dtype."""
        return values if self.dtype is None else values.to(self.dtype)

    def wide(self, values: Tensor) -> Tensor:
        """In float32 where the chain computes in less."""
        return values if self.dtype is None else values.to(torch.promote_types(self.dtype, torch.float32))

    def weight(self, learned: Tensor) -> Tensor:
        """A parameter as the products want it: no graph, the chain's dtype, channels last in memory."""
        return as_products_want_it(self.cast(learned.detach()))


def as_products_want_it(values: Tensor) -> Tensor:
    """Maps and kernels with their channels last in memory, where products are fastest; others as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


Maker = Callable[[Any, Setting], Link | None]
_MAKERS: dict[type[nn.Module], Maker] = {}
M = TypeVar("M", bound=Maker)


def joins(kind: type[nn.Module]) -> Callable[[M], M]:
    """Says how the link of a layer of exactly this class is made: a subclass may compute something else."""

    def register(maker: M) -> M:
        _MAKERS[kind] = maker
        return maker

    return register


def link_of(layer: nn.Module, setting: Setting) -> Link | None:
    """The link of a layer for one pass; None where its kind has not joined, or hooks change what it does."""
    maker = _MAKERS.get(type(layer))
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    return None if maker is None or hooked else maker(layer, setting)


def links_of(layers: Iterable[nn.Module], setting: Setting) -> list[Link] | None:
    """The links of layers in their order; None where one of them has none."""
    links: list[Link] = []
    for layer in flat(layers):
        link = link_of(layer, setting)
        if link is None:
            return None
        links.append(link)
    return joined(links)


def joined(links: list[Link]) -> list[Link]:
    """The same links, each of which knows what follows it."""
    for link, after in pairwise(links):
        link.normalized = after.centers
    return links


def flat(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The layers with every `nn.Sequential` opened."""
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from flat(layer)
        else:
            yield layer


def through(links: Iterable[Link], values: Tensor, rows: Rows) -> Tensor:
    """What links in a row make of values, which themselves stay as they are."""
    before: Link | None = None
    for link in links:
        by_sign = before is not None and not before.fresh and before.sign_only and link.keeps_signs
        reuse = by_sign or (before is not None and before.fresh)
        values, before = link.forward(values, rows, reuse=reuse), link
        if by_sign:
            link.fresh = False  # the link before it still needs the signs
    return values
