"""Laws of the pieces against mode collapse: the relativistic game, R1 and R2, packing, minibatch discrimination."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.contract.test_catalogue import linear_judge
from twoplayer.core.batch import Batch
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.networks.mlp import MlpDiscriminator
from twoplayer.networks.packed import PackedDiscriminator, packs
from twoplayer.objectives.minimax import Minimax
from twoplayer.objectives.relativistic import Relativistic
from twoplayer.objectives.wasserstein import Wasserstein
from twoplayer.recipes.load import load_recipe, parse_overrides, to_yaml
from twoplayer.regularizers.gradient_penalty import GradientPenalty
from twoplayer.regularizers.r1 import R1
from twoplayer.regularizers.r2 import R2


def says(*logits: float) -> Verdict:
    values = torch.tensor(logits, dtype=torch.float64)
    return Verdict(values, values[:, None])


def test_relativistic_is_the_minimax_game_of_the_difference() -> None:
    real, fake = says(2.0, -0.5), says(0.5, 1.0)
    expected = [math.log1p(math.exp(-gap)) for gap in (1.5, -1.5)]
    assert Relativistic().discriminator_loss(real, fake).tolist() == pytest.approx(expected)
    gap = Verdict(real.logits - fake.logits)
    assert torch.equal(Relativistic().discriminator_loss(real, fake), Minimax().real_loss(gap))


def test_relativistic_players_change_roles() -> None:
    real, fake = says(2.0, -0.5), says(0.5, 1.0)
    game = Relativistic()
    assert torch.equal(game.generator_loss(real, fake), game.discriminator_loss(fake, real))
    assert game.discriminator_loss(real, real).tolist() == pytest.approx([math.log(2.0)] * 2)


def test_relativistic_sees_differences_only() -> None:
    real, fake = says(2.0, -0.5), says(0.5, 1.0)
    higher = [Verdict(verdict.logits + 7.0) for verdict in (real, fake)]
    for loss in (Relativistic().discriminator_loss, Relativistic().generator_loss):
        torch.testing.assert_close(loss(*higher), loss(real, fake))


def images(n: int = 6, seed: int = 0, shape: tuple[int, int, int] = (2, 3, 3)) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("piece", [R1, R2])
def test_zero_centered_penalties_of_a_linear_discriminator(piece: type[R1] | type[R2], gamma: float) -> None:
    """D(x) = <a, x> has slope a everywhere: the penalty is gamma / 2 |a|^2, and its slope in a is gamma a."""
    slope = images(1)[0]
    judge = linear_judge(slope).double()
    cost = piece(gamma=gamma).discriminator_penalty(judge, Batch(images()), images(seed=1), Stream(0))
    torch.testing.assert_close(cost, (gamma / 2 * slope.square().sum()).expand(6))
    cost.mean().backward()
    torch.testing.assert_close(next(judge.parameters()).grad, gamma * slope)


class Quadratic(nn.Module):
    """D(x) = |x|^2 / 2, whose slope at x is x; remembers the mode it judged in."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Verdict:
        self.modes.append(self.training)
        return Verdict(images.flatten(1).square().sum(1) / 2)


def test_r1_looks_at_reals_and_r2_at_fakes() -> None:
    real, fake = images(), images(seed=1)
    for penalty, where in ((R1(gamma=2.0), real), (R2(gamma=2.0), fake)):
        cost = penalty.discriminator_penalty(Quadratic(), Batch(real), fake, Stream(0))
        torch.testing.assert_close(cost, where.flatten(1).square().sum(1))


@pytest.mark.parametrize("inference_mode", [True, False])
def test_zero_centered_penalties_judge_in_the_mode_asked_for(inference_mode: bool) -> None:
    judge = Quadratic().train()
    R1(inference_mode=inference_mode).discriminator_penalty(judge, Batch(images()), images(), Stream(0))
    assert judge.modes == [not inference_mode]
    assert judge.training


def test_packs_are_neighbors_one_behind_another() -> None:
    flat = images()
    packed = packs(flat, 3)
    assert packed.shape == (2, 6, 3, 3)
    assert torch.equal(packed[1], torch.cat([flat[3], flat[4], flat[5]]))


