"""The curves of the page: what is drawn where."""

from __future__ import annotations

import math
import re

import pytest

from twoplayer.explore.curves import HEIGHT, MOST_POINTS, WIDTH, chart, ticks

KEYS = {"loss/generator": ("generator", "#123456"), "loss/discriminator": ("D <b>", "#654321")}


def row(step: int, **values: float | None) -> dict[str, float | None]:
    return {"step": step} | {f"loss/{name}": value for name, value in values.items()}


def drawn(html: str) -> list[list[tuple[float, float]]]:
    """The points of each curve, in the drawing's units."""
    found = re.findall(r'class="chart-curve"[^>]*points="([^"]*)"', html)
    return [[tuple(map(float, point.split(","))) for point in each.split()] for each in found]  # type: ignore[misc]


def test_a_curve_goes_from_side_to_side_and_up_is_more() -> None:
    html = chart([row(100, generator=0.0), row(200, generator=1.0), row(300, generator=0.5)], KEYS, (0.0, 1.0), 0.5)
    assert drawn(html) == [[(0.0, HEIGHT), (WIDTH / 2, 0.0), (WIDTH, HEIGHT / 2)]]
    assert html.count("chart-level") == 1
    assert "generator 0.5" in html
    assert "<span>100</span><span>300</span>" in html


def test_names_are_text() -> None:
    html = chart([row(1, discriminator=2.0)], KEYS)
    assert "D &lt;b&gt; 2" in html
    assert "<b>" not in html
    assert len(drawn(html)[0]) == 2  # a single value is a line of no length: a dot


def test_what_is_missing_or_infinite_is_left_out() -> None:
    rows = [row(step, generator=math.inf if step == 2 else None if step == 3 else 1.0) for step in range(1, 6)]
    assert len(drawn(chart(rows, KEYS))[0]) == 3
    assert chart([], KEYS) == chart([row(1)], KEYS) == chart([row(1, generator=math.nan)], KEYS) == ""


def test_a_long_log_is_thinned_and_keeps_its_last_point() -> None:
    rows = [row(step, generator=float(step)) for step in range(10 * MOST_POINTS + 3)]
    html = chart(rows, KEYS)
    assert MOST_POINTS / 2 < len(drawn(html)[0]) <= MOST_POINTS
    assert drawn(html)[0][-1][0] == WIDTH
    assert f"{rows[-1]['step']:,}" in html


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (-0.1, 2.3, [0.0, 1.0, 2.0]),
        (0.45, 1.4, [0.6, 0.8, 1.0, 1.2, 1.4]),
        (-3e5, 1e5, [-2e5, 0.0]),
        (0.688, 0.712, [0.69, 0.7, 0.71]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected
