"""One HTML file that runs the generator in the browser of whoever opens it: no server, no network.

The model, the runtime and the page are in the file, compressed; the page forbids itself any connection. Its first
pictures are those of `twoplayer sample --seed 0`, from the same latents; further ones are drawn by the page.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Bounded
from twoplayer.core.rng import Stream
from twoplayer.export.format import Format, Leaving
from twoplayer.export.onnx import onnx_model
from twoplayer.export.runtime import WebRuntime, web_runtime
from twoplayer.runs.files import write_atomically
from twoplayer.runs.sampling import BLOCK, latents_of
from twoplayer.runs.snapshot import SnapshotInfo


class HtmlFormat(Format):
    """`FILE.html`: pictures, sliders for the latents, classes, a walk between two pictures."""

    name: Literal["html"] = "html"
    ending: ClassVar[str] = ".html"

    def write(self, leaving: Leaving, out: Path) -> list[str]:
        if "condition" in leaving.info.generator.takes:
            raise UserError("--format html: this generator takes a condition, which a page cannot ask for")
        runtime = web_runtime()
        model, off = onnx_model(leaving.generator, leaving.info)
        content = page(model, leaving.info, runtime).encode()
        write_atomically(out, content)
        words = f"largest difference of a pixel from PyTorch in onnxruntime: {off:.1e} of 2"
        return [words, f"{len(content) / 2**20:.1f} MiB; open it in any browser"]


def page(model: bytes, info: SnapshotInfo, runtime: WebRuntime) -> str:
    """The whole file."""
    parts = {
        "TITLE": html.escape(info.recipe),
        "FACTS": json.dumps(facts(info)).replace("<", "\\u003c"),
        "MODEL": packed(model),
        "CODE": packed(runtime.code),
        "PROGRAM": packed(runtime.program),
    }
    text = files("twoplayer.export").joinpath("page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def facts(info: SnapshotInfo) -> dict[str, Any]:
    """What the page has to know, and its first latents: float32, BLOCK after each other."""
    latents = info.latents
    first = latents_of(latents, range(BLOCK), Stream(0).child("sample"), torch.zeros(1)).numpy()
    bounds = [latents.low, latents.high] if isinstance(latents, Bounded) else None
    return {
        "recipe": info.recipe,
        "step": info.step,
        "kimg": info.kimg,
        "data": info.data_source,
        "shape": info.image_shape,
        "classes": info.class_names if "labels" in info.generator.takes else [],
        "dim": latents.dim,
        "bounds": bounds,
        "first": base64.b64encode(first.astype("<f4").tobytes()).decode(),
    }


def packed(content: bytes) -> str:
    """gzip, base64."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