def test_only_whole_packs_are_judged_in_training() -> None:
    with pytest.raises(UserError, match=r"batch_size=6 has to be a multiple of discriminator\.size=4"):
        packs(images(), 4)
    filled = packs(images(), 4, fill=True)
    assert torch.equal(filled, packs(torch.cat([images(), images()[:2]]), 4))
    module = PackedDiscriminator(size=4).build((2, 3, 3), 0).double()
    with pytest.raises(UserError):
        module(images())
    assert module.eval()(images()).logits.shape == (6,)
    assert module(images(1)).logits.shape == (1,), "one image makes a pack of itself"


@pytest.mark.parametrize("objective", [Minimax(), Wasserstein(), Relativistic()])
def test_a_packed_game_is_the_game_of_its_packs(objective: Minimax | Wasserstein | Relativistic) -> None:
    """The mean over N images is the mean over the N / m packs, for both players."""
    torch.manual_seed(0)
    module = PackedDiscriminator(size=2).build((2, 3, 3), 0).double()
    real, fake = module(images()), module(images(seed=1))
    whole_real, whole_fake = (module.network(packs(images(seed=seed), 2)) for seed in (0, 1))
    assert torch.equal(real.logits, whole_real.logits.repeat_interleave(2))
    for loss in (objective.discriminator_loss, objective.generator_loss):
        torch.testing.assert_close(loss(real, fake).mean(), loss(whole_real, whole_fake).mean())


def test_a_packed_discriminator_sees_that_fakes_are_alike() -> None:
    """What packing is for: two verdicts differ although every single image is the same in both batches."""
    torch.manual_seed(0)
    module = PackedDiscriminator(size=2).build((2, 3, 3), 0).double()
    a, b = images(2)
    mixed, alike = torch.stack([a, b, a, b]), torch.stack([a, a, b, b])
    assert (module(mixed).logits.mean() - module(alike).logits.mean()).abs() > 1e-6


def test_slopes_count_every_copy_of_a_pack_s_logit() -> None:
    """For a pack of m with a linear D on all its channels the slope per image is m times that of D there."""
    slope = images(1, shape=(4, 3, 3))[0]
    module = PackedDiscriminator(size=2).build((2, 3, 3), 0)
    module.network = linear_judge(slope)
    cost = R1(gamma=2.0).discriminator_penalty(module.double(), Batch(images()), images(), Stream(0))
    expected = [4.0 * half.square().sum().item() for half in slope.split(2)]
    assert cost.tolist() == pytest.approx(expected * 3)
    penalty = GradientPenalty(weight=1.0, target=0.0).discriminator_penalty(
        module, Batch(images()), images(), Stream(0)
    )
    torch.testing.assert_close(penalty, cost)


def test_a_packed_recipe_comes_back_from_its_own_text(tmp_path: Path) -> None:
    words = ["discriminator={name: packed, size: 4, network: {name: mlp, widths: [16]}}"]
    recipe = load_recipe("digits", parse_overrides(words))
    (tmp_path / "again.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("{name: mlp, conditional: true}", "no one label or condition to tell mlp"),
        ("{name: mpl}", "no discriminator is called 'mpl'"),
        ("{name: mlp, wdths: [16]}", "wdths"),
    ],
)
def test_a_wrong_network_in_a_pack_is_said_in_one_line(network: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("digits", parse_overrides([f"discriminator={{name: packed, network: {network}}}"]))
    assert "\n" not in str(caught.value)


def test_a_network_that_prepares_itself_cannot_be_packed() -> None:
    network = {"name": "semi-supervised", "widths": (8,)}
    config = PackedDiscriminator.model_validate({"name": "packed", "network": network})
    with pytest.raises(UserError, match="not packed"):
        config.build((1, 8, 8), 10)


def test_minibatch_discrimination_in_fully_connected_players() -> None:
    """An image's logit depends on the others of its batch, its features do not."""
    torch.manual_seed(0)
    config = MlpDiscriminator(widths=(16,), minibatch="discrimination", num_kernels=7)
    assert not config.judges_alone
    module = config.build((2, 3, 3), 0).double()
    assert module.to_logit.in_features == 16 + 7
    together, alone = module(images()), module(images()[:2])
    torch.testing.assert_close(together.features[:2], alone.features)
    assert not torch.isclose(together.logits[:2], alone.logits).any()
    plain = MlpDiscriminator(widths=(16,)).build((2, 3, 3), 0)
    assert plain.state_dict().keys() == {
        f"{layer}.{part}" for layer in ("hidden.0", "to_logit") for part in ("weight", "bias")
    }
