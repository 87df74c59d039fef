"""Model cards: what a trained network is, was trained on, how good it is, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from twoplayer.runs.snapshot import ClassifierInfo, SnapshotInfo


def generator_card(info: SnapshotInfo, figures: Mapping[str, Any] | None = None, licence: str = "") -> str:
    """A README that says what the generator is, was trained on, how good it is, and how to use it.

    Args:
        info: what it is.
        figures: those of `evaluate`, with where they come from.
        licence: under which it may be used, as an SPDX id; the place is left open without it.
    """
    channels, height, width = info.image_shape
    kind = f"{height}x{width} {'gray' if channels == 1 else 'color'} images"
    told = f", and a class: {', '.join(info.class_names)}" if "labels" in info.generator.takes else ""
    front = {"library_name": "twoplayer", "pipeline_tag": "unconditional-image-generation", "tags": ["gan"]}
    front |= {"license": licence} if licence else {}
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# {info.recipe}

A generator of {kind}, trained with twoplayer.

| | |
|---|---|
| recipe | `{info.recipe}` |
| training data | `{info.data_source}`, SHA-256 `{info.data_sha256}` |
| training | {info.step:,} steps, {info.kimg:,.1f} thousand real images |
| input | {info.latents.dim} {info.latents.name} latents{told} |
| output | images [N, {channels}, {height}, {width}] in [-1, 1] |
| network | `{info.generator.name}` |
| licence | {licence or "not chosen; the training data's own terms hold in any case"} |

## Figures

{figures_table(figures)}

## Use

From this folder, with `pip install twoplayer`:

```python
import twoplayer as tp

images = tp.load_generator("FOLDER").sample(16)  # uint8 [16, {channels}, {height}, {width}]
```

Meant for study and play. The images are invented. They resemble the training data and share its limits and its rights:
what the data shows too seldom, they show too seldom or not at all.
"""


def figures_table(figures: Mapping[str, Any] | None) -> str:
    """Figures with spread, floor and where they come from, as a Markdown table."""
    found = single_figures(figures or {})
    if not found:
        return "None were taken; `twoplayer evaluate` takes them."
    rows = [
        f"| {name} | {measured(each['value'])} +- {measured(each['spread'])} "
        f"| {measured(each['floor'])} | {each['better']} | {provenance(each)} |"
        for name, each in found.items()
    ]
    head = "| figure | value | floor (real against real) | better | from |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def single_figures(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of what `evaluate` found, the figures that are one number."""
    return {name: each for name, each in figures.items() if isinstance(each, dict) and "value" in each}


def provenance(figure: Mapping[str, Any]) -> str:
    """Where a figure comes from."""
    counts = f"step {figure['step']:,}, {figure['n_fake']:,} fakes, {figure['n_real']:,} real of {figure['data']}"
    return f"{counts} {figure['split']}, {figure['seeds']} seeds{extracted(figure)}"


def extracted(figure: Mapping[str, Any]) -> str:
    """Whose features a figure is made of, where it is made of features."""
    return f", features of {figure['extractor']['id']}" if "extractor" in figure else ""


def number(value: float | None) -> str:
    """Four digits; "-" for none."""
    return "-" if value is None else f"{value:.4g}"


def measured(value: float | None) -> str:
    """Of a figure its value, spread or floor, four digits; what JSON has no number for, and calls null, is infinite."""
    return number(float("inf") if value is None else value)


def classifier_card(info: ClassifierInfo) -> str:
    """A README that says what the classifier is, was trained on, and how to use it."""
    channels, height, width = info.image_shape
    colors = "gray" if channels == 1 else "color"
    return f"""# {info.recipe}: classifier

Names the class of {height}x{width} {colors} images: {", ".join(info.class_names)}.
The discriminator of a GAN, trained with twoplayer.

| | |
|---|---|
| recipe | `{info.recipe}` |
| training data | `{info.data_source}`, SHA-256 `{info.data_sha256}` |
| training | {info.step:,} steps, {info.kimg:,.1f} thousand real images |
| network | `{info.discriminator.name}` |

Use, from the folder of the run, with images as float [N, {channels}, {height}, {width}] in [-1, 1]:

```python
import twoplayer as tp

classes = tp.load("RUN").classifier(images).class_logits.argmax(1)  # places in the list above
```
"""
