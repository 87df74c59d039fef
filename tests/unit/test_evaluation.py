"""Figures about a run, the classifier that comes out of semi-supervised training, and stopping at a goal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import twoplayer as tp
from tests.conftest import TINY, random_images
from twoplayer.cli.main import run
from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.images import ImageData
from twoplayer.evaluation.classifier import classification_errors
from twoplayer.objectives.minimax import Minimax

FEW = (
    "steps=6",
    "log_every=2",
    "checkpoint_every=4",
    "sample_every=6",
    "generator.widths=[8]",
    "discriminator.widths=[16]",
)


@pytest.fixture(scope="module")
def semi(tmp_path_factory: pytest.TempPathFactory) -> tp.Run:
    out = tmp_path_factory.mktemp("runs") / "semi"
    return tp.train("digits-semi-supervised", *FEW, out=out, device="cpu", quiet=True)


class Brightness(nn.Module):
    """Class 0 for dark images, class 1 for bright ones."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> Verdict:
        tone = images.flatten(1).mean(1)
        return Verdict(tone, class_logits=torch.stack([-tone, tone], 1))


def test_errors_are_counted() -> None:
    dark, bright = torch.zeros(700, 1, 2, 2, dtype=torch.uint8), torch.full((300, 1, 2, 2), 255, dtype=torch.uint8)
    labels = torch.cat([torch.zeros(690), torch.ones(310)]).long()
    data = ImageData(torch.cat([dark, bright]), "test", "test", labels, ("dark", "bright"))
    assert classification_errors(Brightness(), data) == 10
    with pytest.raises(UserError, match="no labels"):
        classification_errors(Brightness(), ImageData(dark, "test"))


def test_the_classifier_is_exported_and_is_the_averaged_d(semi: tp.Run) -> None:
    images = to_float(random_images(9))
    assert torch.equal(semi.classifier(images).class_logits, semi.discriminator(images).class_logits)
    assert {path.name for path in (semi.path / "classifier").iterdir()} == {
        "README.md",
        "classifier.safetensors",
        "config.json",
    }
    figures = semi.evaluate(n=50, seeds=2, extractor="random-cnn")
    row = semi.metrics[-1]
    assert figures["classifier"]["errors"] == round(row["classifier/test_error"] * figures["classifier"]["n_real"])
    assert figures["classifier"]["split"] == "test"
    assert figures["classifier"]["n_real"] == 359
    assert json.loads((semi.path / "evaluation.json").read_text()) == figures
    assert [row["step"] for row in semi.metrics if row.get("classifier/test_error") is not None] == [4, 6]


def test_only_a_semi_supervised_run_has_a_classifier(tiny_run: tp.Run) -> None:
    with pytest.raises(UserError, match="no classifier"):
        _ = tiny_run.classifier


