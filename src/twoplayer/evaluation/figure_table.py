"""Figures as a table for a person: in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twoplayer.core.metric import badness
from twoplayer.core.tables import Table
from twoplayer.evaluation.figures import provenance
from twoplayer.runs.cards import measured

BETTER = {"lower": "lower", "higher": "higher", "half": "0.5"}
HEAD = ("figure", "fakes", "+-", "floor", "+-", "better")


class FigureTable(dict[str, dict[str, Any]]):
    """What `evaluate` found: a dict by figure, as in RUN/evaluation.json, that shows itself as a table."""

    @property
    def table(self) -> Table:
        """With floor, spread and where the figures come from."""
        known = "sliced-wasserstein" in self
        below = remarks(self) if known else []
        return Table(HEAD, rows(self), above=provenance(self) if known else [], below=below, words=(0, len(HEAD) - 1))

    def __repr__(self) -> str:
        try:
            return self.table.text()
        except (KeyError, TypeError, ValueError, AttributeError):  # somebody changed what is in it
            return super().__repr__()

    def _repr_html_(self) -> str | None:
        try:
            return self.table.html()
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def rows(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Figures in rows; the floor is what real images would get in the place of the fakes."""
    test = figures.get("test-pass", {})
    found = [
        [name, measured(value), measured(test["spreads"][name]), "", "", ""]
        for name, value in test.get("means", {}).items()
    ]
    for name, figure in figures.items():
        if "value" in figure:
            cells = (measured(figure[key]) for key in ("value", "spread", "floor", "floor_spread"))
            found.append([name, *cells, BETTER[figure["better"]]])
    return found


def remarks(figures: Mapping[str, Any]) -> list[str]:
    """What does not fit into a table."""
    lines = []
    for name, figure in figures.items():
        if "shares" in figure:
            shares = ", ".join(f"{label} {share:.1%}" for label, share in figure["shares"].items())
            lines.append(f"{name}: {shares}")
        if "nearer_to_train" in figure:
            share, ratio = figure["nearer_to_train"], figure["distance_ratio"]
            lines.append(
                f"{name}: {share['value']:.1%} +- {share['spread']:.1%} of the fakes nearer to training than to "
                f"held-out images (held-out images themselves: {share['floor']:.1%}, copies: 100 %); distance "
                f"{measured(ratio['value'])} of the usual"
            )
        if figure.get("deviation") is not None:
            lines.append(f"{name}: standard deviation over subsets {measured(figure['deviation'])}")
    if "classifier" in figures:
        errors = figures["classifier"]
        lines.append(f"classifier: {errors['errors']:,} errors in {errors['n_real']:,} ({errors['error']:.2%})")
    if "series" in figures:
        lines += courses(figures)
    if "doctor" in figures:
        lines += diagnosis(figures["doctor"])
    return lines + [f"note: {text}" for text in figures["sliced-wasserstein"].get("warnings", [])]


def courses(figures: Mapping[str, Any]) -> list[str]:
    """Of each figure the best checkpoint and the last, as lines for a person."""
    lines = []
    for name, points in figures["series"].items():
        known = [point for point in points if point["value"] is not None]
        if known:
            best = min(known, key=lambda point: badness(figures[name]["better"], point["value"]))
            lines.append(
                f"{name}: best {measured(best['value'])} at step {best['step']:,}, "
                f"last {measured(points[-1]['value'])} at step {points[-1]['step']:,}"
            )
    return lines


def diagnosis(said: Mapping[str, Any]) -> list[str]:
    """What the doctor says, as lines for a person."""
    lines = [] if said["findings"] else [f"doctor: {said['verdict']}"]
    for finding in said["findings"]:
        lines.append(f"doctor: {finding['name']} since step {finding['since']:,}: {finding['evidence']}; worth a try:")
        lines += [f"    {remedy}" for remedy in finding["remedies"]]
    if said["not_examined"]:
        lines.append(f"doctor: not examined: {'; '.join(said['not_examined'])}")
    return lines
