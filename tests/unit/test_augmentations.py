"""Each change against NumPy and SciPy, and what the players learn of changed images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from twoplayer.augmentations import adaptive, diffaugment
from twoplayer.augmentations.adaptive import Adaptive, AdaptiveChanges
from twoplayer.augmentations.diffaugment import DiffAugment
from twoplayer.core.rng import Stream
from twoplayer.ops import color, warp

N, SHAPE = 64, (3, 12, 10)
DRAW = np.random.default_rng(0)
IMAGES = torch.from_numpy(DRAW.uniform(-1, 1, (N, *SHAPE)))
FACTORS = torch.from_numpy(DRAW.uniform(0.2, 2.0, N))


def per_image(formula: Callable[[np.ndarray, float], np.ndarray]) -> Tensor:
    """A formula for one image [C, H, W] and its number, over all."""
    pairs = zip(IMAGES.numpy(), FACTORS.numpy(), strict=True)
    return torch.from_numpy(np.stack([formula(image, float(factor)) for image, factor in pairs]))


def rotated(colors: np.ndarray, angle: float) -> np.ndarray:
    """Colors [C, H, W] turned about (1, 1, 1), by a matrix of an orthonormal basis."""
    basis = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    if np.linalg.det(basis) < 0:
        turn = turn.T
    return np.einsum("ij,jhw->ihw", basis.T @ turn @ basis, colors)


@pytest.mark.parametrize(
    ("change", "formula"),
    [
        (color.brighten, lambda x, f: x + f),
        (color.scale, lambda x, f: f * x),
        (color.saturate, lambda x, f: x.mean(0) + f * (x - x.mean(0))),
        (color.contrast, lambda x, f: x.mean() + f * (x - x.mean())),
        (color.flip_gray, lambda x, f: np.einsum("ij,jhw->ihw", np.eye(3) - 2 * f * np.ones((3, 3)) / 3, x)),
        (color.rotate_hue, rotated),
    ],
)
def test_colors(change: Callable[[Tensor, Tensor], Tensor], formula: Callable[[np.ndarray, float], np.ndarray]) -> None:
    torch.testing.assert_close(change(IMAGES, FACTORS), per_image(formula), rtol=1e-12, atol=1e-12)


def test_a_warp_samples_between_pixels_and_mirrors_at_the_edges() -> None:
    """Against SciPy's linear interpolation of a random affine map of each image."""
    numbers = DRAW.normal(size=(N, 6)) * [1, 1, 9, 1, 1, 9]
    found = warp.warp(IMAGES, warp.Affine(*torch.from_numpy(numbers).unbind(1)))
    y, x = np.meshgrid(np.arange(12) - 5.5, np.arange(10) - 4.5, indexing="ij")
    for image, moved, (xx, xy, x0, yx, yy, y0) in zip(IMAGES, found, numbers, strict=True):
        places = [yx * x + yy * y + y0 + 5.5, xx * x + xy * y + x0 + 4.5]
        expected = [map_coordinates(plane.numpy(), places, order=1, mode="mirror") for plane in image]
        np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_affine_maps_follow_one_another() -> None:
    angle, far = torch.full((1,), 0.3), torch.full((1,), 2.0)
    maps = [warp.rotation(angle), warp.scaling(far, far / 5), warp.translation(far, -far)]
    matrices = [np.array([[*torch.cat(m[:3])], [*torch.cat(m[3:])], [0, 0, 1]], float) for m in maps]
    together = maps[0].after(maps[1]).after(maps[2])
    expected = (matrices[0] @ matrices[1] @ matrices[2])[:2].ravel()
    np.testing.assert_allclose(torch.cat(together), expected, rtol=1e-6)
    np.testing.assert_allclose(
        matrices[0], [[math.cos(0.3), -math.sin(0.3), 0], [math.sin(0.3), math.cos(0.3), 0], [0, 0, 1]], rtol=1e-6
    )


def test_known_maps_are_known_moves_of_pixels() -> None:
    square = IMAGES[..., :10, :]
    one = torch.ones(N, dtype=torch.float64)
    torch.testing.assert_close(warp.warp(square, warp.scaling(-one, one)), square.flip(-1))
    quarter = warp.warp(square, warp.rotation(one * math.pi / 2))
    torch.testing.assert_close(quarter, square.rot90(1, (2, 3)))
    right = warp.warp(square, warp.translation(-one, 0 * one))
    torch.testing.assert_close(right[..., 1:], square[..., :-1])


