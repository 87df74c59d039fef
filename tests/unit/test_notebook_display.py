"""Runs, figures, comparisons and progress as a notebook and a terminal show them; two with a real kernel."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import twoplayer as tp
from tests.conftest import TINY
from twoplayer.comparison import Comparison
from twoplayer.core import notebook
from twoplayer.core.stop import StopRequest
from twoplayer.core.tables import Table
from twoplayer.evaluation.compare import Cell, Line
from twoplayer.evaluation.figure_table import FigureTable
from twoplayer.runs.grid import tile
from twoplayer.training import live
from twoplayer.training.progress import progress

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

VOID = {"img", "br"}


class Tags(HTMLParser):
    """Fails where tags are not closed in order; remembers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def checked(html: str) -> Tags:
    """What every display keeps: well formed, self-contained, small, at home in light and dark themes."""
    tags = Tags(html)
    assert len(html) < 2**20
    assert not re.search(r"(color|background)\s*:", html)
    assert not re.search(r"src=[\"'](?!data:)", html)
    assert not {"script", "style", "link"} & {tag for tag, _ in tags.seen}
    return tags


def test_a_run_shows_what_its_folder_says(tiny_run: tp.Run) -> None:
    tags = checked(tiny_run._repr_html_())
    words = " ".join(tags.words)
    for said in ("digits", "6, epoch", "loss", "G ", "doctor", "samples after step 6"):
        assert said in words
    (link,) = [attributes["href"] for tag, attributes in tags.seen if tag == "a"]
    assert link is not None
    assert link.endswith("report.html")
    assert "\n" not in repr(tiny_run)
    assert repr(tiny_run).startswith(f"Run('{tiny_run.path}': recipe digits; step 6")
    assert str(tiny_run.path / "report.html") in str(tiny_run)


@pytest.mark.parametrize(
    "damage", ["config.yaml", "metrics.jsonl", "evaluation.json", "environment.json", "samples", "empty", "gone"]
)
def test_a_damaged_run_still_shows_itself(damage: str, tiny_run: tp.Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run.path, path)
    if damage in ("empty", "gone"):
        shutil.rmtree(path)
        if damage == "empty":
            path.mkdir()
    elif damage == "samples":
        for grid in (path / damage).iterdir():
            grid.write_bytes(b"no picture")
    else:
        (path / damage).write_bytes(b'{"\xff": [')
        if damage == "metrics.jsonl":
            (path / damage).write_text('{"step": 1, "epoch": null}\n')
    damaged = tp.Run(path)
    html = damaged._repr_html_()
    checked(html)
    assert str(path) in repr(damaged)
    assert str(path) in str(damaged)
    if damage in ("config.yaml", "metrics.jsonl", "evaluation.json"):
        assert "damaged" in html
    if damage == "gone":
        assert "not there" in str(damaged)


def test_names_from_outside_are_escaped(tiny_run: tp.Run, tmp_path: Path) -> None:
    path = tmp_path / "<b onclick='x'>&"
    shutil.copytree(tiny_run.path, path)
    tags = checked(tp.Run(path)._repr_html_())
    assert "b" not in {tag for tag, _ in tags.seen}
    assert any("<b onclick='x'>&" in words for words in tags.words)


