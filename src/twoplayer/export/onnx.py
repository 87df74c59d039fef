"""ONNX: the generator as one file that runs wherever an ONNX runtime does.

Source: https://onnx.ai; written by torch's exporter (https://docs.pytorch.org/docs/stable/onnx.html), which needs the
extra `onnx`. Inputs are `latents` [batch, latent_dim] and what a conditional generator is told: `labels` int64 [batch]
or `condition` float [batch, ...]; the output is `images` [batch, C, H, W] in [-1, 1]. The batch size is free.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.modes import mode
from twoplayer.core.rng import Stream
from twoplayer.export.format import Format, Leaving
from twoplayer.runs.files import write_atomically
from twoplayer.runs.sampling import in_turn
from twoplayer.runs.snapshot import SnapshotInfo

OPSET = 18
TOLERANCE = 1e-4
"""How far a pixel of the exported generator may be from PyTorch's, in images in [-1, 1]."""

CHECKED = (1, 3, 8)
"""Batch sizes of the check."""


class OnnxFormat(Format):
    """`FILE.onnx`, compared with PyTorch in onnxruntime before it is written."""

    name: Literal["onnx"] = "onnx"
    ending: ClassVar[str] = ".onnx"

    def write(self, leaving: Leaving, out: Path) -> list[str]:
        model, off = onnx_model(leaving.generator, leaving.info)
        write_atomically(out, model)
        return [f"largest difference of a pixel from PyTorch in onnxruntime: {off:.1e} of 2"]


def onnx_model(generator: nn.Module, info: SnapshotInfo, condition: Tensor | None = None) -> tuple[bytes, float]:
    """An ONNX model that draws what the generator draws, and how far a pixel is off at most.

    Args:
        generator: in evaluation mode, on the CPU.
        info: what it is.
        condition: of one image [1, ...], for a generator that takes one; a coarser image of zeros when left out.

    Raises:
        UserError: the extra is not installed, or the runtime draws other pictures.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs the extra (there is no {error.name}): pip install 'twoplayer[onnx]'") from error
    inputs = inputs_of(info, 2, condition)
    latents, *told = inputs.items()
    first = next(iter(inspect.signature(generator.forward).parameters))
    free = {0: torch.export.Dim.DYNAMIC}
    with mode(generator, training=False), quiet(), torch.no_grad():
        program = torch.onnx.export(
            generator,
            (latents[1],),
            kwargs=dict(told),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["images"],
            dynamic_shapes={first: free} | {name: free for name, _ in told},
            verbose=False,
        )
    assert program is not None
    model: Any = program.model_proto
    for graph in (model.graph, *model.functions):  # the exporter notes in which lines of which files it found a node
        for part in (graph, *graph.node, *graph.value_info, *getattr(graph, "initializer", ())):
            del part.metadata_props[:]
            part.doc_string = ""
    for key, value in facts(info).items():
        model.metadata_props.add(key=key, value=value)
    found: bytes = model.SerializeToString()
    off = difference(found, generator, info, condition)
    if not off <= TOLERANCE:
        raise UserError(f"the exported generator is off by {off:.1e} in onnxruntime, more than {TOLERANCE:.0e}")
    return found, off


def inputs_of(info: SnapshotInfo, n: int, condition: Tensor | None = None) -> dict[str, Tensor]:
    """Latents and what the generator is told, for n images, by the names of the inputs."""
    found = {"latents": info.latents.draw(n, Stream(0).child("export"), torch.zeros(1))}
    if "labels" in info.generator.takes:
        found["labels"] = in_turn(range(len(info.class_names)), n)
    if "condition" in info.generator.takes:
        one = torch.zeros(1, *info.image_shape) if condition is None else condition
        found["condition"] = one.expand(n, *one.shape[1:]).contiguous()
    return found


def difference(model: bytes, generator: nn.Module, info: SnapshotInfo, condition: Tensor | None = None) -> float:
    """The largest distance of a pixel in onnxruntime from PyTorch's, over several batch sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in CHECKED:
        inputs = inputs_of(info, n, condition)
        told = {name: value for name, value in inputs.items() if name != "latents"}
        with mode(generator, training=False), torch.no_grad():
            ours = generator(inputs["latents"], **told)
        theirs = torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])
        assert theirs.shape == ours.shape
        worst = max(worst, float((theirs - ours).abs().max()))
    return worst


def facts(info: SnapshotInfo) -> dict[str, str]:
    """What the file says of itself."""
    return {
        "recipe": info.recipe,
        "step": str(info.step),
        "latents": info.latents.model_dump_json(),
        "class_names": "\n".join(info.class_names),
        "data": info.data_source,
        "data_sha256": info.data_sha256,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of its own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
