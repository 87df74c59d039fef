"""Recipes, overrides, and what the user reads when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from twoplayer.core.errors import UserError
from twoplayer.latents.uniform import UniformLatents
from twoplayer.recipes.load import (
    check,
    flatten,
    load_recipe,
    merge,
    parse_overrides,
    read_recipe,
    recipe_names,
    recipe_text,
    to_yaml,
)


def load(*words: str) -> object:
    return load_recipe("mnist-wgan-gp", parse_overrides(words))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_and_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.title
    assert recipe_text(name).startswith("#"), "a header says what it reproduces"
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stps=5", r"unknown key 'stps'; did you mean 'steps'\? \(allowed: name, title, steps,"),
        (
            "generator.n_filter=5",
            r"unknown key 'generator.n_filter'; did you mean 'n_filters'\? \(allowed: name, n_filters",
        ),
        ("objective.name=minmax", r"objective.name=minmax; did you mean 'minimax'\? \(allowed: .*, minimax, .*\)"),
        ("optimizers.generator.lr=1", r"unknown key 'optimizers.generator.lr'.*learning_rate"),
        ("regularizers.gradient-penalty.weigth=1", r"unknown key 'regularizers.0.weigth'; did you mean 'weight'"),
        ("batch_size=-3", "batch_size=-3 should be greater than or equal to 1"),
        ("batch_size=2.5", r"batch_size=2\.5 should be a valid integer"),
        ("batch_size=many", "batch_size='many' should be a valid integer"),
        ("steps=true", "steps=True should be a valid integer"),
        ("optimizers.generator.learning_rate=.nan", "optimizers.generator.learning_rate=nan should be a finite number"),
        ("optimizers.generator.learning_rate=-.inf", "learning_rate=-inf should be a finite number"),
        ("precision=fp8", r"precision=fp8.*\(allowed: fp32, bf16, auto\)"),
        ("data.source=5", "data.source=5 should be a valid string"),
        ("generator=5", "generator=5"),
        ("objective={}", "objective needs a name"),
        ("regularizers.r1.weight=1", "no element 'r1' .there are: gradient-penalty"),
        ("seed=-1", "seed=-1 should be greater than or equal to 0"),
        ("steps", "'steps' is not KEY=VALUE"),
        ("steps=", "'steps=' is not KEY=VALUE"),
        ("steps=[1", "is not valid YAML"),
        ("steps=&a [*a]", "aliases are not used"),
        (f"steps={'[' * 3000}", "is not valid YAML"),
        (".=3", "is not KEY=VALUE"),
        ("regularizers.²=5", "no element"),
        ("generator={}", "generator needs a name"),
        ("name=../../evil", "name='../../evil' string should match pattern"),
        ("optimizers.generator.learning_rate=1e39", "less than or equal to"),
        ("regularizers=[{name: weight-clipping}, {name: weight-clipping}]", "two regularizers have one name"),
    ],
)
def test_bad_overrides_say_what_is_wrong_in_one_line(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(word)
    assert "\n" not in str(caught.value)


def test_unknown_recipes() -> None:
    with pytest.raises(UserError, match="unknown recipe 'digts'; did you mean 'digits'"):
        load_recipe("digts")
    with pytest.raises(UserError, match=r"missing\.yaml: no such file"):
        load_recipe("missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nsteps: 2\n", "'steps' stands twice"),
        ("- 1\n", "expected keys and values"),
        ("name: !!python/object:os.system {}\n", "not valid YAML"),
        ("a: [\n", "not valid YAML"),
        ("name: x\n", "is missing"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_recipe(str(path))


def test_numbers_as_people_write_them() -> None:
    recipe = load_recipe("digits", parse_overrides(["optimizers.generator.learning_rate=1e-4"]))
    assert recipe.optimizers.generator.learning_rate == 1e-4


def test_another_name_starts_a_piece_from_its_own_defaults() -> None:
    changed = load_recipe("digits", parse_overrides(["objective.name=wasserstein"]))
    assert changed.objective.model_dump() == {"name": "wasserstein"}
    for words in (["latents.dim=7", "latents.name=uniform"], ["latents.name=uniform", "latents.dim=7"]):
        assert load_recipe("digits", parse_overrides(words)).latents == UniformLatents(dim=7)
    kept = load_recipe("digits", parse_overrides(["objective.name=minimax", "name=mine"]))
    assert kept.objective == load_recipe("digits").objective
    assert kept.name == "mine"


def test_steps_and_epochs_take_each_other_s_place() -> None:
    assert load_recipe("digits", parse_overrides(["epochs=2"])).steps is None
    assert load_recipe("mnist-wgan-gp", parse_overrides(["steps=2"])).epochs is None
    with pytest.raises(UserError, match="either steps or epochs"):
        load("steps=1", "epochs=1")


def test_merging_leaves_the_base_alone() -> None:
    base = read_recipe("digits")
    merge(base, parse_overrides(["generator.n_filters=1", "regularizers.0.weight=3"]))
    assert base == read_recipe("digits")


def test_keyword_settings_are_overrides() -> None:
    words = merge(read_recipe("digits"), parse_overrides(["generator.n_filters=8", "steps=5"]))
    assert merge(read_recipe("digits"), flatten({"generator": {"n_filters": 8}, "steps": 5})) == words
    assert check(merge(read_recipe("digits"), flatten({"regularizers": []}))).regularizers == ()


def test_total_steps() -> None:
    recipe = load_recipe(
        "mnist-wgan-gp", parse_overrides(["epochs=2", "play={name: alternating, discriminator_steps: 5}"])
    )
    assert recipe.total_steps(batches_per_epoch=468) == 188, "the last step begins within the last pass"


def test_the_option_in_the_header_of_mnist_wgan_gp() -> None:
    option = "latents={name: normal, dim: 20}"
    assert option in recipe_text("mnist-wgan-gp")
    assert load_recipe("mnist-wgan-gp", parse_overrides([option])).latents.model_dump() == {"name": "normal", "dim": 20}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["discriminator.minibatch=none"], "generator.normalization"),
        (["objective.real_target=[0.8, 1.1]"], "discriminator.minibatch"),
        (["generator.normalization=batch"], "objective.real_target"),
        (["objective.name=feature-matching", "objective.real_target=0.9"], "objective.real_target"),
        (["regularizers=[{name: historical-averaging, weight: 0.001}]"], "objective.real_target"),
    ],
)
def test_each_improved_technique_is_one_switch_that_leaves_the_others(words: list[str], kept: str) -> None:
    recipe, changed = load_recipe("mnist-improved"), load_recipe("mnist-improved", parse_overrides(words))
    assert changed != recipe
    section, key = kept.split(".")
    assert getattr(getattr(changed, section), key) == getattr(getattr(recipe, section), key)
    header = recipe_text("mnist-improved")
    assert all(word.partition("=")[0] in header for word in words)