def test_a_shift_moves_whole_pixels_and_lets_zeros_in() -> None:
    x, y = torch.from_numpy(DRAW.integers(-4, 5, (2, N)))
    for image, moved, right, down in zip(IMAGES, warp.shift(IMAGES, x, y), x.tolist(), y.tolist(), strict=True):
        wide = np.pad(image.numpy(), [(0, 0), (4, 4), (4, 4)])
        np.testing.assert_array_equal(moved, wide[:, 4 - down : 16 - down, 4 - right : 14 - right])


def test_diffaugment_moves_up_to_an_eighth_and_covers_half_of_each_side() -> None:
    ones = torch.ones(2000, 1, 16, 24)
    moved = diffaugment.translation(ones, Stream(0), 1.0)[:, 0]
    lost = {
        (int(rows), int(columns))
        for rows, columns in zip(16 - moved[:, :, 12].sum(1), 24 - moved[:, 8].sum(1), strict=True)
    }
    assert lost == {(rows, columns) for rows in range(3) for columns in range(4)}
    covered = 1 - diffaugment.cutout(ones, Stream(0), 1.0)[:, 0]
    heights, widths = covered.amax(2).sum(1), covered.amax(1).sum(1)
    assert torch.equal(covered.sum((1, 2)), heights * widths), "a rectangle"
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (4, 8, 6, 12)
    assert covered.amax(2).mean(0).min() > 0.2, "anywhere"


def test_diffaugment_draws_its_amounts() -> None:
    """Of a gray image only brightness and contrast are seen, of a plain one only brightness."""
    plain = torch.zeros(4000, 3, 2, 2, dtype=torch.float64)
    amounts = diffaugment.color(plain, Stream(0), 1.0)[:, 0, 0, 0]
    uniform_between(amounts, -0.5, 0.5)
    plain[:, :, 0] = 1.0
    changed = diffaugment.color(plain, Stream(0), 1.0)
    uniform_between((changed[:, 0, 0] - changed[:, 0, 1]).mean(1), 0.5, 1.5)
    colored = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).view(1, 3, 1, 1).expand(4000, 3, 1, 1)
    changed = diffaugment.color(colored, Stream(0), 1.0)[:, :, 0, 0]
    saturation_and_contrast = (changed[:, 0] - changed[:, 2]) / 2
    assert 0.0 <= saturation_and_contrast.min() < 0.05
    assert abs(saturation_and_contrast.mean() - 1.0) < 0.05
    assert 2.7 < saturation_and_contrast.max() < 3.0


def uniform_between(values: Tensor, low: float, high: float) -> None:
    """Their quantiles are those of the distribution."""
    shares = torch.linspace(0.0, 1.0, 11, dtype=values.dtype)
    torch.testing.assert_close(values.quantile(shares), low + (high - low) * shares, rtol=0.0, atol=0.04)


@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 8, 8), (2, 1, 1)])
def test_probability_zero_is_the_identity_bit_for_bit(shape: tuple[int, int, int]) -> None:
    images = Stream(3).normal((N, *shape))
    for rule in (DiffAugment(probability=0.0), Adaptive()):
        assert torch.equal(rule.build()(images, Stream(0)), images)


def test_every_change_hits_its_share_of_the_images() -> None:
    images = Stream(3).normal((4000, 3, 8, 8))
    for change in diffaugment.CHANGES.values():
        same = (change(images, Stream(0), 0.25) == images).flatten(1).all(1).float().mean()
        single = (
            0.75**3 if change is diffaugment.color else 1 - 0.25 * (8 / 9 if change is diffaugment.translation else 1)
        )
        assert abs(same - single) < 0.025
    p = torch.tensor(0.25)
    same = (adaptive.color(images, Stream(0), p) == images).flatten(1).all(1).float().mean()
    assert abs(same - 0.75**4 * (1 - 0.25 / 2)) < 0.025  # light and dark are exchanged in half of the cases
    still = is_identity(adaptive.geometry(images, Stream(0), p)).float().mean()
    assert abs(still - 0.75**4) < 0.025  # both turns together happen with probability p
    still = is_identity(adaptive.blit(images, Stream(0), p)).float().mean()
    assert abs(still - (1 - 0.25 / 2) * (1 - 0.25 * 3 / 4) * (1 - 0.25 * 3 / 4)) < 0.025  # 0.25, 0.5, 0.25 each way


