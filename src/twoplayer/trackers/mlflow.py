"""MLflow: the server that `MLFLOW_TRACKING_URI` names, else files in RUN/mlruns.

Source: https://mlflow.org/docs/latest/ml/tracking; needs `pip install mlflow` (or mlflow-skinny).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from twoplayer.core.tracking import Tracked, Tracker, Tracking

if TYPE_CHECKING:
    from PIL import Image

RUN_TAG = "twoplayer.run"


class MlFlow(Tracker):
    """A run of an experiment there.

    Attributes:
        experiment: which one.
    """

    package: ClassVar[str] = "mlflow"
    needs: ClassVar[str] = "mlflow is not installed: pip install mlflow"

    name: Literal["mlflow"] = "mlflow"
    experiment: str = Field("twoplayer", min_length=1, max_length=128)

    def begin(self, tracked: Tracked) -> Tracking:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files are what a run without a server has
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or (tracked.folder / "mlruns").resolve().as_uri()
        client = MlflowClient(tracking_uri=place)
        known = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
        mine = f"tags.`{RUN_TAG}` = '{tracked.identity}'"
        if before := client.search_runs([experiment], mine, max_results=1) if tracked.step else []:
            run = before[0].info.run_id
        else:
            made = client.create_run(experiment, run_name=tracked.folder.name, tags={RUN_TAG: tracked.identity})
            run = made.info.run_id
            client.log_dict(run, tracked.recipe, "recipe.yaml")
        return _Run(client, run)


class _Run:
    def __init__(self, client: Any, run: str) -> None:
        self.client, self.run = client, run

    def figures(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.client.log_metric(self.run, name, value, step=step)

    def picture(self, step: int, png: Image.Image) -> None:
        self.client.log_image(self.run, png, f"samples/step-{step:07}.png")

    def end(self) -> None:
        self.client.set_terminated(self.run)
