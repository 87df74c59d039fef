"""Runs side by side: what may be ranked, runs of several seeds, and the page."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import twoplayer as tp
from tests.conftest import TINY
from twoplayer.cli.main import run
from twoplayer.comparison import compare, figures_of
from twoplayer.core.errors import UserError
from twoplayer.evaluation.compare import Line, compared
from twoplayer.runs.folder import RunFolder

FIGURE: dict[str, Any] = {
    "value": 10.0,
    "spread": 0.5,
    "floor": 1.0,
    "better": "lower",
    "metric": {"name": "frechet"},
    "n_real": 100,
    "n_fake": 100,
    "data": "digits",
    "data_sha256": "aa",
    "split": "test",
    "floor_split": "train",
    "image_shape": [1, 8, 8],
    "extractor": {"id": "digits-cnn", "weights_sha256": "bb"},
}


def line(*figures: dict[str, Any]) -> Line:
    """The one line of a comparison of entries with one run and one figure each."""
    return compared([[{"fid": FIGURE | figure}] for figure in figures])[0]


def test_the_best_is_the_best_and_spreads_may_tie() -> None:
    assert line({"value": 10.0}, {"value": 12.0}).best == (0,)
    assert line({"value": 10.0}, {"value": 12.0, "better": "higher"}, {"value": 7.0}).not_ranked == ""
    assert line({"value": 10.0, "better": "higher"}, {"value": 12.0, "better": "higher"}).best == (1,)
    assert line({"value": 0.2, "better": "half"}, {"value": 0.9, "better": "half"}, {"spread": 0.0}).best == (0, 1)
    assert line({"value": 10.0}, {"value": 10.9}, {"value": 11.1}).best == (0, 1)
    assert line({"value": None}, {"value": 3.0}).best == (1,), "infinite is never the best"
    assert line({"value": None}, {"value": None}).best == ()
    assert line({}, {}).floor == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"n_fake": 200},
        {"split": "train"},
        {"data_sha256": "cc"},
        {"metric": {"name": "frechet", "neighbors": 3}},
        {"extractor": {"id": "digits-cnn", "weights_sha256": "dd"}},
        {"extractor": {"id": "random-cnn", "weights_sha256": "bb"}},
    ],
)
def test_figures_made_differently_are_not_ranked_and_the_reason_is_said(change: dict[str, Any]) -> None:
    found = line({}, {"value": 2.0} | change)
    assert found.best == ()
    assert found.floor is None
    key, value = next(iter(change.items()))
    assert key.replace("_", " ").split()[0] in found.not_ranked
    assert "differs" in found.not_ranked
    if isinstance(value, str | int):
        assert str(value) in found.not_ranked


def test_a_figure_that_one_run_lacks_is_shown_but_not_ranked() -> None:
    found = compared([[{"fid": FIGURE}], [{"other": FIGURE}]])
    assert [line.figure for line in found] == ["fid", "other"]
    assert found[0].cells[1] is None
    assert found[0].not_ranked == "only one has it"


def test_seeds_make_one_entry_with_its_interval() -> None:
    several = [{"fid": FIGURE | {"value": value}} for value in (9.0, 12.0, 15.0)]
    found = compared([several, [{"fid": FIGURE | {"value": 12.0}}]])[0]
    cell = found.cells[0]
    assert cell is not None
    assert (cell.value, cell.runs, cell.least, cell.most) == (12.0, 3, 9.0, 15.0)
    assert cell.spread == pytest.approx(6.0**0.5)
    assert found.best == (0, 1)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of the tiny run, trained together."""
    out = tmp_path_factory.mktemp("runs") / "together"
    first = tp.train("digits", *TINY, "seeds=2", out=out, device="cpu", quiet=True)
    assert first.path == out / "seed-0"
    return out


def test_runs_of_several_seeds_are_those_of_each_seed_alone(several: Path, tiny_run: tp.Run, tmp_path: Path) -> None:
    assert sorted(path.name for path in several.iterdir()) == ["config.yaml", "seed-0", "seed-1"]
    assert (tp.load(several / "seed-0").sample(4) == tiny_run.sample(4)).all()
    alone = tp.train("digits", *TINY, "seed=1", out=tmp_path / "alone", device="cpu", quiet=True)
    assert (tp.load(several / "seed-1").sample(4) == alone.sample(4)).all()
    assert (alone.sample(4) != tiny_run.sample(4)).any()
    with pytest.raises(UserError, match="choose one of seed-0, seed-1"):
        tp.load(several)
    longer = tp.train(None, "seeds=3", out=several, resume=True, device="cpu", quiet=True)
    assert longer.path == several / "seed-0"
    assert (several / "seed-2" / "report.html").exists(), "more seeds may be asked for later"


