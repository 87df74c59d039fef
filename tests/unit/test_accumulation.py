"""Gradient accumulation: pieces of a batch, one after another, are the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import twoplayer as tp
from tests.ranks_together import CPU, digits, images_of, own_pieces, same, together, trained, with_class_logits
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Objective, Regularizer
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.data.batches import IndexedBatches
from twoplayer.ops.chains.chain import Chain
from twoplayer.recipes.schema import Recipe
from twoplayer.training.accumulation import require_pieces
from twoplayer.training.captured import can_be_captured
from twoplayer.training.play import play_step
from twoplayer.training.program import Programs
from twoplayer.training.state import new_state

SHAPE = (1, 8, 8)
SPECTRAL = "regularizers=[{name: spectral-normalization}, {name: gradient-penalty}]"

SAME = [
    "objective.name=minimax",
    "objective.name=hinge",
    "objective.name=wasserstein",
    "objective.name=least-squares",
    "objective.name=relativistic",
    "objective={name: minimax, flip_probability: 0.2, real_target: [0.7, 1.2]}",
    "regularizers=[{name: gradient-penalty}]",
    "regularizers=[{name: r1}, {name: r2}]",
    "regularizers=[{name: weight-clipping}]",
    "regularizers=[{name: historical-averaging}]",
    SPECTRAL,
    "augmentation={name: diffaugment}",
    "augmentation={name: adaptive, every: 2, kimg: 1}",
    "discriminator={name: packed, size: 2}",
    "play={name: alternating, discriminator_steps: 2}",
]

REFUSED = {
    "objective.name=feature-matching": "objective feature-matching looks at all images of a batch",
    "regularizers=[{name: dragan}]": "regularizer dragan looks at all",
    "generator.batch_norm=true": "BatchNorm in the generator looks at all",
    "discriminator={name: dcgan, n_filters: 4, batch_norm: true}": "BatchNorm in the discriminator",
    "discriminator={name: mlp, minibatch: discrimination}": "MinibatchDiscrimination in the discriminator looks at all",
    "discriminator={name: packed, size: 3}": "8 images at a time, but _Packed in the discriminator looks at 3 images",
    "accumulation_steps=5": "batch_size=24 cannot be shared equally in 5 pieces",
}


@pytest.mark.parametrize("rule", SAME)
def test_three_pieces_are_the_whole_batch(rule: str) -> None:
    recipe = digits(rule)
    found = trained(recipe.model_copy(update={"accumulation_steps": 3}), SHAPE, ALONE)
    same(found, trained(recipe, SHAPE, ALONE))


def test_pieces_of_an_auxiliary_classifier_are_the_whole_batch() -> None:
    same(trained(with_class_logits("accumulation_steps=3"), SHAPE, ALONE), trained(with_class_logits(), SHAPE, ALONE))


@pytest.mark.parametrize("words", [("fast=false", SPECTRAL), ("objective.name=relativistic", "data.flip=true")])
def test_two_ranks_with_two_pieces_are_one_process(words: tuple[str, ...], tmp_path: Path) -> None:
    alone = trained(digits(*words), SHAPE, ALONE)
    recipe = digits(*words, "accumulation_steps=2")
    for each in together(2, tmp_path / "ranks", lambda ranks: trained(recipe, SHAPE, ranks)):
        same(each, alone)


@pytest.mark.parametrize("rule", REFUSED)
def test_games_whose_images_are_coupled_are_refused(rule: str) -> None:
    recipe = digits("accumulation_steps=3", rule)
    with pytest.raises(UserError, match=REFUSED[rule]):
        require_pieces(new_state(recipe, SHAPE, 10, CPU).game, recipe.batch_size)


def test_every_objective_and_regularizer_was_asked() -> None:
    said = " ".join([*SAME, *REFUSED])
    pieces = {*own_pieces(Objective), *own_pieces(Regularizer)}
    pieces -= {"semi-supervised", "auxiliary-classifier"}  # feature matching for G; above
    assert [name for name in pieces if f"name={name}" not in said and f"name: {name}" not in said] == []


def test_a_refusal_leaves_no_folder_and_names_the_processes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="BatchNorm in the generator"):
        tp.train("digits", "accumulation_steps=2", out=tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()
    recipe = digits("accumulation_steps=7")
    game = replace(new_state(recipe, SHAPE, 10, CPU).game, ranks=Ranks(0, 2))
    with pytest.raises(UserError, match="by 2 processes in 7 pieces"):
        require_pieces(game, recipe.batch_size)


@dataclass
class Kept:
    """Bytes that are kept for differentiating."""

    now: int = 0
    peak: int = 0

    def pack(self, tensor: Tensor) -> Holder:
        return Holder(tensor, self)


@dataclass
class Holder:
    tensor: Tensor
    kept: Kept = field(repr=False)

    def __post_init__(self) -> None:
        self.kept.now += self.tensor.nbytes
        self.kept.peak = max(self.kept.peak, self.kept.now)

    def __del__(self) -> None:
        self.kept.now -= self.tensor.nbytes


def step_of(recipe: Recipe, **changes: Any) -> None:
    """One step of play, in memory."""
    batches = IndexedBatches(images_of(SHAPE), recipe.batch_size, Stream(0), CPU)
    game = replace(new_state(recipe, SHAPE, 10, CPU).game, **changes)
    play_step(recipe.play, game, lambda: batches[0], Stream(0))


NARROW = ("generator.widths=[16]", "discriminator.widths=[16]", "batch_size=96")


def test_what_is_kept_for_differentiating_is_of_one_piece() -> None:
    peaks = []
    for steps in (1, 4):
        kept = Kept()
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda holder: holder.tensor):
            step_of(digits(*NARROW, "fast=false", "play.name=alternating", f"accumulation_steps={steps}"))
        assert kept.now == 0
        peaks.append(kept.peak)
    assert peaks[1] < 0.35 * peaks[0]


def test_chains_judge_one_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    forward = Chain.forward

    def counting(self: Chain, values: Tensor, rows: Any) -> Tensor:
        judged.append(len(values))
        return forward(self, values, rows)

    monkeypatch.setattr(Chain, "forward", counting)
    step_of(digits(*NARROW, "accumulation_steps=4"))
    assert max(judged) == 3 * 24  # reals, fakes, places between them


def test_pieces_are_compiled_one_program_for_all_and_never_recorded() -> None:
    recipe = digits("play.name=alternating", "accumulation_steps=3", "objective.name=relativistic")
    games = [new_state(recipe, SHAPE, 10, CPU).game for _ in range(2)]
    programs = Programs(backend=None)
    batches = IndexedBatches(images_of(SHAPE), recipe.batch_size, Stream(0), CPU)
    for game in (games[0], replace(games[1], programs=programs)):
        for step in range(3):
            play_step(recipe.play, game, lambda step=step: batches[step], Stream(0).child(step))  # type: ignore[misc]
    assert [name for name, program in programs.found.items() if program is not None] == [
        "the discriminator",
        "the generator",
    ]
    for one, other in zip(games[0].discriminator.parameters(), games[1].discriminator.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    state = new_state(digits(), SHAPE, 10, CPU)
    assert can_be_captured(state, recipe, batches)
    state.game = games[0]
    assert not can_be_captured(state, recipe, batches)
