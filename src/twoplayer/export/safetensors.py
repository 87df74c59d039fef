"""A folder with the weights as safetensors, what they are as JSON, and a model card: what the hub calls a model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from twoplayer.export.format import Format, Leaving
from twoplayer.runs.snapshot import write_snapshot


class SafetensorsFormat(Format):
    """`FOLDER/generator.safetensors`, `config.json`, `README.md`; `twoplayer sample FOLDER` draws from it."""

    name: Literal["safetensors"] = "safetensors"
    ending: ClassVar[str] = ""

    def write(self, leaving: Leaving, out: Path) -> list[str]:
        write_snapshot(out, leaving.generator, leaving.info, leaving.card)
        return []
