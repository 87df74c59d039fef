"""The benchmark of modes: what it counts, what it plays, and that the same seeds give the same table."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import random_images
from twoplayer.bench.modes import Game, games, measure, summary
from twoplayer.bench.points import GRID, RING, PointBatches, Points, draw_fakes
from twoplayer.bench.stacked import StackedMnist
from twoplayer.bench.techniques import TECHNIQUES, game_of
from twoplayer.cli.main import run
from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.observed import Observed
from twoplayer.core.rng import Stream
from twoplayer.data.digits import DigitsSource
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source, Split, open_source
from twoplayer.data.stacked_mnist import joined_class, stacked
from twoplayer.evaluation.extraction import Fitted
from twoplayer.latents.normal import NormalLatents
from twoplayer.recipes.load import load_recipe
from twoplayer.training.play import play_step
from twoplayer.training.state import new_state

CPU = torch.device("cpu")
SMALL = ("batch_size=16", "generator.widths=[8]", "discriminator.widths=[8]")


def at_centers(data: Points) -> Tensor:
    """The centers as the players see them."""
    return (data.scale * data.centers).float()[:, :, None, None]


@pytest.mark.parametrize("data", [RING, GRID])
def test_exact_centers_find_every_mode(data: Points) -> None:
    assert data.figures(at_centers(data).repeat(3, 1, 1, 1)) == {
        "modes": data.num_modes,
        "high_quality": 1.0,
        "kl": 0.0,
    }


@pytest.mark.parametrize("data", [RING, GRID])
def test_a_single_center_is_one_mode(data: Points) -> None:
    found = data.figures(at_centers(data)[:1].repeat(100, 1, 1, 1))
    assert found == {"modes": 1.0, "high_quality": 1.0, "kl": pytest.approx(math.log(data.num_modes))}


@pytest.mark.parametrize("data", [RING, GRID])
def test_high_quality_ends_at_three_deviations(data: Points) -> None:
    """In every direction; a point beyond belongs to no mode, and where all are beyond nothing is found."""
    turned = torch.tensor([[math.cos(1.0), math.sin(1.0)]])
    inside, outside = (
        at_centers(data) + (factor * data.deviation * data.scale * turned)[:, :, None, None] for factor in (2.99, 3.01)
    )
    assert data.figures(inside)["high_quality"] == 1.0
    assert data.figures(outside) == {"modes": 0.0, "high_quality": 0.0, "kl": math.inf}
    assert data.figures(torch.cat([inside, outside]))["high_quality"] == 0.5


def test_published_centers() -> None:
    assert RING.centers.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert {tuple(place) for place in GRID.centers.tolist()} == {
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    }


@pytest.mark.parametrize("data", [RING, GRID])
def test_real_points_have_the_distribution_that_is_stated(data: Points) -> None:
    """Equal shares; within 3 deviations 1 - exp(-9 / 2) in two dimensions; all of them where tanh can reach."""
    points = data.draw(100_000, Stream(0))
    assert points.shape == (100_000, 2, 1, 1)
    assert points.abs().max() < 0.9
    found = data.figures(points)
    assert found["high_quality"] == pytest.approx(1.0 - math.exp(-4.5), abs=0.001)
    assert found["kl"] == pytest.approx((data.num_modes - 1) / 200_000, rel=0.7)
    offsets = points.flatten(1).double() / data.scale
    nearest = data.centers[torch.cdist(offsets, data.centers).argmin(1)]
    assert (offsets - nearest).std(0).tolist() == pytest.approx([data.deviation] * 2, rel=0.01)


def test_batches_of_points_are_functions_of_their_number() -> None:
    batches = PointBatches(RING, 32, Stream(0), CPU)
    assert torch.equal(batches[5].images, batches[5].images)
    assert not torch.equal(batches[5].images, batches[6].images)
    assert batches.per_epoch == 3125


def test_fakes_are_drawn_in_evaluation_mode() -> None:
    generator = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.Unflatten(1, (2, 1, 1)))
    drawn = [draw_fakes(generator, NormalLatents(dim=2), 50, Stream(0)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert generator.training


def test_techniques_share_their_players() -> None:
    """Words about the players are the ground that techniques stand on; all others have the last word."""
    plain = game_of("points.yaml", "plain", [])
    for name in TECHNIQUES:
        game = game_of("points.yaml", name, ["generator.widths=[7]", "discriminator.widths=[5, 5]", "steps=3"])
        judge = getattr(game.discriminator, "network", game.discriminator)
        assert (game.generator.widths, judge.widths, game.steps) == ((7,), (5, 5), 3)
        assert (game.optimizers, game.latents, game.batch_size) == (plain.optimizers, plain.latents, plain.batch_size)
    other = game_of("points.yaml", "wasserstein-penalty", ["objective.name=hinge", "regularizers=[{name: r1}]"])
    assert (other.objective.name, [rule.name for rule in other.regularizers]) == ("hinge", ["r1"])


def test_a_recipe_can_take_the_place_of_the_settings() -> None:
    game = game_of("points.yaml", "packing", ["steps=3"], "digits")
    digits = load_recipe("digits")
    assert (game.discriminator.network, game.generator) == (digits.discriminator, digits.generator)
    assert game.steps == 3


@pytest.mark.parametrize("settings", ["points.yaml", "stacked-mnist.yaml"])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_technique_is_a_valid_game(settings: str, technique: str) -> None:
    assert game_of(settings, technique, []).name.startswith("modes-")


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    runs = [{name: value for name, value in each.items() if name != "seconds"} for each in row["runs"]]
    return {name: value for name, value in row.items() if name not in ("seconds", "runs")} | {"runs": runs}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_same_seeds_give_the_same_row(technique: str) -> None:
    (game,) = games(["ring"], [technique], [*SMALL, "steps=4"], CPU)
    told = []
    rows = [measure(game, 2, CPU, lambda: told.append(1)) for _ in range(2)]
    assert without_seconds(rows[0]) == without_seconds(rows[1])
    assert [each["seed"] for each in rows[0]["runs"]] == [0, 1]
    assert len(told) == 2 * 2 * 4, "every step is told"


def test_what_is_measured_is_the_library_s_own_step() -> None:
    """On wide modes, where an untrained G finds some: the figures of a game that is played by hand, step by step."""
    wide = Points("wide", RING.places, 0.3)
    recipe = game_of("points.yaml", "relativistic-r1-r2", [*SMALL, "steps=20", "seed=4"])
    row = measure(Game(wide, "by hand", recipe, 20), 1, CPU, lambda: None)
    state, batches = new_state(recipe, (2, 1, 1), 0, CPU), wide.batches(recipe, CPU)
    for step in range(20):
        play_step(recipe.play, state.game, lambda: batches[step], Stream(4).child("train", step + 1))  # noqa: B023
        state.update_averages()
    figures = wide.judge(state.generator_for_use, recipe.latents, Stream(4).child("bench", "fakes"))
    assert figures["modes"] > 0
    assert {name: row["runs"][0][name] for name in figures} == figures


def test_a_game_that_diverges_has_found_nothing() -> None:
    words = [*SMALL, "steps=20", "optimizers.discriminator={name: sgd, learning_rate: 1e6}"]
    (game,) = games(["ring"], ["wasserstein-penalty"], words, CPU)
    row = measure(game, 1, CPU, lambda: None)
    assert row["modes"] == {"mean": 0.0, "deviation": None}
    assert row["kl"] == {"mean": None, "deviation": None}
    assert row["runs"][0]["kl"] is None


def test_summary() -> None:
    assert summary([1.0, 3.0]) == {"mean": 2.0, "deviation": 1.0}
    assert summary([1.0, math.inf]) == {"mean": None, "deviation": None}


@pytest.mark.parametrize(
    ("data", "technique", "words", "message"),
    [
        ("rnig", "plain", [], "unknown data 'rnig'; did you mean 'ring'"),
        ("ring", "plian", [], "unknown technique 'plian'; did you mean 'plain'"),
        ("ring", "plain", ["objective.name=hing"], "did you mean 'hinge'"),
        ("ring", "plain", ["discriminator.conditional=true"], "without labels"),
        ("ring", "plain", ["objective.name=semi-supervised", "data.labeled_per_class=1"], "needs labels"),
    ],
)
def test_what_cannot_be_played_is_said_before_anything_is(
    data: str, technique: str, words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        games([data], [technique], words, CPU)


def test_players_that_do_not_fit_the_points_are_refused() -> None:
    (game,) = games(["ring"], ["plain"], ["generator.name=dcgan", "steps=2"], CPU)
    with pytest.raises(UserError, match="too many for 1x1 images"):
        measure(game, 1, CPU, lambda: None)
    (game,) = games(["ring"], ["packing"], ["batch_size=15", "steps=2"], CPU)
    with pytest.raises(UserError, match=r"has to be a multiple of discriminator\.size=2"):
        measure(game, 1, CPU, lambda: None)


def test_the_command_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "modes", "--technique", "plain", "--technique", "packing", "--seeds", "2", "--steps", "3", *SMALL]
    assert run([*words, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["seeds"] == 2
    assert [each["data"] for each in found["data"]] == ["ring", "grid"]
    for each in found["data"]:
        assert [row["technique"] for row in each["results"]] == ["plain", "packing"]
        assert each["floor"]["modes"]["mean"] == each["num_modes"]
        assert all(row["steps"] == 3 and row["seconds"]["mean"] > 0 for row in each["results"])
    assert told.err.count("ring  plain") == 1, "progress goes to stderr"
    assert run([*words, "--data", "grid"]) == 0
    table = capsys.readouterr().out
    for part in ("grid: 2,500 fakes, 25 modes", "plain", "packing", "(real samples)", "25.0 +- 0.0", "98."):
        assert part in table, part
    assert run(["bench", "modes", "--seeds", "0"]) == 2


def test_triples_have_the_label_of_their_digits() -> None:
    digits = ImageData(random_images(30), "digits", "train", torch.arange(30) % 10, tuple("0123456789"))
    data = stacked(digits, 200, Stream(0))
    assert data.shape == (3, 8, 8)
    assert data.class_names[137] == "137"
    by_pixels = {image.numpy().tobytes(): int(label) for image, label in zip(digits.images, digits.labels, strict=True)}
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        a, b, c = (by_pixels[channel.numpy().tobytes()] for channel in image)
        assert label == 100 * a + 10 * b + c
    assert torch.equal(stacked(digits, 200, Stream(0)).images, data.images)
    assert joined_class(torch.tensor([[9, 9, 9]]), 10).item() == 999


def test_stacked_mnist_is_a_source(mnist_folder: Any) -> None:
    data = open_source("stacked-mnist").load("test", Form())
    assert (len(data), data.shape, len(data.class_names)) == (26_000, (3, 28, 28), 1000)
    shares = torch.bincount(data.labels, minlength=1000) / len(data)
    assert shares.max() < 3e-3
    assert (shares > 0).all()


class StackedDigits(Source):
    """Triples of the small digits, to test with; without a name of its own it is in no catalogue."""

    @classmethod
    def parse(cls, text: str) -> None:
        assert text

    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        return stacked(DigitsSource().load(split, Form(image_size, None)), 2000, Stream(0).child(split))


class ByHeart:
    """Names every digit rightly, because it knows them all."""

    def __init__(self) -> None:
        digits = DigitsSource().load("all", Form())
        assert digits.labels is not None
        named = zip(digits.images, digits.labels.tolist(), strict=True)
        self.labels = {image.numpy().tobytes(): label for image, label in named}

    def observe(self, pixels: Tensor) -> Observed:
        labels = torch.tensor([self.labels[image.numpy().tobytes()] for image in pixels])
        return Observed(probabilities=nn.functional.one_hot(labels, 10).double())


class Repeats(nn.Module):
    """A generator of given images, uint8 [M, C, H, W]."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(to_float(images), requires_grad=False)

    def forward(self, latents: Tensor) -> Tensor:
        return self.images[latents[:, 0].mul(1e6).long() % len(self.images)]


