"""Weights & Biases; with `WANDB_MODE=offline` files in RUN/wandb, which `wandb sync` sends later.

Source: https://docs.wandb.ai/ref/python; needs `pip install wandb`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from twoplayer.core.tracking import Tracked, Tracker, Tracking

if TYPE_CHECKING:
    from PIL import Image


class WeightsAndBiases(Tracker):
    """A run of a project there.

    Attributes:
        project: which one.
    """

    package: ClassVar[str] = "wandb"
    needs: ClassVar[str] = "wandb is not installed: pip install wandb"

    name: Literal["wandb"] = "wandb"
    project: str = Field("twoplayer", min_length=1, max_length=128)

    def begin(self, tracked: Tracked) -> Tracking:
        import wandb

        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        run = wandb.init(
            project=self.project,
            name=tracked.folder.name,
            id=tracked.identity,
            resume="allow",
            dir=str(tracked.folder),
            config=tracked.recipe,
            settings=settings,
        )
        return _Run(run, wandb.Image)


class _Run:
    def __init__(self, run: Any, image: Any) -> None:
        self.run, self.image = run, image

    def figures(self, step: int, figures: dict[str, float]) -> None:
        self.run.log(figures, step=step)

    def picture(self, step: int, png: Image.Image) -> None:
        self.run.log({"samples": self.image(png)}, step=step)

    def end(self) -> None:
        self.run.finish()
