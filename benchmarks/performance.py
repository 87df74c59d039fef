"""Measure what steps, pictures and batches cost, and write docs/performance.md with its plots.

    python benchmarks/performance.py measure --out results.json [--keras PYTHON] [SECTION ...]
    python benchmarks/performance.py page --out results.json --curves FAST PLAIN

`measure` runs the cases of performance.yaml one after the other and keeps each answer; what is there already is not
measured again. `page` needs the folders of two runs, `twoplayer train mnist-wgan-gp steps=200 log_every=5 fast=true`
and the same with `fast=false`. Leave the machine alone meanwhile: ratios survive neighbors, milliseconds do not.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
CASES = HERE / "performance.yaml"
HEAD = HERE / "performance_head.md"
PAGE = HERE.parent / "docs" / "performance.md"
PICTURES = HERE.parent / "docs" / "images" / "performance"
ROUNDS = 5
OURS, PLAIN, ACCENT = "#00798c", "#9a9a9a", "#d1495b"

CURVES = """## The same training

![Losses of the fast and the plain step](images/performance/curves.png)

200 steps of `mnist-wgan-gp` from the same weights on the same images, `fast=true` and `fast=false`. The two draw
dropout in another order, so that the games drift apart as two runs with other dropout do.
"""

Results = dict[str, dict[str, Any]]


def sections() -> dict[str, dict[str, Any]]:
    """By name: a title and its cases."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(CASES.read_text())
    return loaded


def measure(out: Path, wanted: list[str], keras: str | None) -> None:
    """Measure every case that is not there yet."""
    results: Results = json.loads(out.read_text()) if out.exists() else {}
    for name, section in sections().items():
        for case in section["cases"]:
            if case in results or (wanted and name not in wanted):
                continue
            extra = ["--against", "keras", "--keras", keras] if keras and case == "step --recipe mnist-wgan-gp" else []
            words = [*shlex.split(case), *extra, "--rounds", str(ROUNDS), "--json"]
            answer = subprocess.run(
                [sys.executable, "-m", "twoplayer", "bench", *words], capture_output=True, text=True
            )
            if answer.returncode:
                print(f"{case}: {answer.stderr.strip()}", flush=True)
                continue
            results[case] = json.loads(answer.stdout) | {"capability": torch.backends.cpu.get_cpu_capability()}
            out.write_text(json.dumps(results))
            print(f"{case}: {results[case]['speedup_over_plain_pytorch']:.2f}", flush=True)


def page(out: Path, curves: list[Path]) -> None:
    """Write the page and its plots."""
    results: Results = json.loads(out.read_text())
    PICTURES.mkdir(parents=True, exist_ok=True)
    any_result = next(iter(results.values()))
    machine = f"{any_result['threads']} threads of a processor with {any_result['capability']}"
    parts = [
        HEAD.read_text().format(machine=machine, torch=any_result["environment"]["packages"]["torch"], rounds=ROUNDS)
    ]
    for name, section in sections().items():
        found = [(case, results[case]) for case in section["cases"] if case in results]
        if not found:
            continue
        parts.append(f"## {section['title']}\n")
        parts.append(step_table(found) if "gradient_errors" in found[0][1] else rate_table(found))
        if name == "recipes":
            parts.append("![Speed-up over plain PyTorch, by recipe](images/performance/recipes.png)\n")
            parts.append(against_keras(results["step --recipe mnist-wgan-gp"]))
    parts.append("![Cost of mnist-wgan-gp against batch, image size and width](images/performance/cost.png)\n")
    recipes_plot([(case, results[case]) for case in sections()["recipes"]["cases"] if case in results])
    cost_plot(results)
    if curves:
        curve_plot(*curves)
        parts.append(CURVES)
    PAGE.write_text("\n".join(parts).rstrip() + "\n")