def is_identity(where: warp.Affine) -> Tensor:
    return (torch.stack(where, 1) - torch.tensor([1.0, 0, 0, 0, 1.0, 0])).abs().amax(1) < 1e-6


def test_the_amounts_of_the_adaptive_changes() -> None:
    """At p = 1, against the standard deviations of the paper."""
    images, p = torch.zeros(8000, 3, 1, 1, dtype=torch.float64), torch.tensor(1.0)
    where = adaptive.geometry(torch.zeros(8000, 1, 32, 64), Stream(0), p)
    area = where.xx * where.yy - where.xy * where.yx
    assert abs((area.log2() / 2).std() - 0.2) < 0.01
    longest = torch.linalg.svdvals(torch.stack([where.xx, where.xy, where.yx, where.yy], 1).view(-1, 2, 2))
    stretch = (longest[:, 0] / longest[:, 1]).log2() / 2
    assert abs(stretch.square().mean().sqrt() - 0.2) < 0.01
    grays = adaptive.color(images, Stream(0), p)
    white = adaptive.color(images + 1.0, Stream(0), p)
    factor = (white - grays)[:, :, 0, 0].mean(1)
    assert abs((factor < 0).double().mean() - 0.5) < 0.02
    assert abs(factor.abs().log2().std() - 0.5) < 0.02
    assert abs((grays[:, :, 0, 0].mean(1) / factor).std() - 0.2) < 0.01
    red = adaptive.color(
        torch.tensor([1.0, 0, 0], dtype=torch.float64).view(1, 3, 1, 1).expand(8000, 3, 1, 1), Stream(0), p
    )
    chroma = (red - red.mean(1, keepdim=True))[:, :, 0, 0]
    saturation = chroma.norm(dim=1) / math.sqrt(2 / 3) / factor.abs()
    assert abs(saturation.log2().std() - 1.0) < 0.03
    hue = torch.atan2(
        (chroma[:, 1] - chroma[:, 2]) / math.sqrt(2), (2 * chroma[:, 0] - chroma[:, 1] - chroma[:, 2]) / math.sqrt(6)
    )
    uniform_between(hue / math.pi, -1.0, 1.0)


def following(**settings: object) -> AdaptiveChanges:
    module = Adaptive.model_validate({"target": 0.5, "kimg": 1.0, **settings}).build()
    assert isinstance(module, AdaptiveChanges)
    return module


def test_the_probability_follows_the_overfitting() -> None:
    """A thousand images take it from 0 to 1; it ends at the maximum, and at 0."""
    module, over, under, one = following(), torch.tensor(0.9), torch.tensor(0.1), torch.tensor(1.0)
    for _ in range(5):
        module.follow(over, one, 100)
    torch.testing.assert_close(module.probability, torch.tensor(0.5))
    torch.testing.assert_close(module.overfitting, torch.tensor(0.9))
    for _ in range(5):
        module.follow(over, one, 100)
    torch.testing.assert_close(module.probability, torch.tensor(0.8))
    for _ in range(40):
        module.follow(under, one, 100)
    assert module.probability == 0.0
    torch.testing.assert_close(module.overfitting, torch.tensor(0.1), rtol=0.0, atol=0.02)


def test_running_sums_are_a_fraction_of_sums() -> None:
    module = following()
    for part, whole in ((1.0, 4.0), (2.0, 3.0)):
        module.follow(torch.tensor(part), torch.tensor(whole), 1)
    torch.testing.assert_close(module.overfitting, torch.tensor((0.9 * 1 + 2) / (0.9 * 4 + 3)))


def test_a_d_that_knows_nothing_does_not_overfit() -> None:
    module = following(start=0.5)
    module.follow(torch.tensor(1.0), torch.tensor(-1.0), 100)
    assert module.overfitting == 0.0
    torch.testing.assert_close(module.probability, torch.tensor(0.4))


def test_start_above_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start=0\.9 is above maximum=0\.8"):
        Adaptive(start=0.9)