def test_a_large_grid_stays_below_a_megabyte(tiny_run: tp.Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run.path, path)
    loud = torch.randint(0, 256, (64, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tile(loud).save(path / "samples" / "step-0000006.png")
    html = tp.Run(path)._repr_html_()
    checked(html)
    assert "samples after step 6" in html


def test_tables_line_up_and_escape() -> None:
    table = Table(("figure", "value"), [("short", "1"), ("a longer <name>", "23.45")], above=("from <x>",))
    assert table.text().splitlines() == [
        "from <x>",
        "figure           value",
        "----------------------",
        "short                1",
        "a longer <name>  23.45",
    ]
    assert "a longer <name>" in checked(table.html()).words
    assert "from <x>" in checked(table.html()).words


def test_figures_are_a_dict_and_a_table(tiny_run: tp.Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(tiny_run.path, path)
    run = tp.load(path)
    figures = run.evaluate(n=32, seeds=1, extractor="random-cnn")
    assert isinstance(figures, dict)
    assert json.loads(json.dumps(figures)) == figures == run.figures
    text, tags = repr(run.figures), checked(run.figures._repr_html_())  # type: ignore[attr-defined]
    distance = figures["sliced-wasserstein"]
    for said in ("floor", f"{distance['value']:.4g}", f"{distance['floor']:.4g}", "extractor", "lower"):
        assert said in text
        assert any(said in words for words in tags.words)
    assert "(floor " in run._repr_html_()
    assert "(floor " not in repr(run)
    assert repr(FigureTable({"fid": {"value": "?"}})) == "{'fid': {'value': '?'}}", "what was changed is shown as it is"
    assert repr(FigureTable())


def test_a_comparison_shows_the_best_and_why_others_are_not_ranked() -> None:
    cells = (Cell(1.0, 0.1), Cell(2.0, 0.1))
    lines = (Line("fid", "lower", cells, (0,), 0.5, ""), Line("kid<", "lower", cells, (), None, "split differs"))
    found = Comparison(("a", "b<i>"), (), lines, ("data", "data"))
    text, tags = repr(found), checked(found._repr_html_())
    assert re.search(r"fid +1 \+- 0.1 \* +2 \+- 0.1 +0.5\n", text)
    assert text.count("made from data") == 1
    assert "not ranked: kid<: split differs" in text
    assert "b<i>" in tags.words


def test_compare_is_public_and_takes_runs(tiny_run: tp.Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for path in (tmp_path / "one", other):
        shutil.copytree(tiny_run.path, path)
        tp.load(path).evaluate(n=32, seeds=2, extractor="random-cnn")
    found = tp.compare([tp.load(tmp_path / "one"), other])
    assert found.names == ("one", "other")
    assert "sliced-wasserstein" in repr(found)


class Frontend:
    """Takes the place of the notebook: every message that would be sent."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.updates: list[tuple[int, dict[str, Any]]] = []

    def show(self, bundle: Any) -> Any:
        self.shown.append(dict(bundle))
        place = len(self.shown) - 1

        def update(bundle: Any, *, raw: bool) -> None:
            assert raw
            self.updates.append((place, dict(bundle)))
            self.shown[place] = dict(bundle)

        return SimpleNamespace(update=update)


ROW = {
    "step": 50,
    "epoch": 1.5,
    "kimg": 3.2,
    "seconds": 5.0,
    "images_per_second": 640.0,
    "loss/generator": 0.9,
    "loss/discriminator": 1.2,
    "score/generator": 0.4,
}
ROW |= {"score/discriminator": 0.6}


@pytest.fixture
def frontend(monkeypatch: pytest.MonkeyPatch) -> Frontend:
    """As if in a notebook whose clock stands still."""
    made = Frontend()
    monkeypatch.setattr("twoplayer.training.progress.in_notebook", lambda: True)
    monkeypatch.setattr(live, "show", made.show)
    monkeypatch.setattr(live.time, "monotonic", lambda: 100.0)
    return made


def test_progress_is_one_line_and_one_picture_and_is_not_updated_for_every_step(frontend: Frontend) -> None:
    picture = tile(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    with progress(1000, 0, quiet=False) as shown:
        for step in range(1, 51):
            shown.advance(step)
        shown.figures(ROW)
        shown.remark("doctor: <drift>")
        shown.grid(50, picture)
        shown.grid(100, picture)
    assert len(frontend.shown) == 2
    assert len([place for place, _ in frontend.updates if place == 0]) == 2, "the first step and the end"
    line, samples = frontend.shown
    assert line["text/plain"].startswith("step 50 of 1,000  done in 0:05")
    assert "loss G 0.900 D 1.200" in line["text/plain"]
    assert "doctor: <drift>" in checked(line["text/html"]).words
    assert samples["text/plain"] == "<samples after step 100>"
    assert samples["image/png"]


def test_seconds_left_are_shown_and_how_a_training_ended(frontend: Frontend) -> None:
    def failing() -> None:
        with progress(100, 0, quiet=False) as shown:
            shown.figures(ROW)
            shown.advance(51)
            assert "0:05 left" in frontend.shown[0]["text/plain"]
            raise tp.TrainingStopped("stopped after step 51")

    with pytest.raises(tp.TrainingStopped):
        failing()
    assert "step 51 of 100  stopped and saved" in frontend.shown[0]["text/plain"]
    with pytest.raises(ZeroDivisionError), progress(100, 0, quiet=False):
        _ = 1 / 0
    assert "ended by ZeroDivisionError" in frontend.shown[1]["text/plain"]


def test_quiet_shows_nothing(frontend: Frontend) -> None:
    with progress(100, 0, quiet=True) as shown:
        shown.advance(1)
        shown.grid(1, tile(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)))
    assert frontend.shown == []


def test_outside_of_a_kernel_ipython_is_not_loaded() -> None:
    code = "import sys, twoplayer.training.progress, twoplayer.core.notebook as n; "
    code += "assert not n.in_notebook(); sys.exit('IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("shell", "expected"), [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)]
)
def test_a_terminal_is_no_notebook(shell: Any, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert notebook.in_notebook() is expected


def test_a_second_interrupt_leaves_the_training_but_not_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twoplayer.core.stop.in_notebook", lambda: True)
    monkeypatch.setattr("twoplayer.core.stop.GRACE_SECONDS", 0.0)
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt, match="left at once"), stop.listening(), stop.deferring():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)


def executed(cells: list[str], folder: Path, allow_errors: bool = False) -> list[Any]:
    """The outputs of cells that a real kernel ran in a folder."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        book,
        timeout=120,
        allow_errors=allow_errors,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return [cell.outputs for cell in book.cells]


WORDS = ", ".join(repr(word) for word in TINY)
TRAIN = f"run = tp.train('digits', {WORDS}, out='run', device='cpu')"
BEGIN = "import os, twoplayer as tp; open('pid', 'w').write(str(os.getpid())) and None"


@pytest.mark.slow
def test_a_training_in_a_kernel_leaves_one_line_one_picture_and_the_run(tmp_path: Path) -> None:
    quiet = TRAIN.replace("'run'", "'quiet', quiet=True")
    begun, trained, shown, silent = executed([BEGIN, TRAIN, "run", quiet], tmp_path)
    assert begun == silent == []
    line, picture = [output for output in trained if output.output_type == "display_data"]
    assert "step 6 of 6  done" in line.data["text/plain"]
    assert "<progress value=6 max=6" in line.data["text/html"]
    assert picture.data["text/plain"] == "<samples after step 6>"
    assert not [output for output in trained if output.output_type == "stream"]
    (result,) = shown
    checked(result.data["text/html"])
    assert 'href="run/report.html"' in result.data["text/html"]
    assert result.data["text/plain"].startswith("Run('run': recipe digits")


def interrupt(folder: Path) -> None:
    """As a notebook's stop button does, once the training has logged something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder / "run" / "metrics.jsonl").exists():
        time.sleep(0.05)
    os.kill(int((folder / "pid").read_text()), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupt_saves_and_the_kernel_lives_on(tmp_path: Path) -> None:
    thread = threading.Thread(target=interrupt, args=(tmp_path,))
    thread.start()
    long = TRAIN.replace("steps=6", "steps=100000")
    after = ["run = tp.load('run'); run.metrics[-1]['step'] <= max(run.steps)", "import signal; signal.getsignal(2)"]
    _, stopped, resumed, handler = executed([BEGIN, long, *after], tmp_path, allow_errors=True)
    thread.join()
    (error,) = [output for output in stopped if output.output_type == "error"]
    assert error.ename == "TrainingStopped"
    assert "train --resume --out run" in error.evalue
    line = next(output for output in stopped if output.output_type == "display_data")
    assert "stopped and saved" in line.data["text/plain"]
    assert resumed[0].data["text/plain"] == "True"
    assert "default_int_handler" in handler[0].data["text/plain"]
