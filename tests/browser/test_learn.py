"""The Learn tab of `twoplayer explore` in a browser: a game begins, steps, plays, and is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import SECONDS, Open, Served, go

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.fixture
def address(served: Served) -> str:
    """Of the page."""
    return served.url


def step_of(page: Page) -> int:
    return int(page.get_attribute("#plane [data-step]", "data-step", timeout=SECONDS) or -1)


def wait_for_step(page: Page, least: int) -> None:
    script = "least => Number(document.querySelector('#plane [data-step]')?.dataset.step ?? -1) >= least"
    page.wait_for_function(script, arg=least, timeout=SECONDS)


def picture(page: Page) -> np.ndarray:
    """RGB of the plane, [H, W, 3]."""
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.locator(".plane-field").screenshot()))
    return np.asarray(shot.convert("RGB")).astype(np.int64)


def learning(open_page: Open, address: str, **how: object) -> Page:
    page = open_page(address, **how)
    page.set_default_timeout(SECONDS)
    go(page, "learn")
    wait_for_step(page, 0)
    return page


def test_a_game_begins_steps_plays_and_is_drawn(address: str, open_page: Open) -> None:
    page = learning(open_page, address)
    assert step_of(page) == 0
    first = picture(page)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 50, "the plane is drawn"
    page.click("#move-step")
    wait_for_step(page, 1)
    said = page.inner_text(".plane-said")
    page.click("#move-d")
    page.wait_for_function("before => document.querySelector('.plane-said').innerText !== before", arg=said)
    assert step_of(page) == 1, "a move of one player is no step"
    page.click("#play")
    wait_for_step(page, 12)
    page.click("#play")
    page.wait_for_timeout(3000)
    rests = step_of(page)
    page.wait_for_timeout(1500)
    assert step_of(page) == rests
    assert np.abs(picture(page) - first).max() > 50
    page.click("#new-game")
    page.wait_for_function("document.querySelector('#plane [data-step]').dataset.step === '0'")
    assert np.abs(picture(page) - first).mean() < 1.0, "the same seed is the same game"


def test_a_game_rests_when_its_tab_is_left(address: str, open_page: Open) -> None:
    page = learning(open_page, address)
    page.click("#play")
    wait_for_step(page, 3)
    go(page, "runs")
    page.wait_for_timeout(4000)
    rests = step_of(page)
    page.wait_for_timeout(1500)
    assert step_of(page) == rests
    go(page, "learn")
    assert page.inner_text("#play").strip().endswith("Play")
    assert step_of(page) == rests, "the game is still there"


def test_two_visitors_play_two_games(address: str, open_page: Open) -> None:
    one, other = (learning(open_page, address) for _ in range(2))
    one.click("#move-step")
    wait_for_step(one, 1)
    other.click("#move-g")
    other.wait_for_function("document.querySelector('.plane-said').innerText.includes('1')")
    assert step_of(other) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_chinese(address: str, open_page: Open, scheme: str) -> None:
    page = learning(open_page, f"{address}/?__theme={scheme}", width=390, height=844, locale="zh-CN")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    assert "第 0 步" in page.inner_text(".plane-said")
    box = page.locator(".plane-field").bounding_box()
    assert box is not None
    assert 300 < box["width"] == pytest.approx(box["height"], abs=1.0)
    page.click("#try-lines-wasserstein")
    page.wait_for_function("!document.querySelector('.plane-said').innerText.includes('中心')")
    arrows, _ = picture(page), page.uncheck("input[name=plane-arrows]")
    assert np.abs(picture(page) - arrows).max() > 30, "the arrows are gone"


def test_a_wrong_number_is_answered_in_words(address: str, open_page: Open) -> None:
    page = learning(open_page, address)
    page.fill("#strength input", "1e30")
    page.click("#new-game")
    page.wait_for_selector("text=/strength|Value/")
    assert step_of(page) == 0
