"""The averaged generator: an exponential moving average with a half-life in thousands of real images.

Source: Karras et al. 2018, https://arxiv.org/abs/1710.10196, appendix A (averaged G for every picture); the half-life
as the unit, and one that grows with the images seen at first, are from Karras et al. 2020,
https://arxiv.org/abs/1912.04958. Running batch statistics are averaged along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def decay_per_step(half_life_kimg: float, images_per_step: int) -> float:
    """The factor per step after which the weight of the past halves every `half_life_kimg` thousand images.

    0 where the half-life is 0: then the past has no weight.
    """
    if half_life_kimg == 0.0:
        return 0.0
    return float(0.5 ** (images_per_step / (half_life_kimg * 1000.0)))


def averaged(generator: nn.Module, half_life_kimg: float, images_per_step: int) -> AveragedModel:
    """A copy of the generator that follows it; its first update copies, later ones average."""
    return _Follower(generator, decay_per_step(half_life_kimg, images_per_step))


def follow_with(average: AveragedModel, half_life_kimg: float, images_per_step: int) -> None:
    """Let an average that was made here have another half-life from its next update on."""
    assert isinstance(average, _Follower)
    average.decay = decay_per_step(half_life_kimg, images_per_step)


class _Follower(AveragedModel):
    """torch's averaged model, whose update asks the device nothing."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay
        self.begun: bool | None = None
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        self.begun = None
        self.pairs.clear()
        return super().load_state_dict(state_dict, strict, assign)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        if self.begun is None:
            self.begun = bool(self.n_averaged > 0)
        if not self.pairs:  # the same tensors ever after: they are changed in place
            self.pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        copied = self.pairs
        if self.begun:
            floating = [pair for pair in self.pairs if torch.is_floating_point(pair[0])]
            torch._foreach_lerp_([mine for mine, _ in floating], [value for _, value in floating], 1.0 - self.decay)
            copied = [pair for pair in self.pairs if not torch.is_floating_point(pair[0])]
        if copied:
            torch._foreach_copy_([mine for mine, _ in copied], [value for _, value in copied])
        self.begun = True
        self.n_averaged += 1


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
