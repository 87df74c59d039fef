"""`mnist-wgan-gp` against Keras: same weights and inputs, same answers, same weights after three steps.

`make_wgan_gp.py` made the golden file. float32 answers agree to 1e-5; weights are compared in float64, because in
float32 the kinks of LeakyReLU, and Adam on the mathematically zero gradients of biases before batch normalization,
turn rounding into different weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.golden.inputs import STEPS, interpolation, keras_weights, latents, real_images, sampled_places
from twoplayer.core.batch import Batch
from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream
from twoplayer.networks.dcgan import DcganDiscriminator, DcganGenerator
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import count_parameters
from twoplayer.recipes.load import load_recipe
from twoplayer.regularizers.gradient_penalty import GradientPenalty
from twoplayer.training.play import play_step
from twoplayer.training.step import Game, Player

RECIPE = load_recipe("mnist-wgan-gp")
SHAPE = (1, 28, 28)
KERAS_SLOPE = float(np.float32(0.3))
"""TensorFlow's LeakyReLU keeps its slope in float32 even in a float64 network: 0.3 becomes 0.30000001192."""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "wgan_gp.npz", allow_pickle=False) as archive:
        return dict(archive)


def weights_of(module: nn.Module, tensors: list[Tensor]) -> Iterator[tuple[str, Tensor, np.ndarray]]:
    """Each (kind, tensor, its value in Keras layout and order) of a module; `tensors` stand for its own."""
    replaced = dict(zip((id(t) for t in [*module.parameters(), *module.buffers()]), tensors, strict=True))
    for layer in module.modules():
        if isinstance(layer, BatchNorm):
            kinds = (
                ("gamma", layer.weight),
                ("beta", layer.bias),
                ("mean", layer.running_mean),
                ("variance", layer.running_variance),
            )
        elif isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            kinds = (("kernel", layer.weight),) + ((("bias", layer.bias),) if layer.bias is not None else ())
        else:
            continue
        for kind, tensor in kinds:
            value = replaced[id(tensor)].detach().double().numpy()
            yield kind, tensor, to_keras(layer, value)


def to_keras(layer: nn.Module, value: np.ndarray) -> np.ndarray:
    """Keras kernels are [h, w, in, out] (transposed: [h, w, out, in]), dense ones [in, out], maps h, w, c."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if isinstance(layer, nn.Linear):
        maps = value.T.reshape(-1, 128, 7, 7)
        return maps.transpose(0, 2, 3, 1).reshape(len(maps), -1)
    if value.shape == (6272,):
        return value.reshape(128, 7, 7).transpose(1, 2, 0).reshape(-1)
    return value


def from_keras(layer: nn.Module, value: np.ndarray) -> np.ndarray:
    """The inverse of `to_keras`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if isinstance(layer, nn.Linear):
        maps = value.reshape(-1, 7, 7, 128)
        return maps.transpose(0, 3, 1, 2).reshape(len(maps), -1).T
    if value.shape == (6272,):
        return value.reshape(7, 7, 128).transpose(2, 0, 1).reshape(-1)
    return value


def own_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def fill(module: nn.Module, seed: int) -> None:
    """Give a module the weights that Keras draws."""
    described = list(weights_of(module, own_tensors(module)))
    values = keras_weights([(kind, value.shape) for kind, _, value in described], seed)
    owners = {
        id(t): layer for layer in module.modules() for t in [*layer._parameters.values(), *layer._buffers.values()]
    }
    with torch.no_grad():
        for (_, tensor, _), value in zip(described, values, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(from_keras(owners[id(tensor)], value))))


