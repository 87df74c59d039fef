"""Ways between latents, sums of them, recovery, the latents of a numbered picture, and the GIF."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.conftest import random_images
from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream
from twoplayer.evaluation.latents import (
    VARIATION,
    Recovered,
    arithmetic,
    interpolate,
    pictures_of,
    recover,
    variations,
    walk,
)
from twoplayer.latents.normal import NormalLatents
from twoplayer.latents.uniform import UniformLatents
from twoplayer.runs.animation import write_gif
from twoplayer.runs.sampling import BLOCK, latents_of, sample


def vectors(n: int, dim: int = 16, seed: int = 0) -> Tensor:
    return Stream(seed).child("vectors").normal((n, dim))


def angles(vectors: Tensor) -> Tensor:
    """Between neighbors, radians: [N - 1]."""
    unit = nn.functional.normalize(vectors.double(), dim=1)
    return (unit[:-1] * unit[1:]).sum(1).acos()


def test_the_straight_way_has_its_ends_and_its_middle() -> None:
    a, b = vectors(2)
    way = interpolate(a, b, 5)
    assert torch.equal(way[0], a)
    assert torch.equal(way[-1], b)
    torch.testing.assert_close(way[2], (a + b) / 2)
    torch.testing.assert_close(way.diff(dim=0), ((b - a) / 4).expand(4, -1))


def test_the_way_on_the_sphere_keeps_the_length_and_turns_evenly() -> None:
    a, b = 3.0 * nn.functional.normalize(vectors(2), dim=1)
    way = interpolate(a, b, 7, spherical=True)
    assert torch.equal(way[0], a)
    torch.testing.assert_close(way[-1], b)
    torch.testing.assert_close(way.norm(dim=1), torch.full((7,), 3.0))
    between = torch.stack([a, b])
    torch.testing.assert_close(angles(way), angles(between).div(6).expand(6))
    assert interpolate(a, b, 3)[1].norm() < 2.9, "the straight way cuts through the sphere"


def test_a_quarter_of_a_circle_by_hand() -> None:
    way = interpolate(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]), 3, spherical=True)
    torch.testing.assert_close(way[1], torch.tensor([2.0, 1.0]) * math.sqrt(0.5))


@pytest.mark.parametrize("factor", [2.0, 1.0, 0.0, -1.0, -3.0])
def test_where_the_sphere_has_no_single_way_it_is_straight(factor: float) -> None:
    a = vectors(1)[0]
    torch.testing.assert_close(interpolate(a, factor * a, 5, spherical=True), interpolate(a, factor * a, 5))


def test_taking_away_and_adding_the_same_concept_changes_nothing() -> None:
    a, b = vectors(3), vectors(2, seed=1)
    torch.testing.assert_close(arithmetic(a, b, b), a.mean(0))
    torch.testing.assert_close(arithmetic(b, b, a), a.mean(0))
    torch.testing.assert_close(arithmetic(a, b, 2 * b), (a[0] + a[1] + a[2]) / 3 + (b[0] + b[1]) / 2)


@pytest.mark.parametrize("spherical", [False, True])
def test_a_walk_passes_its_stops_and_a_loop_returns(spherical: bool) -> None:
    stops = vectors(4)
    there = walk(stops, 6, spherical)
    assert there.shape == (3 * 6 + 1, 16)
    torch.testing.assert_close(there[::6], stops)
    round_and_round = walk(stops, 6, spherical, loop=True)
    assert round_and_round.shape == (4 * 6, 16)
    torch.testing.assert_close(round_and_round[:19], there)
    back = torch.cat([round_and_round[18:], stops[:1]])
    torch.testing.assert_close(back, interpolate(stops[3], stops[0], 7, spherical))


def test_variations_stand_around_their_center() -> None:
    center = vectors(1)[0]
    nine = variations(center, Stream(0))
    assert torch.equal(nine[4], center)
    away = (nine - center).abs()
    assert away.max() <= VARIATION
    assert away[torch.arange(9) != 4].mean().item() == pytest.approx(VARIATION / 2, rel=0.2)


class Linear(nn.Module):
    """A generator of 4x4 images that are linear in 3 latents; its last bits do not depend on the place in a block."""

    def __init__(self) -> None:
        super().__init__()
        directions = torch.linalg.qr(Stream(0).normal((16, 3))).Q
        self.weight = nn.Parameter(directions)

    def forward(self, z: Tensor) -> Tensor:
        assert not self.training
        return (z.unsqueeze(1) * self.weight).sum(2).view(-1, 1, 4, 4) * 0.3


@pytest.mark.parametrize("latents", [NormalLatents(dim=3), UniformLatents(dim=3)])
def test_the_latents_of_a_number_make_the_picture_of_that_number(latents: Latents) -> None:
    generator, stream = Linear(), Stream(5).child("sample")
    drawn = sample(generator, latents, 3 * BLOCK, stream)
    numbers = [130, 0, 7, 64, 63, 7]
    z = latents_of(latents, numbers, stream)
    assert torch.equal(z[3], latents.draw(BLOCK, stream.child(1))[0])
    assert torch.equal(pictures_of(generator, z), drawn[numbers])
    everything = latents_of(latents, range(3 * BLOCK), stream)
    assert torch.equal(pictures_of(generator, everything), drawn)


class Labeled(nn.Module):
    """A generator that writes its label into the first pixel; its second follows the only latent."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, *, labels: Tensor) -> Tensor:
        return torch.stack([labels.float() / 10, z[:, 0]], 1).view(-1, 1, 1, 2)