def test_the_test_pass_is_the_losses_on_fresh_samples_and_touches_no_weight(tiny_run: tp.Run) -> None:
    before = [value.clone() for value in tiny_run.discriminator.state_dict().values()]
    figures = tiny_run.test(n=100, seed=4)
    assert tiny_run.test(n=100, seed=4) == figures
    assert tiny_run.test(n=100, seed=5) != figures
    for old, new in zip(before, tiny_run.discriminator.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    place = Stream(4).child("test").child(0)
    z = tiny_run.info.latents.draw(100, place.child("latents"))
    with torch.no_grad():
        on_fake = tiny_run.discriminator(tiny_run.generator(z))
        assert figures["loss/generator"] == pytest.approx(Minimax().generator_loss(on_fake, on_fake).mean().item())
        assert figures["loss/fake"] == pytest.approx(Minimax().fake_loss(on_fake).mean().item())
    assert figures["loss/discriminator"] == pytest.approx(figures["loss/real"] + figures["loss/fake"])


def test_evaluate_says_what_it_measured(tiny_run: tp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(tiny_run.path), "--n", "100", "--extractor", "random-cnn"]
    assert run([*words, "--seeds", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    distance = figures["sliced-wasserstein"]
    assert distance["value"] > distance["floor"] > 0
    assert {"split", "data", "n_real", "n_fake", "seeds", "spread", "image_shape"} <= distance.keys()
    frechet = figures["fid_random-cnn"]
    assert frechet["value"] > frechet["floor"] > 0
    assert frechet["extractor"]["weights_sha256"]
    assert any("fewer than the extractor's 128 features" in text for text in frechet["warnings"])
    assert run([*words, "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "all split: 100 fakes, 100 real images, 1 times" in out
    assert "fid_random-cnn" in out
    assert "note: 100 images are fewer" in out
    assert run(["evaluate", str(tiny_run.path), "--n", "0"]) == 2
    assert run(["evaluate", str(tiny_run.path), "--extractor", "inceptio"]) == 2


def test_the_series_has_every_checkpoint(tiny_run: tp.Run) -> None:
    figures = tiny_run.evaluate(n=40, seeds=1, extractor="random-cnn", every=True)
    course = figures["series"]["fid_random-cnn"]
    assert [point["step"] for point in course] == tiny_run.steps == [4, 6]
    assert course[-1]["value"] == figures["fid_random-cnn"]["value"]
    assert course[0]["value"] != course[-1]["value"]
    early = tp.load(tiny_run.path, 4).evaluate(n=40, seeds=1, extractor="random-cnn")
    assert early["fid_random-cnn"]["value"] == course[0]["value"]
    assert early["fid_random-cnn"]["step"] == 4
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        tp.load(tiny_run.path, 5).evaluate(n=40, seeds=1, extractor="random-cnn")
    assert run(["evaluate", "nowhere"]) == 2


def test_a_run_ends_when_its_goal_is_reached(tmp_path: Path) -> None:
    words = (*TINY, "steps=40", "stop.metric=kimg", "stop.above=0.1")
    trained = tp.train("digits", *words, out=tmp_path / "run", device="cpu", quiet=True)
    assert trained.metrics[-1]["step"] == 8, "16 images a step, logged every second: 0.128 is the first above 0.1"
    assert trained.folder.checkpoint_steps()[-1] == 8
    assert trained.folder.sample_steps()[-1] == 8
    assert trained.info.step == 8
    again = tp.train(None, out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert again.metrics[-1]["step"] == 8, "it has ended"
    further = tp.train(None, "stop.above=0.2", out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert further.metrics[-1]["step"] == 14, "a further goal lets it go on"


def test_a_goal_may_be_the_classifier_s_error(tmp_path: Path) -> None:
    """It is taken at checkpoints only; between them the run goes on."""
    words = (*FEW, "steps=20", "stop.metric=classifier/test_error", "stop.below=1.0")
    trained = tp.train("digits-semi-supervised", *words, out=tmp_path / "run", device="cpu", quiet=True)
    assert trained.metrics[-1]["step"] == 4


def test_labels_and_a_game_that_uses_them_come_together(tmp_path: Path) -> None:
    for recipe, words, message in (
        ("digits-semi-supervised", ("data.labeled_per_class=null",), "needs labels: say data.labeled_per_class"),
        ("digits", ("data.labeled_per_class=2",), "makes no use of data.labeled_per_class"),
        ("digits", ("data.labeled_per_class=2", "objective.name=semi-supervised"), "names no classes"),
    ):
        with pytest.raises(UserError, match=message):
            tp.train(recipe, *words, out=tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_goals_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    for words, message in (
        (("stop.metric=loss/generator",), "either stop.below or stop.above"),
        (("stop.metric=loss/generator", "stop.below=1", "stop.above=2"), "either stop.below or stop.above"),
        (("stop.below=1",), "stop.metric is missing"),
        (("stop.metric=los/generator", "stop.below=1"), "did you mean 'loss/generator'"),
    ):
        with pytest.raises(UserError, match=message):
            tp.train("digits", *TINY, *words, out=tmp_path / "run", device="cpu", quiet=True)
