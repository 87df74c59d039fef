"""What a training loses while the page of `twoplayer explore` is open on it in a browser on the same machine.

One training runs all the time; the page is opened and closed in turn, and images per second are taken from the clock
and the training's own log. Needs Chromium, playwright and psutil, and a machine that does nothing else.
Run: python benchmarks/explore_cost.py
"""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from playwright.sync_api import Browser, sync_playwright

ROUNDS, WINDOW = 6, 12.0
"""How often the page is opened, and seconds of each measurement."""

SETTLING = 4.0
WORDS = ("steps=100000000", "log_every=50", "sample_every=1000", "checkpoint_every=100000000")


def main() -> None:
    """Measure, and say what server and browser used."""
    closed, opened, used = measured()
    ratios = [with_page / without for without, with_page in zip(closed, opened, strict=True)]
    print("| images/s, page closed | page open | ratio | server | browser |\n|---|---|---|---|---|")
    print(
        f"| {statistics.median(closed):,.0f} | {statistics.median(opened):,.0f} "
        f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
        f"| {used['server']:.1%} of a core | {used['browser']:.1%} of a core |"
    )


def measured() -> tuple[list[float], list[float], dict[str, float]]:
    """Images per second of each round, without and with the page, and the share of a core that the page took."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
        one.close()
        run = Path(folder) / "runs" / "one"
        program = [sys.executable, "-m", "twoplayer"]
        train = subprocess.Popen([*program, "train", *WORDS, "--quiet", "--out", str(run)])
        server = subprocess.Popen([*program, "explore", str(run.parent.parent), "--port", port])
        try:
            wait_for(f"http://127.0.0.1:{port}", run / "metrics.jsonl")
            with sync_playwright() as playwright:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                rounds = [one_round(browser, port, run / "metrics.jsonl", server.pid) for _ in range(ROUNDS)]
                browser.close()
        finally:
            train.kill()
            server.kill()
            train.wait()
            server.wait()
    used = {name: statistics.median(each[2][name] for each in rounds) for name in ("server", "browser")}
    return [without for without, _, _ in rounds], [with_page for _, with_page, _ in rounds], used


def one_round(browser: Browser, port: str, log: Path, server: int) -> tuple[float, float, dict[str, float]]:
    """Images per second while the page is closed, and then while it is open; shares of a core meanwhile."""
    time.sleep(SETTLING)
    without = speed(log)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}")
    page.locator("#tab-watch-button").click()
    page.wait_for_selector("#grid img")
    time.sleep(SETTLING)
    begun, before = time.monotonic(), seconds_used(server)
    with_page = speed(log)
    seconds, after = time.monotonic() - begun, seconds_used(server)
    page.close()
    return without, with_page, {name: (after[name] - before[name]) / seconds for name in before}


def seconds_used(server: int) -> dict[str, float]:
    """Seconds of a core that the server, and all of the browser's processes, took until now."""
    found = {"server": 0.0, "browser": 0.0}
    for each in psutil.process_iter(["name", "pid"]):
        name = "server" if each.info["pid"] == server else "browser" if "chrom" in (each.info["name"] or "") else None
        if name:
            with suppress(psutil.NoSuchProcess):
                found[name] += sum(each.cpu_times()[:2])
    return found


def speed(log: Path) -> float:
    """Real images per second over a window, between two lines of the log."""
    first, begun = next_line(log)
    time.sleep(WINDOW)
    last, ended = next_line(log)
    return 1000.0 * (last - first) / (ended - begun)


def next_line(log: Path) -> tuple[float, float]:
    """The kimg of the next line to be written, and when it came."""
    size = log.stat().st_size
    while log.stat().st_size == size:
        time.sleep(0.002)
    return float(json.loads(log.read_bytes().split(b"\n")[-2])["kimg"]), time.monotonic()


def wait_for(url: str, log: Path) -> None:
    """Until the page is served and the training has written something."""
    while True:
        try:
            urllib.request.urlopen(url).read()
        except urllib.error.URLError:
            time.sleep(0.2)
            continue
        if log.exists() and log.stat().st_size:
            return


if __name__ == "__main__":
    main()
