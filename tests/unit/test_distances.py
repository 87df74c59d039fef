"""Distances against closed forms, inequalities, duality and other algorithms; the tutorial prints what it shows."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
from itertools import permutations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import wasserstein_distance_nd

from twoplayer.core.errors import UserError
from twoplayer.metrics.distances import (
    common_support,
    earth_mover,
    earth_mover_of_samples,
    jensen_shannon,
    kantorovich_rubinstein,
    kullback_leibler,
    shared_histogram,
    total_variation,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "distances.md").read_text(encoding="utf-8")
SEEDS = range(5)
LOG_2 = math.log(2.0)


def masses(seed: int, count: int, k: int = 12) -> np.ndarray:
    """`count` random distributions [count, k] in which about a third of the masses are 0, never the first."""
    rng = np.random.default_rng(seed)
    values = rng.exponential(size=(count, k)) * (rng.random((count, k)) > 0.3)
    values[:, 0] += 0.1
    return values / values.sum(1, keepdims=True)


def places(seed: int, k: int = 12, dimensions: int = 2) -> np.ndarray:
    return np.random.default_rng([seed, 1]).normal(size=(k, dimensions))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parallel_lines", ROOT / "examples" / "parallel_lines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_distributions_are_at_distance_0(seed: int) -> None:
    (p,), points = masses(seed, 1), places(seed)
    assert total_variation(p, p) == kullback_leibler(p, p) == jensen_shannon(p, p) == 0.0
    assert earth_mover(p, p, points) == pytest.approx(0.0, abs=1e-12)
    assert kantorovich_rubinstein(p, p, points)[0] == 0.0
    assert earth_mover_of_samples(points, points[::-1]) == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_all_but_kl_are_symmetric(seed: int) -> None:
    (p, q), points = masses(seed, 2), places(seed)
    assert total_variation(p, q) == total_variation(q, p)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), rel=1e-14)
    assert earth_mover(p, q, points) == pytest.approx(earth_mover(q, p, points), rel=1e-9)
    x, y = places(seed, 7), places(seed + 100, 9)
    assert earth_mover_of_samples(x, y) == pytest.approx(earth_mover_of_samples(y, x), rel=1e-9)
    full_p, full_q = (p + 1 / 12) / 2, (q + 1 / 12) / 2
    assert kullback_leibler(full_p, full_q) != pytest.approx(kullback_leibler(full_q, full_p), rel=1e-3)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.25), (0.9, 0.1), (0.3, 0.3), (1.0, 0.4)])
def test_two_points_by_hand(a: float, b: float) -> None:
    """p = (a, 1 - a), q = (b, 1 - b), 3 apart."""
    log = lambda x, y: x * math.log(x / y) if x else 0.0  # noqa: E731
    p, q, mean = (a, 1 - a), (b, 1 - b), (a + b) / 2
    assert total_variation(p, q) == pytest.approx(abs(a - b))
    assert kullback_leibler(p, q) == pytest.approx(log(a, b) + log(1 - a, 1 - b))
    halves = [log(one, mean) + log(1 - one, 1 - mean) for one in (a, b)]
    assert jensen_shannon(p, q) == pytest.approx(sum(halves) / 2)
    for points in ([1, 4], [[0, 0], [3, 0]], [[1, 1, 1], [2, 3, 3]]):
        assert earth_mover(p, q, points) == pytest.approx(3 * abs(a - b))
        assert kantorovich_rubinstein(p, q, points)[0] == pytest.approx(3 * abs(a - b))


def test_kl_is_infinite_where_q_lacks_mass_and_not_where_p_does() -> None:
    assert kullback_leibler([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert kullback_leibler([1.0, 0.0], [0.5, 0.5]) == pytest.approx(LOG_2)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 1.0), (-0.5, 1.5), (2.0, 0.8)])
def test_gaussians_on_a_fine_grid(mean: float, deviation: float) -> None:
    """KL(N(0, 1), N(m, s)) = log s + (1 + m^2) / (2 s^2) - 1/2; the earth moves by |m| where s is 1."""
    grid = np.linspace(-20, 20, 4001)
    p, q = np.exp(-(grid**2) / 2), np.exp(-(((grid - mean) / deviation) ** 2) / 2)
    p, q = p / p.sum(), q / q.sum()
    expected = math.log(deviation) + (1 + mean**2) / (2 * deviation**2) - 0.5
    assert kullback_leibler(p, q) == pytest.approx(expected, abs=1e-9)
    if deviation == 1.0:
        assert earth_mover(p, q, grid) == pytest.approx(abs(mean), abs=1e-9)
        assert total_variation(p, q) == pytest.approx(math.erf(abs(mean) / math.sqrt(8)), abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_and_pinsker(seed: int) -> None:
    (p, q), points = masses(seed, 2), places(seed)
    variation, js = total_variation(p, q), jensen_shannon(p, q)
    assert 0.0 < js <= LOG_2 * variation <= LOG_2
    near = (p + q) / 2
    assert kullback_leibler(p, near) < math.inf
    assert total_variation(p, near) ** 2 <= kullback_leibler(p, near) / 2, "Pinsker"
    apart = cdist(points, points)
    nearest = apart[apart > 0].min()
    assert nearest * variation <= earth_mover(p, q, points) <= apart.max() * variation


@pytest.mark.parametrize("seed", SEEDS)
def test_triangle_inequality(seed: int) -> None:
    (p, q, r), points = masses(seed, 3), places(seed)
    for distance in (total_variation, lambda a, b: earth_mover(a, b, points), lambda a, b: jensen_shannon(a, b) ** 0.5):
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_jensen_shannon_is_the_square_of_scipys(seed: int) -> None:
    p, q = masses(seed, 2)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q) ** 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_discriminator_of_the_minimax_game_gives_jensen_shannon(seed: int) -> None:
    p, q = masses(seed, 2) * 0.9 + 0.1 / 12
    best = p / (p + q)
    assert p @ np.log(best) + q @ np.log(1 - best) == pytest.approx(2 * jensen_shannon(p, q) - 2 * LOG_2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_primal_is_dual(seed: int, dimensions: int, unit: float) -> None:
    (p, q), points = masses(seed, 2), places(seed, dimensions=dimensions) * unit
    value, f = kantorovich_rubinstein(p, q, points)
    assert value == pytest.approx(earth_mover(p, q, points), rel=1e-9)
    assert value == pytest.approx(f @ (p - q), rel=1e-12)
    assert f[0] == 0.0
    assert (np.abs(f[:, None] - f) <= cdist(points, points) + 1e-9 * unit).all(), "f has slope at most 1"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_earth_mover_against_scipy(seed: int, dimensions: int) -> None:
    (p, q), points = masses(seed, 2), places(seed, dimensions=dimensions)
    assert earth_mover(p, q, points) == pytest.approx(wasserstein_distance_nd(points, points, p, q), rel=1e-8)


def test_a_single_place_and_coinciding_places() -> None:
    assert earth_mover([1.0], [1.0], [[2.0, 3.0]]) == 0.0
    assert kantorovich_rubinstein([1.0], [1.0], [2.0])[0] == 0.0
    assert earth_mover([0.2, 0.8], [0.7, 0.3], [[1.0, 1.0], [1.0, 1.0]]) == 0.0
    assert kantorovich_rubinstein([0.2, 0.8], [0.7, 0.3], [1.0, 1.0])[0] == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_on_a_line_are_sorted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=50), rng.exponential(size=50)
    assert earth_mover_of_samples(x, y) == pytest.approx(np.abs(np.sort(x) - np.sort(y)).mean())
    assert earth_mover_of_samples(x[:, None], y[:, None]) == earth_mover_of_samples(x, y)
    flat = [np.column_stack([one, np.zeros(50)]) for one in (x, y)]
    assert earth_mover_of_samples(*flat) == pytest.approx(earth_mover_of_samples(x, y))


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_of_equal_size_against_every_matching(seed: int) -> None:
    cost = cdist(x := places(seed, 6, 3), y := places(seed + 100, 6, 3))
    best = min(cost[range(6), list(order)].mean() for order in permutations(range(6)))
    assert earth_mover_of_samples(x, y) == pytest.approx(best)


@pytest.mark.parametrize(("n", "m"), [(1, 5), (4, 6), (7, 5)])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_samples_of_unequal_size_are_those_repeated_to_equal_size(n: int, m: int, dimensions: int) -> None:
    x, y = places(0, n, dimensions), places(1, m, dimensions)
    cost = cdist(np.repeat(x, m, axis=0), np.repeat(y, n, axis=0))
    assert earth_mover_of_samples(x, y) == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-9)


def test_moving_a_sample_costs_the_way_and_scaling_scales() -> None:
    x, y = places(0, 40, 3), places(1, 30, 3)
    assert earth_mover_of_samples(x, x + np.array([2.0, -3.0, 6.0])) == pytest.approx(7.0)
    assert earth_mover_of_samples(5 * x, 5 * y) == pytest.approx(5 * earth_mover_of_samples(x, y), rel=1e-9)


def test_common_support_counts_points() -> None:
    p, q, points = common_support([[0.0, 1.0], [-0.0, 1.0], [2.0, 2.0]], [[2.0, 2.0], [3.0, 0.0]])
    assert points.tolist() == [[0.0, 1.0], [2.0, 2.0], [3.0, 0.0]]
    assert p.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert q.tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("dimensions", [1, 2])
def test_common_support_keeps_the_earth_movers_distance(dimensions: int) -> None:
    x, y = np.round(places(0, 20, dimensions)), np.round(places(1, 15, dimensions))
    assert earth_mover(*common_support(x, y)) == pytest.approx(earth_mover_of_samples(x, y), rel=1e-9)


def test_shared_histogram_counts_numbers_in_equal_bins() -> None:
    p, q, centers = shared_histogram([0.0, 1.0, 9.9], [10.0, 6.0, 6.1, 7.0], bins=5)
    assert centers.tolist() == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert p.tolist() == pytest.approx([2 / 3, 0, 0, 0, 1 / 3])
    assert q.tolist() == [0, 0, 0, 0.75, 0.25]
    assert total_variation(p, q) == pytest.approx(0.75)


def test_histogram_of_many_numbers_is_near_the_closed_form() -> None:
    """TV of N(0, 1) and N(1, 1) is erf(1 / sqrt 8)."""
    x = np.random.default_rng(0).normal(size=(2, 100_000))
    p, q, centers = shared_histogram(x[0], x[1] + 1.0, bins=60)
    assert total_variation(p, q) == pytest.approx(math.erf(1 / math.sqrt(8)), abs=0.01)
    assert earth_mover(p, q, centers) == pytest.approx(1.0, abs=0.02)


def test_tensors_and_rounded_masses_are_taken() -> None:
    (exact,), points = masses(0, 1), places(0)
    rounded = exact * (1 + 5e-7)
    assert total_variation(rounded, exact) == pytest.approx(0.0, abs=1e-15)
    assert earth_mover(rounded, exact, points) == pytest.approx(0.0, abs=1e-12)
    p, q = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert total_variation(p, q) == pytest.approx(float((p - q).abs().sum() / 2), rel=1e-5)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([1.2, -0.2], [0.5, 0.5], "p has negative mass: -0.2"),
        ([0.5, 0.5], [0.5, 0.4], "q sums to 0.9, not to 1: divide it by its sum"),
        ([1.00001], [1.0], "p sums to 1.00001, not to 1"),
        ([0.5, 0.5], [1.0], "p has 2 masses and q has 1: both must be over the same support"),
        ([0.5, math.nan], [0.5, 0.5], "p has numbers that are NaN or infinite"),
        ([0.5, 0.5], [math.inf, 0.5], "q has numbers that are NaN or infinite"),
        ([], [], "p is empty"),
        ([[0.5, 0.5]], [0.5, 0.5], r"p must be masses \[K\], not \[1, 2\]"),
        (1.0, [1.0], r"p must be masses \[K\], not \[\]"),
        (["a half"], [1.0], "p is not an array of numbers"),
        ([[0.5], [0.2, 0.3]], [1.0], "p is not an array of numbers"),
        (torch.ones(1, requires_grad=True), [1.0], "p is not an array of numbers"),
    ],
)
def test_what_is_no_distribution_is_refused_in_one_line(p: object, q: object, message: str) -> None:
    points = [0.0, 1.0]
    for distance in (
        total_variation,
        kullback_leibler,
        jensen_shannon,
        lambda p, q: earth_mover(p, q, points),
        lambda p, q: kantorovich_rubinstein(p, q, points),
    ):
        with pytest.raises(UserError, match=message) as caught:
            distance(p, q)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], [1.0], "x is empty"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "x is empty"),
        ([1.0], [math.nan], "y has numbers that are NaN or infinite"),
        (np.zeros((3, 2)), np.zeros((3, 4)), "x has points in 2 dimensions and y in 4"),
        (np.zeros((3, 1, 8, 8)), np.zeros((3, 64)), r"x must be points \[N\] or \[N, D\], not \[3, 1, 8, 8\]"),
    ],
)
def test_what_is_no_sample_is_refused(x: object, y: object, message: str) -> None:
    for function in (earth_mover_of_samples, common_support, shared_histogram):
        with pytest.raises(UserError, match=message):
            function(x, y)


def test_places_and_bins_are_checked() -> None:
    with pytest.raises(UserError, match="there are 3 points for 2 masses"):
        earth_mover([0.5, 0.5], [0.5, 0.5], [0, 1, 2])
    with pytest.raises(UserError, match="a histogram needs numbers"):
        shared_histogram(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(UserError, match="bins must be at least 1, not 0"):
        shared_histogram([1.0], [2.0], bins=0)
    with pytest.raises(UserError, match="the numbers cannot be put into 32 bins"):
        shared_histogram([1.0], [np.nextafter(1.0, 2.0)])


def test_parallel_lines(example: ModuleType) -> None:
    """KL infinite, TV 1, JS log 2, EM |theta|, and all of them 0 where the lines meet."""
    thetas = np.linspace(-1.0, 1.0, 21)
    values, apart = example.distances(thetas), thetas != 0.0
    assert apart.sum() == 20
    assert (values["KL"][apart] == math.inf).all()
    np.testing.assert_array_equal(values["TV"][apart], 1.0)
    np.testing.assert_allclose(values["JS"][apart], LOG_2, rtol=0, atol=1e-15)
    np.testing.assert_allclose(values["EM"], np.abs(thetas), rtol=0, atol=1e-9)
    assert all(values[name][~apart] == 0.0 for name in ("TV", "KL", "JS"))


@pytest.mark.parametrize("n_points", [1, 2, 33])
def test_parallel_lines_do_not_depend_on_how_many_points(example: ModuleType, n_points: int) -> None:
    values = example.distances([-0.3, 1e-6], n_points=n_points)
    assert values["EM"] == pytest.approx([0.3, 1e-6], abs=1e-9)
    assert values["JS"] == pytest.approx([LOG_2, LOG_2], abs=1e-15)


def test_the_example_prints_the_table_of_the_page_and_draws(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main(["--out", "lines.png"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in PAGE
    with Image.open("lines.png") as drawn, Image.open(ROOT / "docs" / "images" / "parallel-lines.png") as shown:
        assert drawn.size == shown.size


def test_the_picture_marks_infinity(example: ModuleType) -> None:
    """KL's panel has a tick for infinity, and its dotted line has no point where KL is finite."""
    thetas = np.linspace(-1.0, 1.0, 5)
    figure = example.draw(thetas, example.distances(thetas))
    (panel,) = [axes for axes in figure.axes if axes.get_title("left").startswith("Kullback")]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["0", "∞"]
    dotted = [line for line in panel.lines if line.get_linestyle() == ":"]
    assert sorted(theta for line in dotted for theta in line.get_xdata()) == [-1.0, -0.5, 0.5, 1.0]


def test_the_example_refuses_a_folder_that_is_not_there(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        example.main(["--out", "nowhere/lines.png"])
    assert caught.value.code == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_the_tutorial_prints_what_it_shows() -> None:
    names: dict[str, object] = {}
    pairs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(pairs) == PAGE.count("```python") > 0
    for block, shown in pairs:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, "distances.md", "exec"), names)  # our own text
        assert printed.getvalue() == shown
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link
