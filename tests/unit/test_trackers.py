"""Services that are told of a training: what they keep is what the run's own log says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import twoplayer as tp
from tests.conftest import TINY
from twoplayer.core.errors import UserError
from twoplayer.core.tracking import Tracked
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.trackers.tensorboard import TensorBoard

KEY = "loss/discriminator"


def trained(tracking: str, out: Path, *words: str, **how: Any) -> tp.Run:
    return tp.train("digits", *TINY, f"tracking={tracking}", *words, out=out, device="cpu", quiet=True, **how)


def logged(run: tp.Run) -> dict[int, float]:
    return {row["step"]: row[KEY] for row in run.metrics}


def test_tensorboard_has_every_figure_and_every_grid(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trained("[tensorboard]", tmp_path / "run")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"images": 0})
    found.Reload()
    assert {each.step: each.value for each in found.Scalars(KEY)} == pytest.approx(logged(run), rel=1e-6)
    figures = {name for row in run.metrics for name, value in row.items() if value is not None}
    assert set(found.Tags()["scalars"]) == figures
    assert [each.step for each in found.Images("samples")] == [0, 3, 6]


@pytest.mark.slow
def test_a_resumed_run_is_one_line_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained("[tensorboard]", tmp_path / "run")
    run = tp.train(out=tmp_path / "run", resume=True, steps=10, device="cpu", quiet=True)
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert [each.step for each in found.Scalars(KEY)] == [2, 4, 6, 8, 10] == list(logged(run))


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = trained("[{name: wandb, project: mine}]", tmp_path / "run")
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    for value in logged(run).values():
        assert json.dumps(value).encode() in content
    pictures = list((tmp_path / "run" / "wandb").rglob("samples*.png"))
    assert len(pictures) == 3


@pytest.mark.slow
def test_mlflow_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trained("[mlflow]", tmp_path / "run")
    run = tp.train(out=tmp_path / "run", resume=True, steps=8, device="cpu", quiet=True)
    client = MlflowClient(tracking_uri=(tmp_path / "run" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("twoplayer")
    (found,) = client.search_runs([experiment.experiment_id])
    assert {each.step: each.value for each in client.get_metric_history(found.info.run_id, KEY)} == logged(run)
    assert found.info.status == "FINISHED"
    assert {each.path for each in client.list_artifacts(found.info.run_id)} == {"recipe.yaml", "samples"}


def test_names_and_pieces() -> None:
    recipe = load_recipe("digits", parse_overrides(["tracking=[tensorboard, {name: wandb, project: mine}]"]))
    assert [each.name for each in recipe.tracking] == ["tensorboard", "wandb"]
    with pytest.raises(UserError, match=r"tracking.*tensorbord|tensorbord"):
        load_recipe("digits", parse_overrides(["tracking=[tensorbord]"]))


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_what_is_not_installed_is_said(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"tracking: {name}.*pip install"):
        trained(f"[{name}]", tmp_path / "run", "seeds=2")
    assert not (tmp_path / "run").exists()


class Failing:
    def figures(self, step: int, figures: dict[str, float]) -> None:
        raise RuntimeError("the server is gone")

    def picture(self, step: int, png: object) -> None:
        pass

    def end(self) -> None:
        raise RuntimeError("still gone")


def test_a_service_that_fails_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TensorBoard, "begin", lambda *_: Failing())
    run = trained("[tensorboard]", tmp_path / "run")
    assert run.metrics[-1]["step"] == 6
    assert sum("the server is gone" in message for message in caplog.messages) == 1
    assert sum("did not end well" in message for message in caplog.messages) == 1


def test_an_identity_does_not_tell_where_a_run_lies(tmp_path: Path) -> None:
    one, again, other = (Tracked(tmp_path / name, {}, 0).identity for name in ("a", "a", "b"))
    assert one == again != other
    assert tmp_path.name not in one