def test_seeds_only_grow_and_a_run_with_one_stays_that(several: Path, tiny_run: tp.Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="several only become more"):
        tp.train(None, "seeds=1", out=several, resume=True, device="cpu", quiet=True)
    alone = tmp_path / "alone"
    shutil.copytree(tiny_run.path, alone)
    with pytest.raises(UserError, match="one stays one"):
        tp.train(None, "seeds=2", out=alone, resume=True, device="cpu", quiet=True)
    assert len(tp.load(alone).sample(2)) == 2
    (tmp_path / "seed-0-old").mkdir()
    assert RunFolder(tmp_path).of_seeds() == []


@pytest.mark.slow
def test_compare_takes_missing_figures_and_writes_a_page(
    several: Path, tiny_run: tp.Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path in (tiny_run.path, *sorted(several.glob("seed-*"))):
        tp.load(path).evaluate(n=60, seeds=1, extractor="random-cnn")
    page = tmp_path / "page.html"
    assert run(["compare", str(tiny_run.path), str(several), "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figure = found["figures"]["fid_random-cnn"]
    assert figure["runs"]["tiny"]["runs"] == 1
    assert figure["runs"]["together"]["runs"] >= 2
    assert figure["runs"]["together"]["least"] <= figure["runs"]["tiny"]["value"] <= figure["runs"]["together"]["most"]
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") >= 2
    assert 'src="http' not in text
    assert "fid_random-cnn" in text
    assert "all split: 60 fakes" in text, "where the figures come from"
    assert run(["compare", str(tiny_run.path), str(several)]) == 0
    assert "not ranked" not in capsys.readouterr().out


def test_figures_of_an_older_generator_are_taken_anew(tiny_run: tp.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = tiny_run.evaluate(n=60, seeds=1, extractor="random-cnn")
    stale = copy.deepcopy(figures)
    stale["sliced-wasserstein"]["step"] = 3
    tiny_run.folder.evaluation.write_text(json.dumps(stale))
    asked: list[tp.Run] = []

    def evaluate(run: tp.Run) -> dict[str, Any]:
        asked.append(run)
        return figures

    monkeypatch.setattr(tp.Run, "evaluate", evaluate)
    assert figures_of(tiny_run) == figures
    assert asked == [tiny_run]


def test_what_cannot_be_compared(tiny_run: tp.Run, tmp_path: Path) -> None:
    assert run(["compare", str(tiny_run.path)]) == 2
    assert run(["compare", str(tiny_run.path), str(tmp_path / "nowhere")]) == 2
    with pytest.raises(UserError, match="named more than once"):
        compare([tiny_run.path, tiny_run.path])


def test_a_limit_leaves_so_many_images_to_train_on(tmp_path: Path) -> None:
    words = (*TINY, "data.split=train", "data.limit=40", "steps=2")
    trained = tp.train("digits", *words, out=tmp_path / "few", device="cpu", quiet=True)
    assert json.loads((trained.path / "environment.json").read_text())["data"]["images"] == 40
    figures = trained.evaluate(n=40, seeds=1, extractor="random-cnn")
    assert figures["sliced-wasserstein"]["n_real"] == 40
    more = trained.evaluate(n=300, seeds=1, extractor="random-cnn")["sliced-wasserstein"]
    assert (more["n_real"], more["floor_split"]) == (179, "test"), "the floor has as many images as the figure"
    assert any("enough real ones for 179" in text for text in more["warnings"])
    assert figures["sliced-wasserstein"]["split"] == "test", "the test split keeps all its images"


@pytest.mark.slow
def test_gan_train_needs_labels_and_a_test_split(tiny_run: tp.Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GAN-train"):
        tiny_run.evaluate(n=40, seeds=1, extractor="random-cnn", gan_train=True)
    words = ("steps=2", "data.split=train", "log_every=1", "generator.widths=[8]", "discriminator.widths=[8]")
    trained = tp.train("digits-cgan", *words, out=tmp_path / "conditional", device="cpu", quiet=True)
    figure = trained.evaluate(n=400, seeds=1, extractor="random-cnn", gan_train=True)["gan-train"]
    assert figure["n_real"] == 359
    assert figure["floor"] > 0.85, "four hundred real images teach the digits"
    assert figure["value"] < 0.5, "an untrained generator teaches little"
    before = torch.get_rng_state()
    again = trained.evaluate(n=400, seeds=1, extractor="random-cnn", gan_train=True)["gan-train"]
    assert again == figure
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state is left alone"
