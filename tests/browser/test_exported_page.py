"""The page that `twoplayer export --format html` writes, in a browser."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import twoplayer as tp
from tests.browser.conftest import Open
from tests.unit.test_export import info_of
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.export.page import page as written
from twoplayer.export.runtime import WebRuntime, web_runtime
from twoplayer.networks.mlp import MlpGenerator

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

STAND_IN = b"""
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  static async create() { return new InferenceSession(); }
  async run({ latents, labels }) {
    const [n, dim] = latents.dims, data = new Float32Array(n * 64);
    for (let i = 0; i < n; i++) data.fill(Math.tanh(latents.data[i * dim]), i * 64, i * 64 + 64);
    for (let i = 0; i < n; i++) data[i * 64] = labels ? Number(labels.data[i]) / 2 - 1 : 0;
    return { images: { data } };
  }
}
"""
"""In place of the runtime: every pixel is tanh(z1), but for the first, which is the class."""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """The address of a page whose generator is known."""
    path = tmp_path / "page.html"
    text = written(b"", info_of(MlpGenerator(conditional=True)), WebRuntime(STAND_IN, b""))
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def ready(page: Page) -> Page:
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    assert page.get_attribute("html", "data-ready") == "yes", page.inner_text("#said")
    return page


def pixels(page: Page, selector: str) -> np.ndarray:
    """RGB of a canvas, [H, W, 3]; read by a picture of it, because the page runs no code of others."""
    shot = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return np.asarray(shot.convert("RGB"))


def tone(page: Page, selector: str) -> int:
    """Of the middle of a canvas."""
    found = pixels(page, selector)
    return int(found[found.shape[0] // 2, found.shape[1] // 2, 0])


@pytest.mark.parametrize(("width", "scheme", "locale"), [(1280, "light", "en"), (390, "dark", "zh-CN")])
def test_pictures_classes_sliders_walk(stand_in: str, open_page: Open, width: int, scheme: str, locale: str) -> None:
    page = ready(open_page(stand_in, width=width, scheme=scheme, locale=locale))
    assert page.locator("#grid button").count() == 36
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    page.select_option("#count", "16")
    page.select_option("#class", "2")
    assert page.locator("#grid button").count() == 16
    assert page.locator("#grid button").nth(3).get_attribute("aria-label").endswith("4: c")  # type: ignore[union-attr]
    slider = page.locator("#sliders input").first
    for value in ("-3", "0", "3"):
        slider.fill(value)
        page.wait_for_timeout(100)
        assert tone(page, "#large") == pytest.approx(127.5 * (1 + np.tanh(float(value))), abs=1)
    page.click("#grid button:nth-child(5)")
    chosen = slider.input_value()
    page.click("#grid button:nth-child(6)")
    page.locator("#walk").fill("0")
    assert float(slider.input_value()) == pytest.approx(float(chosen), abs=0.03)
    page.keyboard.press("Tab")
    before = page.input_value("#seed")
    page.click("#new")
    assert page.input_value("#seed") == str(int(before) + 1)
    page.fill("#seed", "99999999999")
    page.keyboard.press("Enter")
    assert page.input_value("#seed") == "4294967295"


def test_a_picture_is_saved(stand_in: str, open_page: Open) -> None:
    page = ready(open_page(stand_in))
    with page.expect_download() as waited:
        page.click("#save")
    with Image.open(waited.value.path()) as saved:
        assert saved.size == (8, 8)


def test_a_generator_that_cannot_run_is_said(tmp_path: Path, open_page: Open) -> None:
    path = tmp_path / "page.html"
    broken = (
        b"export const env = { wasm: {} }; export const InferenceSession = { create() { throw Error('no luck'); } };"
    )
    path.write_text(written(b"", info_of(MlpGenerator()), WebRuntime(broken, b"")), encoding="utf-8")
    page = open_page(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.get_attribute("html", "data-ready") == "no"
    assert "no luck" in page.inner_text("#said")


def test_the_real_runtime_draws_the_pictures_of_sample(tmp_path: Path, tiny_run: tp.Run, open_page: Open) -> None:
    """From the file alone: the first pictures are those of `twoplayer sample --seed 0`."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    try:
        web_runtime()
    except UserError as error:
        pytest.skip(str(error))
    assert run(["export", str(tiny_run.path), "--format", "html", "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size < 10 * 2**20
    page = ready(open_page((tmp_path / "page.html").as_uri()))
    wanted = tiny_run.sample(16)
    for number in (1, 4, 16):
        page.click(f"#grid button:nth-child({number})")
        page.wait_for_timeout(300)
        found = pixels(page, "#large")
        middles = [((np.arange(8) + 0.5) * side / 8).astype(int) for side in found.shape[:2]]
        shown = found[np.ix_(*middles)][..., 0].astype(np.int64)
        assert np.abs(shown - wanted[number - 1, 0].numpy().astype(np.int64)).max() <= 1
