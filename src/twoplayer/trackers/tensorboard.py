"""TensorBoard: event files in RUN/tensorboard; look at them with `tensorboard --logdir RUNS`.

Source: https://docs.pytorch.org/docs/stable/tensorboard.html; needs the extra `tensorboard`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from twoplayer.core.tracking import Tracked, Tracker, Tracking

if TYPE_CHECKING:
    from PIL import Image


class TensorBoard(Tracker):
    """Event files beside the run."""

    package: ClassVar[str] = "tensorboard"
    needs: ClassVar[str] = "tensorboard needs its extra: pip install 'twoplayer[tensorboard]'"

    name: Literal["tensorboard"] = "tensorboard"

    def begin(self, tracked: Tracked) -> Tracking:
        from torch.utils.tensorboard import SummaryWriter

        # events after the step that a resumed run begins with are hidden: they are made again
        purge = tracked.step + 1 if tracked.step else None
        return _Writing(SummaryWriter(tracked.folder / "tensorboard", purge_step=purge))


class _Writing:
    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def figures(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, step: int, png: Image.Image) -> None:
        self.writer.add_image("samples", np.asarray(png.convert("RGB")), step, dataformats="HWC")

    def end(self) -> None:
        self.writer.close()
