"""The averaged generator: an exponential moving average with a half-life in thousands of real images.

Source: Karras et al. 2018, https://arxiv.org/abs/1710.10196, appendix A (averaged G for every picture); the half-life
as the unit is from Karras et al. 2020, https://arxiv.org/abs/1912.04958. Running batch statistics are averaged along.
"""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def decay_per_step(half_life_kimg: float, images_per_step: int) -> float:
    """The factor per step after which the weight of the past halves every `half_life_kimg` thousand images."""
    return float(0.5 ** (images_per_step / (half_life_kimg * 1000.0)))


def averaged(generator: nn.Module, half_life_kimg: float, images_per_step: int) -> AveragedModel:
    """A copy of the generator that follows it; its first update copies, later ones average."""
    decay = decay_per_step(half_life_kimg, images_per_step)
    rule = get_ema_multi_avg_fn(decay)
    return AveragedModel(generator, multi_avg_fn=rule, use_buffers=True)
