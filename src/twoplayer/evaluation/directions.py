"""Directions in the space of latents along which pictures change.

Sources: the eigenvectors of A^T A, with A the weight of the generator's first layer, are the directions that change the
first layer's output most: Shen and Zhou 2021, https://arxiv.org/abs/2007.06600, section 3.2. A direction that a linear
model of a figure over latents gives: Shen et al. 2020, https://arxiv.org/abs/1907.10786, section 2.2, there the normal
of a support vector machine between two classes.

Deviations: where the first layer is a transposed convolution its kernel is read as one matrix over all pixels. The
figure here is a number, D's logit, so the model is a ridge regression.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream
from twoplayer.runs.sampling import NOTHING

SAMPLES = 1024
"""Pictures that the regression is made from."""

RIDGE = 1e-2
"""Times the number of pictures, on the diagonal: latents have a variance near 1."""


def random_direction(latent_dim: int, stream: Stream) -> Tensor:
    """Any direction: a unit vector [latent_dim]."""
    return _unit(stream.normal((latent_dim,)))


@torch.no_grad()
def principal_directions(
    generator: nn.Module, latents: Latents, count: int, given: Mapping[str, Tensor] = NOTHING
) -> Tensor:
    """The `count` directions that change the output of the first layer most, the strongest first: [count, latent_dim].

    Args:
        generator: latents [N, latent_dim] to images.
        latents: how z is distributed.
        count: how many directions.
        given: what a conditional generator is told, one row.

    Raises:
        UserError: no layer of the generator multiplies the latents with a matrix.
    """
    z = latents.draw(1, Stream(0), next(generator.parameters()))
    found: list[Tensor] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        begins = inputs[0].flatten(1)[:, : z.shape[1]]  # what a conditional generator is told comes after the latents
        if not found and begins.shape == z.shape and torch.equal(begins, z):
            weight: Tensor = layer.get_parameter("weight")
            of_inputs = weight.flatten(1).T if isinstance(layer, nn.ConvTranspose2d) else weight
            found.append(of_inputs[:, : z.shape[1]])

    kinds = (nn.Linear, nn.ConvTranspose2d)
    handles = [layer.register_forward_pre_hook(look) for layer in generator.modules() if isinstance(layer, kinds)]
    try:
        with mode(generator, training=False):
            generator(z, **given)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UserError("this generator has no layer that multiplies its latents with a matrix")
    directions: Tensor = torch.linalg.svd(found[0].double(), full_matrices=False).Vh
    return directions[:count].to(z)


@torch.no_grad()
def believed_direction(
    players: tuple[nn.Module, nn.Module],
    latents: Latents,
    stream: Stream,
    given: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = (NOTHING, NOTHING),
) -> Tensor:
    """Where D's logit rises: a unit vector [latent_dim].

    Args:
        players: generator and discriminator.
        latents: how z is distributed.
        stream: where the pictures' latents are drawn.
        given: what each player is told, one row that holds for all pictures.
    """
    generator, discriminator = players
    z = latents.draw(SAMPLES, stream, next(generator.parameters()))
    told = [{name: row.expand(SAMPLES, *row.shape[1:]) for name, row in each.items()} for each in given]
    with mode(generator, training=False), mode(discriminator, training=False):
        logits = discriminator(generator(z, **told[0]), **told[1]).logits
    centered, wanted = (z - z.mean(0)).double(), (logits - logits.mean()).double()
    squares = centered.T @ centered + RIDGE * SAMPLES * torch.eye(z.shape[1], dtype=torch.float64, device=z.device)
    return _unit(torch.linalg.solve(squares, centered.T @ wanted)).to(z)


def along(start: Tensor, direction: Tensor, reach: float, steps: int) -> Tensor:
    """Latents on a straight way through `start` [N, D], from -reach to reach times a unit direction: [N, steps, D]."""
    places = torch.linspace(-reach, reach, steps, dtype=start.dtype, device=start.device)
    return start[:, None] + places[None, :, None] * direction.to(start)


def _unit(direction: Tensor) -> Tensor:
    unit: Tensor = direction / direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)
    return unit
