"""A real browser, headless, and the page of `twoplayer explore`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import twoplayer as tp
from tests.conftest import TINY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]

SECONDS = 120_000
"""What a busy machine may take to answer, in ms."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, where this machine has it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens an address in a window of its own; errors on the page fail the test."""
    contexts, errors = [], []

    def opened(
        address: str, *, width: int = 1280, height: int = 900, scheme: str = "light", locale: str = "en"
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            locale=locale,
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        url: its address.
        runs: the folder whose runs it shows.
    """

    url: str
    runs: Path

    def ask(self, element: str, *data: Any) -> str:
        """What a visitor is told who clicks an element with these inputs: the message of the error, or ""."""
        config = json.loads(urllib.request.urlopen(f"{self.url}/config").read())
        ids = {each["id"]: each["props"].get("elem_id") for each in config["components"]}
        (clicked,) = (
            each["id"] for each in config["dependencies"] if [ids.get(i) for i, _ in each["targets"]] == [element]
        )
        for each in config["dependencies"]:
            if each["targets"][0][1] == "load":  # what can be chosen is the session's
                assert not self._answer(each["id"], [None] * len(each["inputs"]))
        return self._answer(clicked, data)

    def _answer(self, number: int, data: Sequence[Any]) -> str:
        body = json.dumps({"data": data, "fn_index": number, "session_hash": "by-hand"}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/gradio_api/queue/join", body, headers)).read()
        with urllib.request.urlopen(f"{self.url}/gradio_api/queue/data?session_hash=by-hand", timeout=60) as stream:
            for line in stream:
                told = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if told.get("msg") == "process_completed":
                    error = None if told["success"] else told["output"]["error"]
                    assert told["success"] or error, "a defect, not a refusal"
                    return error or ""
        raise AssertionError("no answer")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_run: tp.Run) -> Iterator[Served]:
    """A page over three runs; outside lies another one."""
    root = tmp_path_factory.mktemp("explored")
    for name in ("runs/a", "runs/b", "runs/doomed", "outside"):
        shutil.copytree(tiny_run.path, root / name)
    conditional = [word for word in TINY if not word.startswith(("generator", "discriminator"))]
    tp.train("digits-cgan", *conditional, out=root / "runs" / "classes", device="cpu", quiet=True)
    port = free_port()
    command = [sys.executable, "-m", "twoplayer", "explore", str(root / "runs"), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(url).read()
                break
            except urllib.error.URLError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.1)
        yield Served(url, root / "runs")
        process.terminate()


def go(page: Page, tab: str) -> None:
    """Open a tab; on a phone the last ones are in a menu."""
    button = page.locator(f"#tab-{tab}-button")
    page.locator("#tab-runs-button").wait_for(timeout=SECONDS)
    if button.count() == 0 or not button.is_visible():
        page.locator(".overflow-menu > button").first.click()
        button = page.locator(".overflow-dropdown button").last
    button.click(timeout=SECONDS)
