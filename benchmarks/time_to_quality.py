"""Quality at equal seconds: every recipe of MNIST for the same time on all cores, then the Frechet distance.

    TWOPLAYER_DATA=... python benchmarks/time_to_quality.py results.jsonl --seconds 180 --seeds 3

Each run is `twoplayer train RECIPE seed=S`, stopped by SIGINT so many seconds after it was started: imports, loading,
compiling and the first grid count, as they do for a user. The step that is being played then is finished. Recipes take
turns within a seed, so that a busy minute of the machine meets no recipe in all its seeds. Figures: 5,000 fakes of the
newest checkpoint's averaged generator, or of G where a recipe keeps no average, beside 5,000 test images, features of
the classifier that `twoplayer evaluate` uses. Recipes are as they stand: those of the reading list have the widths of
their sources, conditional ones are told labels, and only mnist-auto was made for a processor.

What is in the file already is not run again; pictures are written beside it; the table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import twoplayer as tp
from twoplayer.core.errors import Diverged, TrainingStopped, UserError
from twoplayer.recipes.load import load_recipe, recipe_names

IMAGES = 5000

STOPPED = "stopped"
ENDS = {TrainingStopped.exit_code: STOPPED, 0: "ended by itself", Diverged.exit_code: "diverged"}
"""By what `twoplayer train` returns."""


def competing() -> list[str]:
    """All recipes that draw the same images, gray MNIST."""
    recipes = map(load_recipe, recipe_names())
    return [recipe.name for recipe in recipes if recipe.data.source == "mnist" and recipe.data.channels is None]


def trained(name: str, seed: int, seconds: float, place: Path) -> str:
    """A run of so many seconds; how it ended."""
    command = [sys.executable, "-m", "twoplayer", "train", name, f"seed={seed}", "--out", str(place), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    if process.returncode not in ENDS:
        raise SystemExit(f"{name}: {said}")
    return ENDS[process.returncode]


def measured(name: str, seed: int, seconds: float, pictures: Path) -> dict[str, Any]:
    """What a run reached; a distance of None where it has drawn nothing yet."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        row: dict[str, Any] = {"recipe": name, "seed": seed, "seconds": seconds}
        row |= {"ended": trained(name, seed, seconds, place), "fid": None, "kimg": 0.0}
        try:
            run = tp.load(place)
            run.grid(25).save(pictures / f"{name}-{seed}.png")
        except UserError:  # it was still loading, or diverged before anything was saved
            return row
        key, figure = next((key, one) for key, one in run.evaluate(n=IMAGES, seeds=1).items() if key.startswith("fid_"))
        row |= {"figure": key, "fid": figure["value"], "floor": figure["floor"]}
        return row | {"step": run.info.step, "kimg": run.info.kimg}


def table(rows: list[dict[str, Any]]) -> str:
    """Recipes with the best first, as Markdown; those without a distance last."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["recipe"], []).append(row)

    def mean(name: str) -> float:
        return statistics.fmean(math.inf if row["fid"] is None else row["fid"] for row in by_name[name])

    lines = ["| recipe | thousands of images | Frechet distance, each seed | mean |", "|---|---|---|---|"]
    for name in sorted(by_name, key=mean):
        shown = ", ".join(f"{row['kimg']:,.1f}" for row in by_name[name])
        each = ", ".join(reached(row) for row in by_name[name])
        lines.append(f"| `{name}` | {shown} | {each} | {mean(name):,.0f} |")
    floors = [row["floor"] for row in rows if row["fid"] is not None]
    lines.append(f"| real images | | | {min(floors):,.1f} |")
    return "\n".join(lines)


def reached(row: dict[str, Any]) -> str:
    """A distance, and how the run ended if not by the clock."""
    value = "none" if row["fid"] is None else f"{row['fid']:,.0f}"
    return value if row["ended"] == STOPPED else f"{value} ({row['ended']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    lines = asked.results.read_text(encoding="utf-8").splitlines() if asked.results.exists() else []
    rows = [json.loads(line) for line in lines]
    known = {(row["recipe"], row["seed"], row["seconds"]) for row in rows}
    for seed in range(asked.seeds):
        for name in competing():
            if (name, seed, asked.seconds) in known:
                continue
            rows.append(measured(name, seed, asked.seconds, asked.results.parent))
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table([row for row in rows if row["seconds"] == asked.seconds]))


if __name__ == "__main__":
    main()