def test_pictures_are_told_their_own_labels() -> None:
    labels = torch.arange(BLOCK + 6) % 5
    drawn = pictures_of(Labeled(), torch.zeros(BLOCK + 6, 1), {"labels": labels})
    assert torch.equal(drawn[:, 0, 0, 0], to_uint8(labels.float() / 10))


def test_recovery_finds_the_least_squares_solution_of_a_linear_generator() -> None:
    """The oracle: bytes are rounded, so the best error is that of the projection onto the 3 directions."""
    generator, latents = Linear().train(), NormalLatents(dim=3)
    wanted = torch.tensor([0.8, -1.2, 0.4])
    generator.eval()
    picture = pictures_of(generator, wanted.unsqueeze(0))[0]
    generator.train()
    found = recover(generator, picture, latents, steps=300, seed=1)
    matrix = generator.weight.detach() * 0.3
    solution = torch.linalg.lstsq(matrix, to_float(picture).flatten().unsqueeze(1)).solution[:, 0]
    best = (matrix @ solution - to_float(picture).flatten()).square().mean().item()
    torch.testing.assert_close(found.latents, solution, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.latents, wanted, atol=0.05, rtol=0)
    assert found.error == pytest.approx(best, abs=1e-7)
    assert (found.picture.int() - picture.int()).abs().max() <= 1, "but for rounding"
    assert generator.training, "it is left in the mode it was in"
    assert generator.weight.grad is None


def test_recovery_is_reproducible_and_begins_where_its_seed_says() -> None:
    def found(seed: int) -> Recovered:
        return recover(Linear(), random_images(1, (1, 4, 4))[0], NormalLatents(dim=3), steps=3, seed=seed, restarts=2)

    assert torch.equal(found(0).latents, found(0).latents)
    assert found(0).error == found(0).error
    assert not torch.equal(found(0).latents, found(1).latents)


def test_bounded_latents_stay_in_their_range() -> None:
    """White needs z = 2 there; the nearest allowed is 1, which makes the tone 0.5 and the error 0.25."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(0.5))

        def forward(self, z: Tensor) -> Tensor:
            return self.factor * z.view(-1, 1, 1, 1)

    white = torch.full((1, 1, 1), 255, dtype=torch.uint8)
    found = recover(Half(), white, UniformLatents(dim=1), steps=200)
    assert found.latents.tolist() == [1.0]
    assert found.error == pytest.approx(0.25)
    free = recover(Half(), white, NormalLatents(dim=1), steps=200)
    assert free.latents.item() == pytest.approx(2.0, abs=1e-3)
    assert free.error == pytest.approx(0.0, abs=1e-6)


def test_of_several_labels_the_right_one_is_found() -> None:
    labels = torch.tensor([1, 4, 7, 9])
    steps: list[int] = []
    picture = pictures_of(Labeled(), torch.tensor([[0.3]]), {"labels": torch.tensor([7])})[0]
    given = {"labels": labels}
    found = recover(Labeled(), picture, NormalLatents(dim=1), 200, restarts=4, given=given, watch=steps.append)
    assert labels[found.row] == 7
    assert found.latents.item() == pytest.approx(0.3, abs=0.01)
    assert steps == list(range(1, 201))


def test_numbers_that_make_no_sense_are_refused() -> None:
    a, b = vectors(2)
    with pytest.raises(UserError, match="steps=1"):
        interpolate(a, b, 1)
    with pytest.raises(UserError, match="stops=1"):
        walk(a.unsqueeze(0), 3)
    with pytest.raises(UserError, match="frames=0"):
        walk(torch.stack([a, b]), 0)
    for wrong in ({"steps": 0}, {"restarts": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}):
        with pytest.raises(UserError, match="all three are positive"):
            recover(Linear(), random_images(1, (1, 4, 4))[0], NormalLatents(dim=3), **wrong)  # type: ignore[arg-type]


def test_a_gif_has_every_frame_at_its_time_and_begins_again(tmp_path: Path) -> None:
    frames = random_images(7, (1, 8, 6))
    write_gif(frames, tmp_path / "walk.gif", frames_per_second=10)
    with Image.open(tmp_path / "walk.gif") as opened:
        assert opened.n_frames == 7  # type: ignore[attr-defined]
        assert opened.info["loop"] == 0, "for ever"
        for number in range(7):
            opened.seek(number)
            assert opened.info["duration"] == 100
            pixels = np.asarray(opened.convert("L"))
            assert pixels.shape == (8 * 42, 6 * 42)
            assert np.array_equal(pixels[20::42, 20::42], frames[number, 0].numpy())
    write_gif(random_images(3, (3, 300, 300)), tmp_path / "color.gif")
    with Image.open(tmp_path / "color.gif") as opened:
        assert (opened.n_frames, opened.size) == (3, (300, 300))  # type: ignore[attr-defined]
