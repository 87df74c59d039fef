"""What players are told: labels, vectors and images; in training, in sampling, and when the data lacks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import twoplayer as tp
from tests.conftest import random_images
from twoplayer.core.batch import Batch, to_float
from twoplayer.core.conditioned import Conditioned, conditioned
from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.batches import IndexedBatches, labeled_subset
from twoplayer.data.images import ImageData
from twoplayer.latents.normal import NormalLatents
from twoplayer.networks.cgan import CganDiscriminator, CganGenerator
from twoplayer.networks.dcgan import DcganDiscriminator
from twoplayer.networks.mlp import MlpDiscriminator, MlpGenerator
from twoplayer.objectives.minimax import Minimax
from twoplayer.optimizers.sgd import Sgd
from twoplayer.recipes.schema import Alternating, Simultaneous
from twoplayer.runs.sampling import BLOCK, sample
from twoplayer.training.play import play_step
from twoplayer.training.step import Game, Player

CPU = torch.device("cpu")
TINY = (
    "steps=4",
    "batch_size=16",
    "log_every=2",
    "sample_every=4",
    "checkpoint_every=4",
    "grid_images=20",
    "generator.widths=[8]",
    "discriminator.widths=[8]",
)


class Told(nn.Module):
    """A network that notes what it is told with which inputs."""

    def __init__(self, is_generator: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.is_generator = is_generator
        self.heard: list[tuple[int, Tensor]] = []

    def forward(self, inputs: Tensor, *, labels: Tensor) -> Tensor | Verdict:
        self.heard.append((len(inputs), labels))
        if self.is_generator:
            return (inputs[:, :4] * self.weight).tanh().reshape(-1, 1, 2, 2)
        return Verdict(inputs.flatten(1).sum(1) * self.weight)


@pytest.mark.parametrize("play", [Simultaneous(), Alternating()])
def test_fakes_get_the_labels_of_the_reals_and_both_players_hear_them(play) -> None:
    generator, discriminator = Told(True), Told(False)
    game = Game(
        Player(generator, Sgd().build(generator.parameters()), ("labels",)),
        Player(discriminator, Sgd().build(discriminator.parameters()), ("labels",)),
        Minimax(),
        (),
        NormalLatents(dim=4),
    )
    labels = torch.tensor([3, 1, 2])
    play_step(play, game, lambda: Batch(torch.zeros(3, 1, 2, 2), labels), Stream(0))
    for player in (generator, discriminator):
        assert player.heard
        assert all(n == 3 and torch.equal(heard, labels) for n, heard in player.heard)


def test_a_network_with_its_condition_filled_in_shares_weights_and_mode() -> None:
    network = MlpDiscriminator(widths=(4,), dropout=0.5, conditional=True).build((1, 2, 2), 3)
    labels, images = torch.tensor([0, 2]), torch.rand(2, 1, 2, 2)
    judge = conditioned(network, {"labels": labels})
    assert isinstance(judge, Conditioned)
    with mode(judge, training=False):
        assert not network.training
        assert torch.equal(judge(images).logits, network(images, labels=labels).logits)
    assert network.training
    assert conditioned(network, {}) is network


@pytest.mark.parametrize(
    "network",
    [
        MlpDiscriminator(widths=(16,), conditional=True),
        DcganDiscriminator(n_filters=4, conditional=True),
        CganDiscriminator(),
    ],
)
def test_a_conditional_d_listens(network) -> None:
    torch.manual_seed(0)
    judge, image = network.build((1, 8, 8), 10).eval(), torch.rand(1, 1, 8, 8).expand(10, -1, -1, -1)
    verdicts = judge(image, labels=torch.arange(10)).logits
    assert len(set(verdicts.tolist())) == 10


def test_a_condition_may_be_a_vector() -> None:
    torch.manual_seed(0)
    generator = CganGenerator(condition_dim=5).build(3, (1, 4, 4), 0).eval()
    judge = CganDiscriminator(condition_dim=5).build((1, 4, 4), 0).eval()
    vectors, z = torch.randn(2, 5), torch.randn(1, 3).expand(2, -1)
    images = generator(z, condition=vectors)
    assert not torch.equal(images[0], images[1])
    verdict = judge(images[:1].expand(2, -1, -1, -1), condition=vectors).logits
    assert verdict[0] != verdict[1]
    one_hot = CganGenerator().build(3, (1, 4, 4), 5).eval()
    assert torch.equal(one_hot(z, labels=torch.tensor([4, 0])), one_hot(z, condition=torch.eye(5)[[4, 0]]))


def test_vectors_come_from_an_npz(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "data.npz", images=random_images(40).numpy(), conditions=vectors)
    words = ("generator={name: cgan, condition_dim: 3}", "discriminator={name: cgan, condition_dim: 3}")
    run = tp.train("digits", *TINY[:6], *words, data=tmp_path / "data.npz", out=tmp_path / "run", quiet=True)
    assert run.metrics[-1]["step"] == 4
    with pytest.raises(UserError, match="is told a vector"):
        run.sample(2)
    images = run.generator(torch.zeros(2, 32), condition=torch.tensor([[0.0, 0, 0], [9, 9, 9]]))
    assert not torch.equal(images[0], images[1])


def test_vectors_of_another_length_are_refused_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=random_images(40).numpy(), conditions=np.zeros((40, 4)))
    words = ("generator={name: cgan, condition_dim: 3}", "discriminator={name: cgan, condition_dim: 3}")
    with pytest.raises(UserError, match="these pieces do not fit together: mat1 and mat2"):
        tp.train("digits", *TINY[:6], *words, data=tmp_path / "data.npz", out=tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (np.zeros((3, 2)), "one row per image"),
        (np.zeros(4), "shape \\[N, ...\\]"),
        (np.full((4, 2), np.nan), "finite"),
        (np.array([["a"]] * 4), "must be numbers"),
    ],
)
def test_bad_conditions_are_named(conditions: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=random_images(4).numpy(), conditions=conditions)
    with pytest.raises(UserError, match=message):
        tp.train("digits", data=tmp_path / "data.npz", out=tmp_path / "run", quiet=True)


def test_data_without_what_a_player_needs_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=random_images(100).numpy())
    for words, message in (
        (("generator.conditional=true",), "generator.name=mlp is conditional, but the data has no labels"),
        (("discriminator={name: cgan, condition_dim: 3}",), "the data has no condition"),
        (("generator={name: cgan, condition_dim: 3}",), "the data has no condition"),
    ):
        with pytest.raises(UserError, match=message):
            tp.train("digits", *TINY[:6], *words, data=tmp_path / "data.npz", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "config.yaml").exists()


def labeled(n: int = 60, classes: int = 3) -> ImageData:
    return ImageData(random_images(n), "test", "all", torch.arange(n) % classes, tuple("abc"[:classes]))


def test_the_labeled_few_are_as_many_of_each_class_and_always_the_same() -> None:
    data = labeled()
    chosen = labeled_subset(data, 5, Stream(0))
    assert len(set(chosen.tolist())) == 15
    assert data.labels is not None
    assert data.labels[chosen].bincount().tolist() == [5, 5, 5]
    assert torch.equal(chosen, labeled_subset(data, 5, Stream(0)))
    assert not torch.equal(chosen, labeled_subset(data, 5, Stream(1)))
    with pytest.raises(UserError, match="class a has 20"):
        labeled_subset(data, 21, Stream(0))


def test_labeled_batches_go_round_and_bring_their_own_labels() -> None:
    data = labeled()
    batches = IndexedBatches(data, 10, Stream(0), CPU, labeled_per_class=5)
    assert data.labels is not None
    seen: dict[bytes, int] = {}
    for number in range(3):
        few = batches[number].labeled
        assert few is not None
        assert few.labels is not None
        for image, label in zip(few.images, few.labels, strict=True):
            seen.setdefault(image.numpy().tobytes(), int(label))
    assert len(seen) == 15, "two batches of ten show all fifteen"
    truth = {
        to_float(image[None])[0].numpy().tobytes(): int(label)
        for image, label in zip(data.images, data.labels, strict=True)
    }
    assert all(truth[image] == label for image, label in seen.items())


def test_sampling_pads_what_it_is_told(tmp_path: Path) -> None:
    generator = MlpGenerator(widths=(8,), conditional=True).build(4, (1, 2, 2), 3)
    labels = torch.arange(BLOCK + 5) % 3
    many = sample(generator, NormalLatents(dim=4), BLOCK + 5, Stream(0), {"labels": labels})
    few = sample(generator, NormalLatents(dim=4), 7, Stream(0), {"labels": labels[:7]})
    assert torch.equal(many[:7], few)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> tp.Run:
    return tp.train("digits-cgan", *TINY, out=tmp_path_factory.mktemp("runs") / "run", device="cpu", quiet=True)


def test_labels_by_name_and_id_go_round(conditional: tp.Run) -> None:
    all_classes = conditional.sample(20)
    assert torch.equal(all_classes, conditional.sample(20, labels=[str(digit) for digit in range(10)]))
    sevens = conditional.sample(20, labels=7)
    assert torch.equal(sevens, conditional.sample(20, labels="7"))
    assert torch.equal(sevens[7], all_classes[7])
    both = conditional.sample(20, labels=[3, "7"])
    assert torch.equal(both[1::2], sevens[1::2])
    assert torch.equal(both[0::2], conditional.sample(20, labels=3)[0::2])
    with pytest.raises(UserError, match="names no class"):
        conditional.sample(1, labels=[])
    for wrong in (10, -1, "seven"):
        with pytest.raises(UserError, match="has no class"):
            conditional.sample(1, labels=wrong)


def test_the_best_are_chosen_class_by_class(conditional: tp.Run) -> None:
    best = conditional.sample(6, best_of=5, labels=[2, 4])
    marks = []
    for images in (best, conditional.sample(6, labels=[2, 4])):
        verdict = conditional.discriminator(to_float(images), labels=torch.tensor([2, 4] * 3))
        marks.append(verdict.logits.mean())
    assert marks[0] > marks[1]
    alone = conditional.sample(3, best_of=5, labels=2)
    assert torch.equal(best[0::2], alone), "other classes do not change what is best"


def test_a_grid_has_a_column_per_class_with_its_name(conditional: tp.Run) -> None:
    tiles = 64 + 6
    assert conditional.grid(20).width == 10 * tiles + 6
    assert conditional.grid(20).height > 2 * tiles + 6, "room for the names"
    assert conditional.grid(4, labels=[1, 2]).width == 2 * tiles + 6
    assert conditional.grid(4, labels=1).size == (2 * tiles + 6, 2 * tiles + 6)


def test_schedules_of_early_gans() -> None:
    rule = Sgd(
        learning_rate=0.1,
        decay=0.5,
        final_learning_rate=0.03,
        momentum=0.5,
        momentum_growth=0.1,
        final_momentum=0.65,
        schedule_every=2,
    )
    assert [rule.learning_rate_at(update) for update in range(6)] == [0.1, 0.1, 0.05, 0.05, 0.03, 0.03]
    assert [rule.momentum_at(update) for update in range(6)] == pytest.approx([0.5, 0.5, 0.6, 0.6, 0.65, 0.65])
    weight = nn.Parameter(torch.zeros(1))
    optimizer = rule.build([weight])
    by_hand, velocity = 0.0, 0.0
    for update in range(6):
        weight.grad = torch.ones(1)
        optimizer.step()
        velocity = rule.momentum_at(update) * velocity + 1.0
        by_hand -= rule.learning_rate_at(update) * velocity
    assert weight.item() == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="below momentum"):
        Sgd(momentum=0.9, momentum_growth=0.1, final_momentum=0.7)
