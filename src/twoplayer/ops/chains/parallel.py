"""Two ways side by side as one link: a residual block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from twoplayer.ops.chains.link import Gradients, Link, Rows, Setting, joins, links_of, through
from twoplayer.ops.residual import Residual


class Parallel(Link):
    """The sum of two ways; deltas and directions go through both, and are added.

    Args:
        branch: links of one way.
        skip: links of the other.
    """

    fresh = True

    def __init__(self, branch: list[Link], skip: list[Link]) -> None:
        self.ways = (branch, skip)
        links = [*branch, *skip]
        self.smooth = any(link.smooth for link in links)
        self.learns = any(link.learns for link in links)
        self.couples = any(link.couples for link in links)

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        branch, skip = (through(way, values, rows) for way in self.ways)
        return branch.add_(skip) if self.ways[0][-1].fresh and branch.dtype == skip.dtype else branch + skip

    def transpose(self, delta: Tensor, start: int) -> Tensor:
        def down(link: Link, delta: Tensor, *, last: bool) -> Tensor:
            return link.transpose(delta, start if last else 0)

        if start < len(delta):
            return self._sum(delta, down, upwards=False)
        self._each(delta, down, upwards=False)  # for the parameters alone
        return delta[start:]

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        def down(link: Link, delta: Tensor, *, last: bool) -> Tensor:
            return link.adjoint(delta, start)

        return self._sum(delta, down, upwards=False)

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        def up(link: Link, direction: Tensor, *, last: bool) -> Tensor:
            return link.tangent(direction, keep=keep)

        return self._sum(direction, up, upwards=True)

    def _sum(self, given: Tensor, move: Callable[..., Tensor], *, upwards: bool) -> Tensor:
        """The sum of what comes out of both ways."""
        one, other = self._each(given, move, upwards=upwards)
        return one + other

    def _each(self, given: Tensor, move: Callable[..., Tensor], *, upwards: bool) -> list[Tensor]:
        """What comes out of both ways; each has numbers of its own, which it may keep, change and scale."""
        results = []
        for way, moved in zip(self.ways, (given.clone(), given), strict=True):
            links = way if upwards else way[::-1]
            for link in links:
                moved = move(link, moved, last=link is links[-1])
            results.append(moved)
        return results

    def bend(self, epsilon: Tensor | None, start: int) -> Tensor | None:
        results = []
        for way, bent in zip(self.ways, (None if epsilon is None else epsilon.clone(), epsilon), strict=True):
            for link in reversed(way):
                bent = link.bend(bent, start)
            results.append(bent)
        found = [each for each in results if each is not None]
        return sum(found[1:], found[0]) if found else None

    def rescale(self, part: slice, factors: Tensor) -> None:
        for way in self.ways:
            for link in way:
                link.rescale(part, factors)

    def gradients(self) -> Gradients:
        for way in self.ways:
            for link in way:
                yield from link.gradients()


@joins(Residual)
def _residual(layer: Residual, setting: Setting) -> Link | None:
    ways = [links_of([way], setting) for way in (layer.branch, layer.skip)]
    branch, skip = ways
    return None if branch is None or skip is None else Parallel(branch, skip)
