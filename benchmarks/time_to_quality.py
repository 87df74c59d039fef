"""Quality at equal seconds: every recipe of MNIST for the same time on all cores, then the Frechet distance.

    TWOPLAYER_DATA=... python benchmarks/time_to_quality.py results.jsonl --seconds 180 --seeds 3

Each run is `twoplayer train RECIPE seed=S`, stopped by SIGINT so many seconds after it was started: imports, loading,
compiling and the first grid count, as they do for a user. Recipes take turns within a seed, so that a busy minute of
the machine meets no recipe in all its seeds. Figures: 5,000 fakes of the newest checkpoint's averaged generator beside
5,000 test images, features of the classifier that `twoplayer evaluate` uses. What is in the file already is not run
again; the table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import twoplayer as tp
from twoplayer.recipes.load import load_recipe, recipe_names

IMAGES = 5000


def competing() -> list[str]:
    """All recipes that draw the same images, gray MNIST."""
    recipes = map(load_recipe, recipe_names())
    return [recipe.name for recipe in recipes if recipe.data.source == "mnist" and recipe.data.channels is None]


def trained(name: str, seed: int, seconds: float, place: Path) -> None:
    """A run of so many seconds."""
    command = [sys.executable, "-m", "twoplayer", "train", name, f"seed={seed}", "--out", str(place), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    if process.returncode not in (0, 130):
        raise SystemExit(f"{name}: {said}")


def measured(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """What a run reached."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        trained(name, seed, seconds, place)
        run = tp.load(place)
        run.grid(25).save(f"time-to-quality-{name}-{seed}.png")
        key, figure = next((key, one) for key, one in run.evaluate(n=IMAGES, seeds=1).items() if key.startswith("fid_"))
        found = {"recipe": name, "seed": seed, "seconds": seconds, "figure": key, "fid": figure["value"]}
        return found | {"floor": figure["floor"], "step": figure["step"], "kimg": run.metrics[-1]["kimg"]}


def table(rows: list[dict[str, Any]]) -> str:
    """Recipes with the best first, as Markdown."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["recipe"], []).append(row)
    lines = ["| recipe | thousands of images | Frechet distance, each seed | mean |", "|---|---|---|---|"]
    for name, own in sorted(by_name.items(), key=lambda item: statistics.fmean(row["fid"] for row in item[1])):
        shown, each = (", ".join(f"{row[key]:,.0f}" for row in own) for key in ("kimg", "fid"))
        lines.append(f"| `{name}` | {shown} | {each} | {statistics.fmean(row['fid'] for row in own):,.0f} |")
    floors = {row["floor"] for row in rows}
    lines.append(f"| real images | | | {min(floors):,.1f} |")
    return "\n".join(lines)


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
            rows.append(measured(name, seed, asked.seconds))
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table([row for row in rows if row["seconds"] == asked.seconds]))


if __name__ == "__main__":
    main()
