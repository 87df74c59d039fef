"""`twoplayer bench step|sample|data`: contenders in processes of their own, on tiny work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from twoplayer.bench.duel import Contender, running, take_turns
from twoplayer.bench.flops import layer_flops, useful_flops
from twoplayer.bench.steps import flops_of
from twoplayer.bench.workloads import setup_of
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.recipes.load import load_recipe, parse_overrides, recipe_names


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the contenders' processes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "step", "--recipe", "digits", "--rounds", "1", "--json", "batch_size=16"]) == 0
    found = json.loads(capsys.readouterr().out)
    ours, plain = found["contenders"]
    assert found["ms_per_step"] == ours["ms_per_step"] > 0
    assert found["images_per_second"] == pytest.approx(16e3 / ours["ms_per_step"])
    assert found["speedup_over_plain_pytorch"] == pytest.approx(plain["ms_per_step"] / ours["ms_per_step"])
    assert (found["device"], found["precision"]) == ("cpu", "fp32")
    assert found["gradient_errors"]["twoplayer in float64"] < 1e-12
    assert found["gradient_errors"]["twoplayer"] < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sample", "data"])
def test_rates(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", what, "--recipe", "digits-cgan", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "images/s" in shown
    assert "plain PyTorch" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["step", "--rounds", "0"], "--rounds 0: it starts at 1"),
        (["step", "--recipe", "digits", "--against", "jax"], "--against jax (allowed: keras)"),
        (["step", "--recipe", "digits", "--against", "keras"], "no other"),
        (["step", "--against", "keras", "regularizers=[]", "data.image_size=28", "data.channels=1"], "no other"),
        (["sample", "--recipe", "digitz"], "digits"),
    ],
)
def test_what_a_user_can_mend(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told


def test_keras_that_is_not_there_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    from twoplayer.bench.steps import keras_contenders

    told = {"recipe": load_recipe("mnist-wgan-gp").model_dump(mode="json")}
    with pytest.raises(UserError, match=r"pip install tensorflow-cpu"):
        keras_contenders(told, tmp_path / "python")


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "contender.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_contenders_take_turns_and_do_short_work_many_times(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        "import json, sys\n"
        "print('a library says hello', flush=True)\n"
        "input(); print(json.dumps({'ready': True}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'seconds': 0.01 * json.loads(line)['times']}), flush=True)\n",
    )
    players = [Contender(name, command, {}) for name in ("one", "two")]
    turns: list[int] = []
    with running(players):
        take_turns(players, 3, least=0.1, told=lambda: turns.append(1))
    assert [each.seconds for each in players] == [pytest.approx([0.01] * 3)] * 2
    assert len(turns) == 8


def test_a_contender_that_breaks_is_named_with_its_last_words(tmp_path: Path) -> None:
    command = script(tmp_path, "raise SystemExit('no such framework')\n")
    with (
        pytest.raises(UserError, match="one could not be measured: no such framework"),
        running([Contender("one", command, {})]),
    ):
        pass


def test_the_flops_of_the_largest_recipe_are_counted_by_hand() -> None:
    """The figure is worked out on paper: three ways up, three down, one of directions, three products for weights."""
    import torch

    recipe = load_recipe("mnist-wgan-gp")
    generator = recipe.generator.build(20, (1, 28, 28), 0)
    discriminator = recipe.discriminator.build((1, 28, 28), 0)
    g = layer_flops(generator, torch.zeros(2, 20), {})
    d = layer_flops(discriminator, torch.zeros(2, 1, 28, 28), {})
    assert d == [2 * 25 * 64 * 784, 2 * 25 * 64 * 128 * 196, 2 * 25 * 128 * 256 * 49, 2 * 49 * 256]
    assert g == [
        2 * 20 * 6272, 2 * 25 * 128 * 128 * 49, 2 * 25 * 128 * 64 * 49, 2 * 25 * 64 * 32 * 196, 2 * 25 * 32 * 784
    ]  # fmt: skip
    expected = 10 * sum(d) - d[0] + 3 * sum(g) - g[0]
    assert useful_flops(recipe, g, d) == expected
    assert 128 * expected / 1e9 == pytest.approx(240, rel=0.01)


@pytest.mark.parametrize("name", [name for name in recipe_names() if not load_recipe(name).levels])
def test_the_flops_of_every_recipe_can_be_counted(name: str) -> None:
    recipe = load_recipe(name, parse_overrides(SMALLER.get(name, ())))
    channels, height, width = IMAGE_SHAPES[recipe.data.source]
    side = recipe.data.image_size
    shape = [channels, side or height, side or width]
    told = {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "shape": shape,
        "num_classes": 10,
        "n": max(4 * recipe.batch_size, 20 * (recipe.data.labeled_per_class or 0)),
        "device": "cpu",
    }
    assert flops_of(setup_of(told)) > 1000
