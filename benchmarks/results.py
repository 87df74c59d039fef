"""Train recipes for a while and write docs/results.md about what came out.

    python benchmarks/results.py --minutes 20 mnist-mlp-gan mnist-cgan   train (or go on with) these, then write
    python benchmarks/results.py                                        only write from the runs that are there

Every run stays in --out. It is stopped with SIGINT when its minutes are over and goes on from there the next time, so
long trainings can be made of short ones. results.yaml names the runs that are a recipe with overrides and says what a
person sees in the pictures, written by hand after looking.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import twoplayer as tp
from twoplayer.cli.bench import COLUMNS, figure
from twoplayer.recipes.load import recipe_names
from twoplayer.runs.grid import save_png

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "results.md"
PICTURES = HERE.parent / "docs" / "images" / "results"
RUNS = HERE / "results.yaml"
LAST_ROWS = 20
"""Losses and scores are means over so many of the log's last rows: single rows swing."""

HEAD = """# Results

What the recipes do on real data, and what a person sees. Made by `python benchmarks/results.py --minutes M NAME`,
which trains (or goes on with) a run of this page for M minutes and rewrites the page. Where two cores do not get far
with a recipe in an hour, a run with narrower players stands beside it under NAME-narrow. Losses and scores are means
over the last {rows} lines of the log. SW is the sliced Wasserstein distance on pixels between fakes and held-out reals
(+- population deviation over 3 seeds; the training images, for recipes that use all of the data), its floor the same
between disjoint real halves; it says how near the pixels are, not how good the pictures look. Times are of training
alone.

"""


MODES = """
## What techniques against mode collapse buy

The same players and as many steps for every technique, on data whose modes are known; +- is the population deviation
over the seeds. What real samples get in the place of fakes stands in the last row. Seconds are of one core that other
programs shared, so they compare only roughly. See `twoplayer bench modes --help`.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train recipes and write docs/results.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a recipe, or a run of results.yaml")
    parser.add_argument("--minutes", type=float, default=0.0, help="of training for each name")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="where the runs are")
    arguments = parser.parse_args()
    if arguments.minutes > 0:
        for name in arguments.names:
            train(name, arguments.out / name, arguments.minutes * 60.0)
    write_page(arguments.out)


def described(name: str) -> dict[str, Any]:
    """What results.yaml says about a run."""
    said: dict[str, dict[str, Any]] = yaml.safe_load(RUNS.read_text(encoding="utf-8"))
    return said.get(name, {})


def wanted(name: str) -> list[str]:
    """The run's recipe and overrides, as on the command line."""
    return [described(name).get("recipe", name), *described(name).get("overrides", [])]


def train(name: str, place: Path, seconds: float) -> None:
    """Train a run, or go on with it, for at most so long; it is saved when the time is over."""
    words = ["--resume"] if (place / "config.yaml").exists() else wanted(name)
    process = subprocess.Popen([sys.executable, "-m", "twoplayer", "train", *words, "--out", str(place)])
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
    if process.returncode not in (0, 130):
        print(f"{name} ended with exit code {process.returncode}", file=sys.stderr)


def write_page(out: Path) -> None:
    """The page from all runs that have a generator, the narrow ones after their recipe."""
    names = [name for recipe in recipe_names() for name in (recipe, f"{recipe}-narrow")]
    names = [name for name in names if (out / name / "generator" / "config.json").exists()]
    names = [name for name in names if tp.load(out / name).metrics]  # one that was stopped at once has none
    measured = [each["data"] for path in out.glob("modes-*.json") for each in json.loads(path.read_text())["data"]]
    lost = [name for name in pictured() if name not in names + measured]
    if lost:
        sys.exit(f"{PAGE} would lose {', '.join(lost)}: {out} has no run of that name; --out says where the runs are")
    found = {name: facts(name, out / name) for name in names}
    lines = ["| run | data | steps | time | SW (floor) |", "|---|---|---|---|---|"]
    for name, fact in found.items():
        cells = (f"[`{name}`](#{name})", fact["data"], fact["steps"], fact["time"], fact["distance"])
        lines.append(f"| {' | '.join(cells)} |")
    sections = [section(name, fact, described(name).get("remark", "")) for name, fact in found.items()]
    text = HEAD.format(rows=LAST_ROWS) + "\n".join(lines) + "\n\n" + "\n".join(sections)
    PAGE.write_text(text + modes_section(out), encoding="utf-8")
    print(PAGE)