def test_a_stack_is_named_channel_by_channel() -> None:
    """Real triples have the figures of the floor; a single triple is one mode, and its share says how far it is off."""
    data = StackedMnist(4000, DigitsSource(), StackedDigits(name="stacked-digits"))
    data.__dict__["classifier"] = Fitted("by-heart", ByHeart(), {})
    floor = data.floor(Stream(0))
    assert floor["modes"] > 950
    assert floor["kl"] == pytest.approx(999 / 8000, rel=0.2), "(K - 1) / 2N"
    latents = NormalLatents(dim=1)
    real = stacked(DigitsSource().load("test", Form()), 20_000, Stream(1))
    found = data.judge(Repeats(real.images), latents, Stream(0))
    assert found["modes"] == pytest.approx(floor["modes"], rel=0.03)
    assert found["kl"] == pytest.approx(999 / 8000 + 999 / 40_000, rel=0.2), "4,000 of 20,000 of all triples"
    assert real.labels is not None
    one = data.judge(Repeats(real.images[:1]), latents, Stream(0))
    test = DigitsSource().load("test", Form()).labels
    assert test is not None
    shares = torch.bincount(test).double() / len(test)
    label = int(real.labels[0])
    share = shares[label // 100] * shares[label // 10 % 10] * shares[label % 10]
    assert one == {"modes": 1.0, "kl": pytest.approx(-math.log(share))}
