"""What a training loses while the page of `twoplayer explore` is open on it in a browser on the same machine.

One training runs all the time; the page is opened and closed in turn, and images per second are taken from the clock
and the training's own log. Needs Chromium and playwright. Run: python benchmarks/explore_cost.py
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROUNDS, WINDOW = 8, 12.0
"""How often the page is opened, and seconds of each measurement."""

SETTLING = 4.0
WORDS = ("steps=100000000", "log_every=50", "sample_every=1000", "checkpoint_every=100000000")


def main() -> None:
    """Measure with all cores in use, and with one left."""
    print("| threads of the training | images/s, page closed | page open | ratio |\n|---|---|---|---|")
    for threads in (os.cpu_count() or 1, 1):
        closed, opened = measured(threads)
        ratios = [with_page / without for without, with_page in zip(closed, opened, strict=True)]
        print(
            f"| {threads} | {statistics.median(closed):,.0f} | {statistics.median(opened):,.0f} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |"
        )


def measured(threads: int) -> tuple[list[float], list[float]]:
    """Images per second of each round, without and with the page."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
        one.close()
        run = Path(folder) / "runs" / "one"
        program = [sys.executable, "-m", "twoplayer"]
        train = subprocess.Popen([*program, "train", *WORDS, "--quiet", "--out", str(run)], env=environment)
        page = subprocess.Popen([*program, "explore", str(run.parent.parent), "--port", port])
        try:
            wait_for(f"http://127.0.0.1:{port}", run / "metrics.jsonl")
            with sync_playwright() as playwright:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                rounds = [one_round(browser, port, run / "metrics.jsonl") for _ in range(ROUNDS)]
                browser.close()
        finally:
            train.kill()
            page.kill()
            train.wait()
            page.wait()
    return [without for without, _ in rounds], [with_page for _, with_page in rounds]


def one_round(browser: Browser, port: str, log: Path) -> tuple[float, float]:
    """Images per second while the page is closed, and then while it is open."""
    time.sleep(SETTLING)
    without = speed(log)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}")
    page.locator("#tab-watch-button").click()
    page.wait_for_selector("#grid img")
    time.sleep(SETTLING)
    with_page = speed(log)
    page.close()
    return without, with_page


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
