"""Which numbers stay in float32 where layers compute in bfloat16: edges, statistics, slopes, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contract.test_catalogue import N, built, each, latent_dim
from tests.unit.test_precision import kept
from twoplayer.core.batch import Batch
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.networks.dcgan import DcganGenerator
from twoplayer.networks.resnet import ResnetDiscriminator
from twoplayer.objectives.relativistic import Relativistic
from twoplayer.ops.chains.affine import Affine
from twoplayer.ops.chains.chain import chain_through
from twoplayer.ops.chains.link import Link, Part, Rows, Setting
from twoplayer.ops.chains.parallel import Parallel
from twoplayer.ops.edge import EDGES, Edge, edge
from twoplayer.ops.minibatch_discrimination import MinibatchDiscrimination, closeness
from twoplayer.ops.minibatch_stddev import MinibatchStddev
from twoplayer.ops.virtual_batch_norm import VirtualBatchNorm
from twoplayer.ops.weight_norm import WeightNormLinear
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.regularizers.r1 import ZeroCenteredPenalty
from twoplayer.training.fast import fast_moves
from twoplayer.training.play import play_step
from twoplayer.training.state import new_state

WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, WeightNormLinear)
SHAPE = (1, 28, 28)


@pytest.mark.parametrize("piece", [*each(GeneratorNetwork), *each(DiscriminatorNetwork)])
def test_the_first_and_the_last_layer_of_every_player_stay_in_float32(piece: Any) -> None:
    """By the order in which they are called. A layer between them does not, unless its weights are normalized."""
    config = piece()
    module = built(config, SHAPE)
    of = torch.randn(N, latent_dim(config, SHAPE)) if isinstance(config, GeneratorNetwork) else torch.rand(N, *SHAPE)
    heard: list[tuple[bool, torch.dtype]] = []

    def listen(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        heard.append((isinstance(layer, WeightNormLinear), made.dtype))

    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            layer.register_forward_hook(listen)
    with torch.autocast("cpu", torch.bfloat16):
        answer = module(of)
    assert heard[0][1] == heard[-1][1] == torch.float32
    rounding = torch.bfloat16 in {dtype for _, dtype in heard}
    assert rounding or all(normalized for normalized, _ in heard)
    assert (answer.logits if isinstance(answer, Verdict) else answer).dtype == torch.float32


@pytest.mark.parametrize("kind", EDGES)
def test_an_edge_is_the_layer_that_it_was(kind: type[nn.Module]) -> None:
    """Outside autocast to the last bit; inside to that of float32, of numbers that bfloat16 would round."""
    sizes = {"SameConvTranspose2d": (3, 5, 3, 2, (8, 8)), "Maxout": (4, 3, 2)}
    torch.manual_seed(0)
    layer = kind(*sizes.get(kind.__name__, (3, 5, 3) if "Conv" in kind.__name__ else (4, 3)))
    values = torch.randn(2, *((3, 4, 4) if "Conv" in kind.__name__ else (4,)))
    names, expected = list(layer.state_dict()), layer(values)
    assert isinstance(edge(layer), Edge)
    assert list(layer.state_dict()) == names
    assert torch.equal(layer(values), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(values), expected)


def affine_links(links: list[Link]) -> list[Affine]:
    found: list[Affine] = []
    for link in links:
        if isinstance(link, Parallel):
            found += [each for way in link.ways for each in affine_links(way)]
        elif isinstance(link, Affine):
            found.append(link)
    return found


def test_chains_keep_edges_in_float32_too() -> None:
    """So that images, and the slopes at them, are not rounded."""
    judge = ResnetDiscriminator(n_filters=4).build((1, 8, 8), 0)
    draw = DcganGenerator(n_filters=4).build(3, (1, 8, 8), 0)
    low, high = torch.bfloat16, torch.float32
    for network, given, kinds in (
        (judge, torch.rand(2, 1, 8, 8), [high, low, high, *[low] * 6, high]),
        (draw, torch.randn(2, 3), [high, low, low, low, high]),
    ):
        chain = chain_through(network, Setting(low))
        assert chain is not None
        assert [link.weight.dtype for link in affine_links(chain.links)] == kinds
        answer = chain.forward(given, Rows((Part(2),)))
        assert answer.dtype == high
        assert chain.transpose(torch.ones_like(answer), 0).dtype == high
        with torch.no_grad():
            exact = network(given)
        expected = exact.logits[:, None] if isinstance(exact, Verdict) else exact
        torch.testing.assert_close(answer, expected, rtol=0.05, atol=0.05)


def test_minibatch_statistics_are_taken_in_float32() -> None:
    """Of features in bfloat16: what float32 makes of the same numbers."""
    torch.manual_seed(0)
    features = (100.0 + torch.randn(6, 4, 3, 3)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        made = MinibatchStddev()(features)[:, 4:]
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, MinibatchStddev()(features.float())[:, 4:])

    layer, flat = MinibatchDiscrimination(4, 3, 2), torch.randn(5, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        close = layer(flat)[:, 4:]
    rows = (flat.float() @ layer.weight.flatten(1)).unflatten(1, (3, 2))
    torch.testing.assert_close(close, closeness(rows) + layer.bias)

    norm = VirtualBatchNorm(4, 3)
    torch.testing.assert_close(norm(features).float(), norm(features.float()), rtol=1e-2, atol=1e-2)


PLAYERS = {
    "dcgan": ("name: dcgan, n_filters: 4", "name: dcgan, n_filters: 4, batch_norm: false"),
    "paper-dcgan": (
        "name: paper-dcgan, n_filters: 8",
        "name: paper-dcgan, n_filters: 4, minibatch: standard-deviation",
    ),
    "resnet": ("name: resnet, n_filters: 4", "name: resnet, n_filters: 4"),
    "resnet, told": ("name: resnet, n_filters: 4, conditional: true", "name: resnet, n_filters: 4, conditional: true"),
    "r3gan": ("name: r3gan, widths: [8], group_size: 4", "name: r3gan, widths: [8], group_size: 4"),
    "r3gan, told": tuple(["name: r3gan, widths: [8], group_size: 4, conditional: true"] * 2),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("players", PLAYERS)
def test_losses_slopes_and_what_is_kept_are_float32(
    players: str, *, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[torch.dtype] = []
    loss, of_slope = Relativistic.discriminator_loss, ZeroCenteredPenalty.of_slope

    def listening_loss(self: Relativistic, real: Verdict, fake: Verdict) -> Tensor:
        heard.extend([real.logits.dtype, fake.logits.dtype])
        return loss(self, real, fake)

    def listening_slope(self: ZeroCenteredPenalty, slope: Tensor) -> Tensor:
        cost = of_slope(self, slope)
        heard.extend([slope.dtype, cost.dtype])
        return cost

    monkeypatch.setattr(Relativistic, "discriminator_loss", listening_loss)
    monkeypatch.setattr(ZeroCenteredPenalty, "of_slope", listening_slope)
    words = [f"{role}={{{said}}}" for role, said in zip(("generator", "discriminator"), PLAYERS[players], strict=True)]
    words += ["objective={name: relativistic}", "regularizers=[{name: r1, gamma: 1.0}, {name: r2, gamma: 1.0}]"]
    recipe = load_recipe("digits", parse_overrides(words))
    state = new_state(recipe, (1, 8, 8), 10, torch.device("cpu"))
    state.game = replace(state.game, dtype=torch.bfloat16, fast=fast)
    assert (fast_moves(state.game) is None) == ("told" in players or "paper" in players)
    real = Batch(Stream(1).uniform((6, 1, 8, 8), -1.0, 1.0), torch.arange(6))
    report = play_step(recipe.play, state.game, lambda: real, Stream(2))
    state.update_averages()
    assert len(heard) >= 6
    assert {*heard, *(each.dtype for each in [*report.values(), *kept(state)])} == {torch.float32}
    assert state.average is not None
