"""Directions in the space of latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.evaluation.directions import along, believed_direction, principal_directions, random_direction
from twoplayer.latents.normal import NormalLatents

LATENTS = NormalLatents(dim=6)


class Brightness(nn.Module):
    """A D that believes in the first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: Tensor) -> Verdict:
        return Verdict(self.scale * images.flatten(1)[:, 0])


def first_layer_of(strengths: Tensor) -> nn.Sequential:
    """A generator whose first layer stretches latent i by strengths[i]."""
    layer = nn.Linear(6, 6, bias=False)
    layer.weight.data = torch.diag(strengths)
    return nn.Sequential(layer, nn.Unflatten(1, (1, 2, 3)))


def test_the_strongest_direction_is_the_one_that_the_first_layer_stretches_most() -> None:
    strengths = torch.tensor([1.0, 5.0, 0.1, 3.0, 2.0, 0.5])
    found = principal_directions(first_layer_of(strengths), LATENTS, 3)
    assert found.abs().argmax(1).tolist() == [1, 3, 4]
    torch.testing.assert_close(found @ found.T, torch.eye(3))


def test_a_transposed_convolution_is_read_as_a_matrix() -> None:
    kernel = nn.ConvTranspose2d(6, 4, 3, bias=False)
    generator = nn.Sequential(nn.Unflatten(1, (6, 1, 1)), kernel, nn.Tanh())
    (found,) = principal_directions(generator, LATENTS, 1)
    changes = [generator[1](z[None, :, None, None]).norm() for z in (found, *torch.eye(6))]
    assert max(changes) == changes[0]


def test_a_generator_without_a_first_matrix_is_refused() -> None:
    generator = nn.Sequential(nn.BatchNorm1d(6), nn.Unflatten(1, (1, 2, 3)))
    with pytest.raises(UserError, match="no layer that multiplies"):
        principal_directions(generator, LATENTS, 1)


def test_along_what_d_believes_its_logit_rises() -> None:
    generator = nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (1, 2, 3)))
    direction = believed_direction((generator, Brightness()), LATENTS, Stream(0))
    gradient = generator[0].weight[0]
    assert torch.cosine_similarity(direction, gradient, 0) > 0.999
    way = along(torch.zeros(1, 6), direction, 2.0, 5)[0]
    logits = Brightness()(generator(way)).logits
    assert (logits.diff() > 0).all()


def test_a_way_goes_through_its_start() -> None:
    start, direction = torch.randn(3, 6), random_direction(6, Stream(1))
    way = along(start, direction, 3.0, 7)
    assert way.shape == (3, 7, 6)
    torch.testing.assert_close(way[:, 3], start)
    torch.testing.assert_close((way[:, -1] - start).norm(dim=1), torch.full((3,), 3.0))
