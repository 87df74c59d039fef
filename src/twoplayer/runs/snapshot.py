"""RUN/generator: the averaged generator for use, without anything that only training needs."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from twoplayer.core.errors import UserError
from twoplayer.recipes.schema import AnyGenerator, AnyLatents
from twoplayer.runs.files import write_atomically, write_text

FORMAT = 1


class SnapshotInfo(BaseModel):
    """What has to be known to build and use a generator.

    Attributes:
        format: of this file.
        recipe: name of the recipe.
        step: generator updates behind these weights.
        kimg: thousands of real images shown to D.
        image_shape: channels, height, width.
        class_names: of the training data; empty for unlabeled data.
        data_source: what the training data was called.
        data_sha256: fingerprint of the training data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    recipe: str
    step: int
    kimg: float
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data_source: str
    data_sha256: str
    latents: AnyLatents
    generator: AnyGenerator

    def build(self) -> nn.Module:
        """The generator with fresh weights."""
        return self.generator.build(self.latents.dim, self.image_shape, len(self.class_names))


def write_snapshot(folder: Path, generator: nn.Module, info: SnapshotInfo) -> None:
    """Write weights, configuration and model card, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    write_atomically(folder / "generator.safetensors", save(weights, {"format": "pt"}))
    write_text(folder / "config.json", info.model_dump_json(indent=2) + "\n")
    write_text(folder / "README.md", model_card(info))


def read_snapshot(folder: Path) -> tuple[nn.Module, SnapshotInfo]:
    """The generator in evaluation mode. Raises UserError when the folder holds none or a damaged one."""
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise UserError(f"{folder} has format {found}; upgrade twoplayer to read it")
        info = SnapshotInfo.model_validate(raw)
        generator = info.build()
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no generator yet; train for at least one checkpoint") from error
    except UserError:
        raise
    except (ValueError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder} is damaged: {str(error).splitlines()[0]}") from error
    return generator.eval(), info


def model_card(info: SnapshotInfo) -> str:
    """A README that says what the generator is, was trained on, and how to use it."""
    channels, height, width = info.image_shape
    colors = "gray" if channels == 1 else "color"
    return f"""# {info.recipe}

A generator of {height}x{width} {colors} images, trained with twoplayer.

| | |
|---|---|
| recipe | `{info.recipe}` |
| training data | `{info.data_source}`, SHA-256 `{info.data_sha256}` |
| training | {info.step:,} steps, {info.kimg:,.1f} thousand real images |
| input | {info.latents.dim} {info.latents.name} latents |
| network | `{info.generator.name}` |

Use, from the folder of the run:

```python
import twoplayer as tp

images = tp.load("RUN").sample(16)  # uint8 [16, {channels}, {height}, {width}]
```

The images are invented. They resemble the training data and share its limits and its rights.
"""
