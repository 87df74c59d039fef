"""Images as D sees them, and the way back to what they were before an augmentation changed them."""

from __future__ import annotations

import torch
from torch import Tensor

from twoplayer.core.rng import Stream
from twoplayer.training.step import Game


class Seen:
    """Images [N, C, H, W], changed where the game changes images.

    Changes do not depend on the players' parameters. So a derivative with respect to what D sees goes through them to
    the images, however it was found, and a penalty on the slope there goes through them to D.

    Args:
        game: whose augmentation changes them.
        images: what they were.
        stream: of the changes.

    Attributes:
        images: what D sees, without a graph.
    """

    def __init__(self, game: Game, images: Tensor, stream: Stream) -> None:
        self._before, self._after = images, images
        if game.augmentation is not None:
            with torch.enable_grad():
                self._before = images.detach().requires_grad_()
                self._after = game.shown(self._before, stream)
        self.images = self._after.detach()

    def back(self, delta: Tensor) -> Tensor:
        """A derivative with respect to what D sees to one with respect to what the images were.

        It has a graph to `delta` where that asks for one.
        """
        if self._after is self._before:
            return delta
        given, again = delta.to(self._after.dtype), delta.requires_grad
        (found,) = torch.autograd.grad(self._after, self._before, given, retain_graph=again, create_graph=again)
        return found