def pictured() -> list[str]:
    """The runs, and the data of `bench modes`, that the page shows now."""
    return re.findall(r"^##+ ([\w-]+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) if PAGE.exists() else []


def modes_section(out: Path) -> str:
    """What `twoplayer bench modes --json` said, from all of its answers that lie in a folder as modes-*.json."""
    text = ""
    for path in sorted(out.glob("modes-*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        for found in said["data"]:
            columns = [name for name in COLUMNS if name in found["results"][0]]
            words = ["twoplayer", "bench", "modes", "--data", found["data"], "--seeds", str(said["seeds"])]
            words += ["--recipe", said["recipe"]] if "recipe" in said else []
            text += (
                f"### {found['data']}\n\n`{shlex.join([*words, *said['overrides']])}`: {found['num_modes']:,} modes, "
            )
            text += f"{found['n_fake']:,} fakes, {found['results'][0]['steps']:,} steps.\n\n"
            text += f"| technique | {' | '.join(COLUMNS[name] for name in columns)} |\n{'|---' * (len(columns) + 1)}|\n"
            for row in [*found["results"], {"technique": "(real samples)"} | found["floor"]]:
                cells = (figure(name, row[name]) if name in row else "" for name in columns)
                text += f"| {row['technique']} | {' | '.join(cells)} |\n"
            text += "\n"
    return text and f"{MODES}{text}"


def section(name: str, fact: dict[str, str], remark: str) -> str:
    """One run's part of the page."""
    text = f"## {name}\n\n![{name}](images/results/{name}.png)\n\n{remark.strip() or 'Not looked at yet.'}\n\n"
    for key in ("command", "data", "steps", "time", "machine", "losses", "scores", "distance", "classifier"):
        if key in fact:
            text += f"- {key}: {fact[key]}\n"
    return text


def facts(name: str, place: Path) -> dict[str, str]:
    """What there is to say about a run, and its picture."""
    run = tp.load(place)
    environment = json.loads((place / "environment.json").read_text(encoding="utf-8"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    by_class = "labels" in run.info.generator.takes
    save_png(run.grid(5 * len(run.info.class_names) if by_class else 25), PICTURES / f"{name}.png")
    figures = run.evaluate(n=1000, extractor="random-cnn")
    distance = figures["sliced-wasserstein"]
    data = environment["data"]
    channels, height, width = data["shape"]
    found = {
        "command": f"`{shlex.join(['twoplayer', 'train', *wanted(name)])}`",
        "data": f"{data['source']} ({data['split']}), {data['images']:,} images, {width}x{height}x{channels}",
        "machine": f"{environment['device']}, {environment['threads']} threads, {processor()}, "
        f"torch {environment['packages']['torch']}",
        "distance": f"{distance['value']:.4f} +- {distance['spread']:.4f} ({distance['floor']:.4f})",
    }
    levels = len(run.recipe.levels)
    found |= level_facts([tp.load(place / "levels" / str(k)) for k in range(levels)]) if levels else run_facts(run)
    if "classifier" in figures:
        errors = figures["classifier"]
        found["classifier"] = f"{errors['errors']} errors in {errors['n_real']:,} test images; {curve(run)}"
    return found


def run_facts(run: tp.Run) -> dict[str, str]:
    """Steps, time, losses and scores of an ordinary run."""
    rows = run.metrics
    last = rows[-1]
    step, seconds = int(last["step"] or 0), float(last["seconds"] or 0)
    images = environment_images(run)
    whole = run.recipe.total_steps(max(images // run.recipe.batch_size, 1))
    found = {
        "steps": f"{step:,} of {whole:,} ({float(last['epoch'] or 0):.1f} epochs)",
        "time": f"{clock(seconds)} ({1000 * seconds / max(step, 1):,.0f} ms per step)",
        "losses": ", ".join(f"{key} {mean(rows, f'loss/{key}')}" for key in ("generator", "discriminator")),
    }
    if last.get("score/generator") is not None:
        found["scores"] = ", ".join(f"{key} {mean(rows, f'score/{key}')}" for key in ("generator", "discriminator"))
    return found


def level_facts(levels: list[tp.Run]) -> dict[str, str]:
    """The same for a pyramid, level by level, coarsest first."""
    each = [run_facts(level) for level in levels]
    return {key: "; ".join(fact[key] for fact in each if key in fact) for key in each[0]}


def environment_images(run: tp.Run) -> int:
    """How many images the run trains on."""
    path = run.path / "environment.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["data"]["images"])


def mean(rows: list[Any], key: str) -> str:
    """Mean of a figure over the last rows."""
    values = [row[key] for row in rows[-LAST_ROWS:] if row.get(key) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "none"


def curve(run: tp.Run) -> str:
    """Test errors of the classifier on the way, about ten of them."""
    key = "classifier/test_error"
    points = [(row["epoch"], row[key]) for row in run.metrics if row.get(key) is not None]
    chosen = points[:: max(len(points) // 10, 1)]
    return "on the way, by epoch: " + ", ".join(f"{epoch:.0f}: {error:.2%}" for epoch, error in chosen)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


if __name__ == "__main__":
    main()
