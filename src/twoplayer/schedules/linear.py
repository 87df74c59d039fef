"""A straight line.

Source: for GANs Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, whose residual networks for CIFAR-10 have a
learning rate that falls to zero along one.
"""

from __future__ import annotations

from typing import Literal

from twoplayer.core.schedule import ValueSchedule


class Linear(ValueSchedule):
    """From start to end along a line."""

    name: Literal["linear"] = "linear"

    def covered(self, progress: float) -> float:
        """t."""
        return progress