def players(dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    assert isinstance(RECIPE.generator, DcganGenerator)
    assert isinstance(RECIPE.discriminator, DcganDiscriminator)
    assert RECIPE.generator.leaky_relu_slope == RECIPE.discriminator.leaky_relu_slope == 0.3
    settings = {"leaky_relu_slope": KERAS_SLOPE}
    generator = RECIPE.generator.model_copy(update=settings).build(RECIPE.latents.dim, SHAPE, 10).to(dtype)
    settings["dropout"] = 0.0
    discriminator = RECIPE.discriminator.model_copy(update=settings).build(SHAPE, 10).to(dtype)
    fill(generator, 1)
    fill(discriminator, 2)
    return generator, discriminator


def images(step: int, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(real_images(step).transpose(0, 3, 1, 2)).to(dtype).contiguous()


class GoldenStream(Stream):
    """Gives the interpolation weights that Keras used, whatever is asked for."""

    step: int

    def child(self, *path: str | int) -> GoldenStream:
        return self

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, *, like: Tensor | None = None
    ) -> Tensor:
        assert like is not None
        values = torch.from_numpy(interpolation(self.seed)).to(like)
        assert values.shape == shape
        return values


class GoldenLatents(Latents):
    """Gives the latents that Keras used."""

    name: str = "golden-latents"
    dim: int = 20

    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        assert like is not None
        return torch.from_numpy(latents(stream.seed)).to(like)


def test_parameter_counts(golden: dict[str, np.ndarray]) -> None:
    generator, discriminator = players(torch.float32)
    assert (count_parameters(generator), count_parameters(discriminator)) == (817_824, 1_040_385)
    trainable = [count_parameters(module, trainable_only=True) for module in (generator, discriminator)]
    assert trainable == [804_832, 1_039_489]
    assert golden["counts"].tolist() == [817_824, 1_040_385]


def test_same_answers_in_both_modes(golden: dict[str, np.ndarray]) -> None:
    generator, discriminator = players(torch.float32)
    z, real = torch.from_numpy(latents(0)).float(), images(0, torch.float32)
    penalty = GradientPenalty()
    generator.eval()
    discriminator.eval()
    found = {
        "generator_inference": generator(z).permute(0, 2, 3, 1),
        "discriminator_inference": discriminator(real).logits[:, None],
        "penalty": penalty.discriminator_penalty(discriminator, Batch(real), generator(z), GoldenStream(0)).mean(),
    }
    generator.train()
    discriminator.train()
    fake = generator(z)
    on_real = discriminator(real)
    on_fake = discriminator(fake)
    found |= {
        "generator_training": fake.permute(0, 2, 3, 1),
        "discriminator_training": on_real.logits[:, None],
        "loss_real": RECIPE.objective.real_loss(on_real).mean(),
        "loss_fake": RECIPE.objective.fake_loss(on_fake).mean(),
        "loss_generator": RECIPE.objective.generator_loss(on_real, on_fake).mean(),
    }
    for name, value in found.items():
        difference = np.abs(value.detach().numpy() - golden[name]).max()
        assert difference < 1e-5 * max(1.0, np.abs(golden[name]).max()), f"{name}: {difference}"


@pytest.mark.parametrize("fast", [True, False])
def test_same_weights_after_three_simultaneous_steps(golden: dict[str, np.ndarray], fast: bool) -> None:
    generator, discriminator = players(torch.float64)
    before = {
        "generator": [t.clone() for t in own_tensors(generator)],
        "discriminator": [t.clone() for t in own_tensors(discriminator)],
    }
    game = Game(
        generator=Player(generator, RECIPE.optimizers.generator.build(generator.parameters())),
        discriminator=Player(discriminator, RECIPE.optimizers.discriminator.build(discriminator.parameters())),
        objective=RECIPE.objective,
        regularizers=RECIPE.regularizers,
        latents=GoldenLatents(),
        fast=fast,
    )
    steps = count()
    for _ in range(STEPS):
        step = next(steps)
        play_step(RECIPE.play, game, lambda step=step: Batch(images(step, torch.float64)), GoldenStream(step))
    for role, module in (("generator", generator), ("discriminator", discriminator)):
        started = [value for _, _, value in weights_of(module, before[role])]
        for index, (kind, _, value) in enumerate(weights_of(module, own_tensors(module))):
            entries = value.ravel()[sampled_places(value.size)]
            expected = golden[f"{role}_{index}_entries"]
            where = f"{role} weight {index} ({kind})"
            np.testing.assert_allclose(entries, expected, rtol=1e-6, atol=1e-9, err_msg=where)
            np.testing.assert_allclose(np.linalg.norm(value), golden[f"{role}_{index}_norm"], rtol=1e-9, err_msg=where)
            if kind == "bias":  # before batch normalization its gradient is zero in mathematics: nothing to compare
                continue
            moved = np.abs(expected - started[index].ravel()[sampled_places(value.size)]).max()
            assert moved > 1e-5, f"{where} did not move: the comparison says nothing"
            error = np.abs(entries - expected).max() / moved
            assert error < 1e-6, f"{where}: the change differs by {error:.1e}"
