"""Two ways side by side whose results are added: a residual block.

Source: He et al. 2016, https://arxiv.org/abs/1512.03385; as players of a GAN: Gulrajani et al. 2017,
https://arxiv.org/abs/1704.00028, appendix F.
"""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """branch(x) + skip(x).

    Args:
        branch: what the block learns.
        skip: how its input gets past it: nothing at all, a resampling, a 1x1 convolution.
    """

    def __init__(self, branch: nn.Module, skip: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.skip = nn.Identity() if skip is None else skip

    def forward(self, values: Tensor) -> Tensor:
        added: Tensor = self.branch(values) + self.skip(values)
        return added
