"""Folded networks are the same function."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.chains.link import Setting
from twoplayer.ops.folding import Folded, for_inference
from twoplayer.recipes.load import load_recipe, parse_overrides, recipe_names


def lived(network: nn.Module) -> nn.Module:
    """With batch normalization that has seen something."""
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            layer.running_mean.normal_()
            layer.running_variance.uniform_(0.5, 2.0)
            for learned in (layer.weight, layer.bias):
                if learned is not None:
                    nn.init.normal_(learned)
    return network.double().eval()


def worst(network: nn.Module, inputs: Tensor) -> float:
    before = copy.deepcopy(network.state_dict())
    found = for_inference(network)
    assert isinstance(found, Folded)
    assert not any(isinstance(layer, BatchNorm) for layer in found.layers)
    with torch.no_grad():
        difference = float((found(inputs) - network(inputs)).abs().max())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "it was changed"
    return difference


FOLDED = (
    "digits",
    "mnist-wgan-gp",
    "mnist-dcgan",
    "dcgan-64",
    "flowers-dcgan",
    "mnist-tanh-gan",
    "simple-gan",
)


@pytest.mark.parametrize("name", FOLDED)
def test_recipes_generators(name: str) -> None:
    torch.manual_seed(0)
    recipe = load_recipe(name, parse_overrides(SMALLER.get(name, ())))
    shape = IMAGE_SHAPES[recipe.data.source]
    generator = lived(recipe.generator.build(recipe.latents.dim, shape, 10))
    assert worst(generator, torch.randn(3, recipe.latents.dim, dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
    ],
)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"shift": False}, {"scale": False, "shift": False}])
def test_every_kind_of_convolution(layer: nn.Module, options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    network = lived(nn.Sequential(layer, BatchNorm(6, **options), nn.ReLU()))
    assert worst(network, torch.randn(2, 4, 5, 5, dtype=torch.float64)) < 1e-12


def test_a_normalization_with_nothing_before_it_stays() -> None:
    network = lived(nn.Sequential(nn.LeakyReLU(0.2), BatchNorm(4), nn.Flatten(), nn.Linear(36, 2)))
    found, images = for_inference(network), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert isinstance(found, Folded)
    assert any(isinstance(layer, BatchNorm) for layer in found.layers)
    torch.testing.assert_close(found(images), network(images))


def test_other_networks_stay_what_they_are() -> None:
    network = nn.GRU(3, 4)
    assert for_inference(network) is network
    conditional = load_recipe("digits-cgan")
    generator = conditional.generator.build(conditional.latents.dim, (1, 8, 8), 10)
    assert for_inference(generator) is generator


def test_in_bfloat16_the_weights_stay_and_the_pictures_are_near() -> None:
    torch.manual_seed(0)
    network = lived(nn.Sequential(nn.Linear(8, 32), BatchNorm(32), nn.ReLU(), nn.Linear(32, 4), nn.Tanh())).float()
    found, z = for_inference(network, Setting(torch.bfloat16)), torch.randn(5, 8)
    assert 0.0 < (found(z) - network(z)).abs().max() < 0.05


def test_which_recipes_are_folded() -> None:
    """The others' generators are conditional or look at a reference batch, or have nothing to fold with."""
    found = set()
    for name in recipe_names():
        recipe = load_recipe(name, parse_overrides(SMALLER.get(name, ())))
        if not recipe.levels:
            shape = IMAGE_SHAPES[recipe.data.source]
            generator = recipe.generator.build(recipe.latents.dim, shape, 10)
            found |= {name} if isinstance(for_inference(generator), Folded) else set()
    assert found == {*FOLDED, "mnist-auto", "mnist-wgan", "mnist-mlp-gan"}