def step_table(found: list[tuple[str, dict[str, Any]]]) -> str:
    """Cases of `bench step`."""
    names = (
        "`twoplayer bench`",
        "images",
        "ms per step",
        "plain PyTorch",
        "speed-up",
        "of the peak",
        "gradients off by",
    )
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for case, each in found:
        ours, plain = each["contenders"][:2]
        errors = (each["gradient_errors"][key] for key in ("twoplayer in float64", "twoplayer"))
        cells = (
            f"`{case}`",
            f"{each['batch_size']} of {size(each)}",
            milliseconds(ours["ms_per_step"]),
            milliseconds(plain["ms_per_step"]),
            f"**{each['speedup_over_plain_pytorch']:.2f}**",
            f"{ours['share_of_peak']:.0%}",
            ", ".join(f"{error:.0e}" for error in errors),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def milliseconds(value: float) -> str:
    """With two or three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate_table(found: list[tuple[str, dict[str, Any]]]) -> str:
    """Cases of `bench sample` and `bench data`."""
    lines = ["| `twoplayer bench` | images | per second | plain PyTorch | speed-up |", "|---|---|---|---|---|"]
    for case, each in found:
        ours, plain = (one["images_per_second"] for one in each["contenders"])
        ratio = each["speedup_over_plain_pytorch"]
        lines.append(f"| `{case}` | {size(each)} | {ours:,.0f} | {plain:,.0f} | **{ratio:.2f}** |")
    return "\n".join(lines) + "\n"


def against_keras(each: dict[str, Any]) -> str:
    """The original framework beside ours, where it was measured."""
    ours, *others = each["contenders"]
    if len(others) < 2:
        return ""
    beside = ", ".join(f"{ours_ms(one, ours):.2f} times {one['name']}" for one in others)
    return f"`mnist-wgan-gp` in one run of four contenders: {beside}.\n"


def ours_ms(other: dict[str, Any], ours: dict[str, Any]) -> float:
    """How many times as long the other takes."""
    return float(other["ms_per_step"] / ours["ms_per_step"])


def size(each: dict[str, Any]) -> str:
    """Of an image: 28x28x1."""
    channels, height, width = each["shape"]
    return f"{height}x{width}x{channels}"


def recipes_plot(found: list[tuple[str, dict[str, Any]]]) -> None:
    """Bars: how many times as fast as plain PyTorch."""
    figure, (axes,) = blank(1, (8, 0.36 * len(found) + 1))
    ordered = sorted(found, key=lambda one: one[1]["speedup_over_plain_pytorch"])
    names = [f"{label(case)}  {size(each)}" for case, each in ordered]
    values = [each["speedup_over_plain_pytorch"] for _, each in ordered]
    bars = axes.barh(names, values, color=OURS, height=0.66)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
    axes.axvline(1.0, color=ACCENT, linewidth=1.2)
    axes.set(xlabel="times as fast as plain PyTorch (red: equal)", xlim=(0, max(values) * 1.12))
    axes.tick_params(labelsize=8)
    figure.savefig(PICTURES / "recipes.png")


def label(case: str) -> str:
    """A case in a plot: its recipe, or what is played instead."""
    return "resnet with r1" if "resnet" in case else shlex.split(case)[2]


def cost_plot(results: Results) -> None:
    """Images per second against batch, image size and width, both ways."""
    figure, panels = blank(3, (11, 3.4))
    for axes, name in zip(panels, ("batch", "size", "width"), strict=True):
        cases = [case for case in sections()[name]["cases"] if case in results]
        at = [int(shlex.split(case)[{"batch": 3, "size": 4, "width": 4}[name]].split("=")[1]) for case in cases]
        for number, (who, color) in enumerate((("twoplayer", OURS), ("plain PyTorch", PLAIN))):
            rates = [
                results[case]["batch_size"] * 1e3 / results[case]["contenders"][number]["ms_per_step"] for case in cases
            ]
            axes.plot(at, rates, "o-", color=color, label=who, linewidth=1.6)
        axes.set(
            xlabel={"batch": "batch size", "size": "image side, pixels", "width": "filters of G's first map"}[name]
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks(at, [str(value) for value in at])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("images per second")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(PICTURES / "cost.png")


def curve_plot(fast: Path, plain: Path) -> None:
    """Losses of two runs over each other."""
    figure, panels = blank(2, (9, 3.4))
    for axes, key in zip(panels, ("loss/generator", "loss/discriminator"), strict=True):
        for run, name, color in ((fast, "fast", OURS), (plain, "plain", PLAIN)):
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            axes.plot([row["step"] for row in rows], [row[key] for row in rows], color=color, label=name, linewidth=1.6)
        axes.set(xlabel="step", ylabel=key.replace("loss/", "loss of the "))
        axes.grid(alpha=0.25)
    panels[0].legend(frameon=False)
    figure.savefig(PICTURES / "curves.png")


def blank(columns: int, inches: tuple[float, float]) -> tuple[Figure, list[Any]]:
    """A figure with axes side by side."""
    figure = Figure(figsize=inches, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("sections", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keras")
    parser.add_argument("--curves", type=Path, nargs=2, default=[])
    given = parser.parse_args()
    if given.what == "measure":
        measure(given.out, given.sections, given.keras)
    else:
        page(given.out, given.curves)


if __name__ == "__main__":
    main()
