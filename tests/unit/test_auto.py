"""`twoplayer train auto`: choices as a function of facts, what is looked at, and what a user may say otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import twoplayer as tp
from tests.conftest import random_images
from twoplayer import choosing
from twoplayer.choosing import choose_recipe, is_colorless, mirrored_distance
from twoplayer.core.errors import UserError
from twoplayer.core.stop import StopRequest
from twoplayer.data.form import Form
from twoplayer.data.source import open_source
from twoplayer.recipes.auto import Facts, recipe_tree, round_down
from twoplayer.recipes.load import check, load_recipe, merge, parse_overrides
from twoplayer.recipes.schema import DataOptions, Recipe

CPU = torch.device("cpu")


def made(facts: Facts) -> Recipe:
    return check(merge(recipe_tree(facts), parse_overrides(["data.source=digits"])))


def chosen(*words: str) -> Recipe:
    return choose_recipe(parse_overrides(words), CPU, quiet=True, stop=StopRequest()).recipe


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("n", [1, 3, 500, 60_000])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 20, 33), (3, 64, 64)])
def test_it_makes_a_whole_recipe_of_any_facts(shape: tuple[int, int, int], n: int, accelerated: bool) -> None:
    recipe = made(Facts(n, shape, accelerated=accelerated))
    assert recipe.batch_size <= n
    images = recipe.generator.build(recipe.latents.dim, shape, 0)(torch.randn(2, recipe.latents.dim))
    assert images.shape == (2, *shape)
    assert recipe.discriminator.build(shape, 0)(images).logits.shape == (2,)
    assert recipe.reasons.keys() >= {"batch_size", "steps", "generator.n_filters"}


def test_choices_follow_the_facts() -> None:
    many, few = (made(Facts(n, (3, 32, 32), held_out=True, mirrored=1.01)) for n in (50_000, 500))
    assert many.augmentation is None
    assert few.augmentation is not None
    assert few.augmentation.name == "adaptive"
    assert many.reasons["augmentation"] == "50,000 images are many: D does not soon know them by heart"
    assert many.data.flip
    assert not made(Facts(50_000, (3, 32, 32), mirrored=1.2)).data.flip
    assert not made(Facts(50_000, (3, 32, 32), mirrored=None)).data.flip
    large = made(Facts(50_000, (3, 32, 32), accelerated=True))
    assert large.batch_size > many.batch_size
    assert large.generator.n_filters > many.generator.n_filters  # type: ignore[attr-defined]
    gammas = [made(Facts(50_000, shape)).regularizers[0].gamma for shape in ((1, 28, 28), (3, 56, 56))]  # type: ignore[attr-defined]
    assert gammas[1] == pytest.approx(12 * gammas[0], rel=0.2)


def test_the_rhythm_follows_the_length_that_was_said(tmp_path: Path) -> None:
    recipe = chosen("data.source=digits", "steps=4000", "batch_size=16")
    assert (recipe.steps, recipe.batch_size, recipe.log_every, recipe.sample_every) == (4000, 16, 10, 100)
    assert "steps" not in recipe.reasons
    assert "batch_size" not in recipe.reasons
    assert recipe.average is not None
    assert recipe.average.half_life_kimg == pytest.approx(1.6)
    by_epochs, by_steps = (
        chosen("data.source=digits", "data.limit=100", words) for words in ("epochs=100", "steps=300")
    )
    assert by_epochs.steps is None
    assert "steps" not in by_epochs.reasons
    assert by_epochs.total_steps(100 // by_epochs.batch_size) == 300
    for key in ("average", "log_every", "sample_every", "checkpoint_every"):
        assert getattr(by_epochs, key) == getattr(by_steps, key)


def test_what_is_said_is_not_chosen_and_has_no_reason() -> None:
    words = ["generator.name=mlp", "regularizers.r1.gamma=3", "augmentation=null", "data.flip=true"]
    recipe = chosen("data.source=digits", *words)
    assert recipe.generator.name == "mlp"
    assert recipe.augmentation is None
    assert recipe.data.flip
    gone = {"generator.n_filters", "regularizers.r1.gamma", "augmentation.name", "data.flip"}
    assert not gone & recipe.reasons.keys()
    assert "regularizers.r2.gamma" in recipe.reasons


def test_reasons_end_with_what_they_speak_of() -> None:
    tree = {"batch_size": 2, "generator": {"name": "dcgan", "n_filters": 8}, "rules": [{"name": "r1", "gamma": 1.0}]}
    tree |= {
        "data": {"source": "digits"},
        "augmentation": None,
        "reasons": {"batch_size": "a", "generator.n_filters": "b", "rules.r1.gamma": "c", "augmentation": "d"},
    }
    for words, kept in (
        (["batch_size=3"], {"generator.n_filters", "rules.r1.gamma", "augmentation"}),
        (["generator.name=mlp"], {"batch_size", "rules.r1.gamma", "augmentation"}),
        (["generator.name=dcgan", "rules=[]"], {"batch_size", "generator.n_filters", "augmentation"}),
        (["rules.r1.gamma=2"], {"batch_size", "generator.n_filters", "augmentation"}),
        (["rules.0.gamma=2"], {"batch_size", "generator.n_filters", "augmentation"}),
        (["data.source=mnist"], set()),
        (["seed=1"], {"batch_size", "generator.n_filters", "rules.r1.gamma", "augmentation"}),
        (["augmentation=diffaugment"], {"batch_size", "generator.n_filters", "rules.r1.gamma"}),
    ):
        assert merge(tree, parse_overrides(words))["reasons"].keys() == kept


def test_mirror_images_of_digits_are_no_digits() -> None:
    digits = open_source("digits").load("all", Form()).images
    assert (found := mirrored_distance(digits)) is not None
    assert found > 1.3
    turned = torch.rand(len(digits), generator=torch.Generator().manual_seed(0)) < 0.5
    both = torch.where(turned.view(-1, 1, 1, 1), digits.flip(3), digits)
    assert (found := mirrored_distance(both)) is not None
    assert found == pytest.approx(1.0, abs=0.05)
    assert mirrored_distance(digits[:100]) is not None
    assert mirrored_distance(digits[:98]) is None
    assert mirrored_distance(digits[:1].expand(200, -1, -1, -1)) is None


def test_more_processes_than_images_are_refused() -> None:
    words = parse_overrides(["data.source=digits", "data.limit=3"])
    with pytest.raises(UserError, match="3 images in digits cannot be shared by 4 processes"):
        choose_recipe(words, CPU, quiet=True, stop=StopRequest(), processes=4)


def test_rate_and_pace_follow_batch_and_length() -> None:
    usual, large = made(Facts(500, (3, 32, 32))), made(Facts(50_000, (3, 32, 32), batch_size=256))
    assert usual.optimizers.generator.learning_rate == 0.001  # type: ignore[attr-defined]
    assert large.optimizers.discriminator.learning_rate == 0.002  # type: ignore[attr-defined]
    paces = [made(Facts(500, (3, 32, 32), steps=steps)).augmentation for steps in (500, 3125, 100_000)]
    assert [each.kimg for each in paces if each is not None] == [16.0, 100.0, 100.0]  # type: ignore[attr-defined]


def test_gray_pictures_are_known_in_color_files() -> None:
    gray = np.repeat(random_images(5).numpy(), 3, axis=1)
    assert is_colorless(gray)
    gray[0, 0, 0, 0] ^= 64
    assert not is_colorless(gray)


def test_a_folder_of_odd_pictures_is_trained_and_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (9 + number, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_text("no picture")
    run = tp.train("auto", "steps=2", data=folder, out=tmp_path / "run", quiet=True)
    recipe = load_recipe(str(run.folder.config))
    assert recipe.data.image_size == 8
    assert recipe.data.bad_images == "skip"
    assert recipe.batch_size == 4
    assert recipe.reasons["data.image_size"].startswith("12 sizes")
    again = tp.train(run.folder.config, out=tmp_path / "again", quiet=True)
    assert torch.equal(run.sample(4, 0), again.sample(4, 0))
    longer = tp.train("auto", out=tmp_path / "run", resume=True, steps=3, quiet=True)
    assert longer.folder.checkpoint_steps()[-1] == 3
    left = load_recipe(str(run.folder.config)).reasons
    assert left == {key: why for key, why in recipe.reasons.items() if key != "steps"}


def test_it_says_what_it_chose_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tp.train(
        "auto", "steps=1", "generator.n_filters=8", "discriminator.n_filters=4", data="digits", out=tmp_path / "run"
    )
    said = capsys.readouterr().err
    assert "auto: 1,438 gray images of their own 8x8 pixels from digits; others are held out" in said
    assert "batch_size=64  " in said
    assert "generator.n_filters=8  " not in said


def test_pictures_that_are_decoded_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("a" * 150)
    folder.mkdir()
    for number in range(8):
        Image.fromarray(np.full((16, 24, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    recipe = chosen(f"data.source={folder}", "data.cache=none", "data.channels=3")
    assert (recipe.data.image_size, recipe.data.channels, recipe.data.flip) == (16, 3, False)
    survey = open_source(str(folder)).survey("train")
    monkeypatch.setattr(choosing, "may_be_skipped", lambda _: True)
    for cache, proposed in (("auto", True), ("none", False)):  # pictures that are streamed are not all looked at before
        said = DataOptions.model_validate({"source": str(folder), "cache": cache})
        assert ("data.bad_images" in {choice.key for choice in choosing.form_choices(survey, said)}) == proposed
    assert recipe.name == f"auto-{'a' * 95}"


def test_some_classes_several_seeds_and_processes(tmp_path: Path) -> None:
    run = tp.train(
        "auto", "data.classes=['3','4']", "steps=1", "seeds=2", data="digits", out=tmp_path / "runs", quiet=True
    )
    assert run.folder.path.name == "seed-0"
    assert load_recipe(str(run.folder.config)).data.classes == ("3", "4")
    assert [made(Facts(12, (1, 8, 8), processes=processes)).batch_size for processes in (1, 3, 8)] == [4, 3, 8]
    assert made(Facts(60_000, (1, 8, 8), processes=6)).batch_size == 60


def test_what_is_said_about_an_augmentation_asks_for_one() -> None:
    assert made(Facts(60_000, (1, 8, 8), augmented=True)).augmentation is not None
    recipe = chosen("data.source=digits", "augmentation.kimg=7")
    assert recipe.augmentation is not None
    assert recipe.augmentation.model_dump()["kimg"] == 7


def test_without_data_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data SOURCE"):
        tp.train("auto", out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="--data SOURCE"):
        load_recipe("auto")
    with pytest.raises(UserError, match="unknown key 'lenght'"):
        tp.train("auto", "lenght=3", data="digits", out=tmp_path / "run", quiet=True)


def test_rounding() -> None:
    assert [round_down(number) for number in (0.0, 3, 9, 10, 20, 4999)] == [1, 2, 5, 10, 20, 2000]


def test_mnist_auto_is_what_auto_makes_for_mnist() -> None:
    facts = Facts(60_000, (1, 28, 28), held_out=True, mirrored=1.32)
    tree = merge(recipe_tree(facts), parse_overrides(["data.source=mnist"]))
    kept = load_recipe("mnist-auto")
    own = {"name": kept.name, "title": kept.title, "reasons": kept.reasons}
    assert kept == check(tree).model_copy(update=own)


def test_reasons_are_broken_where_a_terminal_ends() -> None:
    found = choose_recipe(parse_overrides(["data.source=digits"]), CPU, quiet=True, stop=StopRequest())
    whole, narrow, hopeless = found.lines(), found.lines(90), found.lines(10)
    assert max(map(len, whole)) > 120
    assert max(map(len, narrow[1:])) <= 90
    for lines in (narrow, hopeless):  # no word is lost, and each key begins a line
        assert " ".join(lines).split() == " ".join(whole).split()
        assert sum(line[0] != " " for line in lines) == len(whole)
