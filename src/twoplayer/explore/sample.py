"""The tab that draws pictures with a run's averaged generator."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import gradio as gr
from torch import Tensor

from twoplayer.explore.checked import MOST_SEED, bounded, whole
from twoplayer.explore.page import (
    COMPUTED,
    MOST_AT_ONCE,
    MOST_BEST_OF,
    MOST_PICTURES,
    QUIETLY,
    Page,
    alone,
    class_names,
    classes_offered,
    in_words,
    shown_picture,
)
from twoplayer.runs.grid import tile, to_picture

LEAST_TRUNCATION = 0.05
ZIPS_KEPT = 2 * MOST_AT_ONCE


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """Seed, number, class, best of K, truncation; downloads."""
    words = page.words
    zips = tempfile.TemporaryDirectory(prefix="twoplayer-")  # gone with the page

    def explained(key: str) -> dict[str, Any]:
        return {"label": words(key), "info": words(f"{key}-info")}

    with gr.Row():
        with gr.Column(min_width=280, scale=1):
            seed = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed"), elem_id="seed")
            count = gr.Slider(1, MOST_PICTURES, 25, step=1, label=words("count"), elem_id="count")
            label = gr.Dropdown([], label=words("label"), visible=False, elem_id="label")
            best_of = gr.Slider(1, MOST_BEST_OF, 1, step=1, elem_id="best-of", **explained("best-of"))
            truncation = gr.Slider(
                LEAST_TRUNCATION, 1.0, 1.0, step=0.05, elem_id="truncation", **explained("truncation")
            )
            with gr.Row():
                draw = gr.Button(words("draw"), variant="primary", elem_id="draw")
                another = gr.Button(words("another"), elem_id="another")
        with gr.Column(min_width=320, scale=2):
            pictures = shown_picture("pictures")
            with gr.Row():
                packed = gr.DownloadButton(cast(str, words("zip")), visible=False, elem_id="zip")

    @in_words
    def offer(name: Any, request: gr.Request) -> tuple[Any, Any, Any]:
        return classes_offered(page, name, request, any_class=True), None, gr.update(visible=False)

    @in_words
    @alone(page)
    def drawn(name: Any, seed: Any, count: Any, label: Any, best_of: Any, truncation: Any) -> tuple[Any, Any]:
        entry = page.entry(name)
        images = entry.run.sample(
            whole(count, 1, MOST_PICTURES, "pictures"),
            whole(seed, 0, MOST_SEED, "seed"),
            whole(best_of, 1, MOST_BEST_OF, "best of"),
            label or None,
            truncation=bounded(truncation, LEAST_TRUNCATION, 1.0, "truncation"),
        )
        names = class_names(entry)
        in_columns = bool(names) and not label and len(images) >= len(names)
        grid = tile(images, len(names), names) if in_columns else tile(images)
        return grid, gr.update(
            value=zipped(images, Path(zips.name), f"{entry.folder.path.name}-seed-{int(seed)}.zip"), visible=True
        )

    def next_seed(seed: float | None) -> float:
        return ((seed or 0) + 1) % MOST_SEED

    inputs, outputs = [chosen, seed, count, label, best_of, truncation], [pictures, packed]
    chosen.change(offer, chosen, [label, *outputs], **QUIETLY)
    draw.click(drawn, inputs, outputs, **COMPUTED)
    another.click(next_seed, seed, seed, **QUIETLY).then(drawn, inputs, outputs, **COMPUTED)


def zipped(images: Tensor, folder: Path, name: str) -> str:
    """A zip of pictures uint8 [N, C, H, W] at their own size, in a folder where only the newest are kept."""
    place = Path(tempfile.mkdtemp(dir=folder)) / name
    with zipfile.ZipFile(place, "w") as archive:
        for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            with archive.open(f"{number:06d}.png", "w") as file:
                to_picture(image).save(file, "PNG")
    for older in sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime_ns)[:-ZIPS_KEPT]:
        shutil.rmtree(older, ignore_errors=True)
    return str(place)
