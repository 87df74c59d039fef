"""bfloat16 in the layers alone: everything that is summed up over a training stays in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from tests.unit.test_fast_step import FEWER
from twoplayer.core.batch import Batch
from twoplayer.core.errors import UserError
from twoplayer.core.precision import compute_dtype, require_precision
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.objectives.wasserstein import Wasserstein
from twoplayer.ops.chains.link import Part, Rows
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.training.fast import fast_moves
from twoplayer.training.play import play_step
from twoplayer.training.state import TrainingState, new_state

CPU = torch.device("cpu")


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert [compute_dtype(each, CPU) for each in ("fp32", "auto", "bf16")] == [None, torch.bfloat16, torch.bfloat16]
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert compute_dtype("auto", CPU) is None
    assert compute_dtype("bf16", CPU) is None, "a run that was trained elsewhere can be used here"
    require_precision("auto", CPU)
    with pytest.raises(UserError, match="precision=bf16: this cpu has no bfloat16 arithmetic; use fp32 or auto"):
        require_precision("bf16", CPU)


def played(name: str, *words: str, dtype: torch.dtype | None, fast: bool) -> tuple[TrainingState, dict[str, Tensor]]:
    """One step, whether this processor has bfloat16 or imitates it."""
    recipe = load_recipe(name, parse_overrides([*SMALLER.get(name, ()), *FEWER.get(name, ()), *words]))
    channels, height, _ = IMAGE_SHAPES[recipe.data.source]
    side = recipe.data.image_size or height
    state = new_state(recipe, (channels, side, side), 10, CPU)
    for layer in state.game.discriminator.network.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    state.game = replace(state.game, dtype=dtype, fast=fast)
    images = Stream(7).uniform((16, channels, side, side), -1.0, 1.0)
    report = play_step(recipe.play, state.game, lambda: Batch(images, torch.arange(16) % 10), Stream(1))
    return state, report


def gradients(state: TrainingState) -> Tensor:
    players = (state.game.generator, state.game.discriminator)
    return torch.cat(
        [p.grad.flatten() for player in players for p in player.network.parameters() if p.grad is not None]
    )


@pytest.mark.parametrize("words", [(), ("augmentation=diffaugment",)], ids=["as they are", "changed images"])
@pytest.mark.parametrize("name", ["digits", "mnist-wgan-gp", "mnist-tanh-gan", "flowers-dcgan", "digits-cgan"])
def test_a_step_in_bfloat16(name: str, words: tuple[str, ...]) -> None:
    """As near to float32 as torch's own mixed precision, which the plain step uses; and what is kept is float32."""
    exact, expected = played(name, *words, dtype=None, fast=False)
    errors = []
    for fast in (True, False):
        state, report = played(name, *words, dtype=torch.bfloat16, fast=fast)
        assert {value.dtype for value in [*report.values(), *kept(state)]} == {torch.float32}
        errors.append(float((gradients(state) - gradients(exact)).norm() / gradients(exact).norm()))
        for key, value in expected.items():
            torch.testing.assert_close(report[key], value, rtol=0.1, atol=0.05)
    assert min(errors) > 1e-5, "it did not compute in bfloat16"
    assert errors[0] < 1.5 * errors[1]


def kept(state: TrainingState) -> list[Tensor]:
    """Whatever the next step builds on."""
    players = (state.game.generator, state.game.discriminator)
    memories = [value for player in players for each in player.optimizer.state.values() for value in each.values()]
    named = [value for _, value in (*state.gradients(), *state.named_tensors())]
    return [*named, *(value for value in memories if isinstance(value, Tensor))]


def test_statistics_and_logits_are_float32_in_a_fast_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[torch.dtype] = []
    true_loss = Wasserstein.generator_loss

    def listening(self: Wasserstein, real: Verdict, fake: Verdict) -> Tensor:
        heard.extend([real.logits.dtype, fake.logits.dtype])
        return true_loss(self, real, fake)

    monkeypatch.setattr(Wasserstein, "generator_loss", listening)
    state, _ = played("mnist-wgan-gp", dtype=torch.bfloat16, fast=True)
    assert set(heard) == {torch.float32}
    exact, _ = played("mnist-wgan-gp", dtype=None, fast=True)
    players = (state.game.discriminator.network, exact.game.discriminator.network)
    for ours, theirs in zip(*(network.buffers() for network in players), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=1e-3)
        assert not torch.equal(ours, ours.bfloat16().float()), "it was rounded"


def test_the_average_of_what_is_rounded_is_not_rounded() -> None:
    """Ten steps with a tiny learning rate still move the weights: they are kept in float32."""
    recipe = load_recipe("digits", parse_overrides(["optimizers.generator.learning_rate=1e-6"]))
    state = new_state(recipe, (1, 8, 8), 10, CPU)
    state.game = replace(state.game, dtype=torch.bfloat16)
    before = weights(state)
    for step in range(3):
        play_step(recipe.play, state.game, lambda: Batch(torch.rand(8, 1, 8, 8)), Stream(step))
    assert all(0.0 < (new - old).abs().max() < 1e-5 for new, old in zip(weights(state), before, strict=True))


def weights(state: TrainingState) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in state.game.generator.network.parameters()]


@pytest.mark.parametrize("name", ["digits", "mnist-wgan-gp", "digits-cgan", "digits-semi-supervised"])
def test_logits_are_computed_in_float32(name: str) -> None:
    """In bfloat16 a logit of 100 would be known to a half."""
    recipe = load_recipe(name, parse_overrides([*SMALLER.get(name, ()), *FEWER.get(name, ())]))
    shape = IMAGE_SHAPES[recipe.data.source]
    game = replace(new_state(recipe, shape, 10, CPU).game, dtype=torch.bfloat16)
    real = Batch(Stream(7).uniform((16, *shape), -1.0, 1.0), torch.arange(16) % 10)
    with game.computing(real):
        verdict = game.discriminator.told(real)(real.images)
    assert verdict.logits.dtype == torch.float32
    moves = fast_moves(game)
    if moves is not None:
        answer = moves.chain().forward(real.images, Rows((Part(16),)))
        assert answer.dtype == torch.float32
