"""Checkpoints: safetensors and JSON with checksums, in a folder that appears whole or not at all.

A folder `step-N` holds `state.safetensors` (every tensor, by its path in the state), `state.json` (everything else) and
`manifest.json` (format, step, SHA-256 of the other two). It is written under a temporary name, flushed to the disk and
renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.runs.files import sync_folder, write_and_flush
from twoplayer.runs.folder import RunFolder

FORMAT = 1
TENSOR_MARK = "tensor:"

logger = logging.getLogger("twoplayer")


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not what its manifest says."""


def write_checkpoint(folder: RunFolder, step: int, tree: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write a checkpoint of `tree` (nested dicts and lists of tensors and plain values).

    A step's state is what it is: when its checkpoint is there and whole, it is left alone.

    Args:
        folder: the run.
        step: generator updates done.
        tree: the training state.
        facts: what has to be equal when it is loaded, for example the data's fingerprint.
    """
    tensors: dict[str, Tensor] = {}
    plain = _split(tree, "", tensors)
    files = {"state.safetensors": save(tensors), "state.json": json.dumps(plain, allow_nan=False).encode()}
    manifest = {
        "format": FORMAT,
        "step": step,
        "facts": facts,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest["self"] = digest_of(manifest)
    files["manifest.json"] = json.dumps(manifest, indent=2).encode()
    final = folder.checkpoint(step)
    if final.exists():
        if _is_whole(final):
            return
        shutil.rmtree(final)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    remove_leftovers(folder)
    try:
        temporary.mkdir()
        for name, content in files.items():
            write_and_flush(temporary / name, content)
        sync_folder(temporary)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(final.parent)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state and the facts of one checkpoint folder, on the CPU.

    Raises:
        DamagedCheckpoint: a file is missing, cut short or altered; the message names it.
        UserError: a newer version of twoplayer wrote it.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if "self" in manifest and manifest.pop("self") != digest_of(manifest):
            raise DamagedCheckpoint(f"{path / 'manifest.json'} does not have its checksum")
        if manifest["format"] > FORMAT:
            raise UserError(f"{path} has checkpoint format {manifest['format']}; upgrade twoplayer to read it")
        contents = {}
        for name, expected in manifest["sha256"].items():
            contents[name] = (path / name).read_bytes()
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise DamagedCheckpoint(f"{path / name} does not have its checksum")
        tensors = load(contents["state.safetensors"])
        return _join(json.loads(contents["state.json"]), tensors), manifest["facts"]
    except (UserError, DamagedCheckpoint):
        raise
    except OSError as error:
        raise DamagedCheckpoint(f"{error.filename}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error}") from error


def digest_of(manifest: dict[str, Any]) -> str:
    """A checksum over what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def read_newest(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None when the run has none. Damaged ones are named in a warning.

    Raises UserError when there are checkpoints but all are damaged.
    """
    steps = folder.checkpoint_steps()[::-1]
    for step in steps:
        try:
            return read_checkpoint(folder.checkpoint(step))
        except DamagedCheckpoint as error:
            logger.warning("damaged checkpoint left out: %s", error)
    if steps:
        raise UserError(f"every checkpoint in {folder.checkpoints} is damaged; start a new run with another --out")
    return None


def best_so_far(folder: RunFolder) -> tuple[int, float] | None:
    """The step of the best checkpoint and its in-training figure, as the newest checkpoint says; no tensor is read."""
    for step in folder.checkpoint_steps()[::-1]:
        try:
            state = json.loads((folder.checkpoint(step) / "state.json").read_bytes())
            best = dict(dict(state["dict"])["best"]["dict"])
            return (best["step"], best["figure"]) if best["step"] else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def prune(folder: RunFolder, keep: int, newest_step: int, best_step: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best.

    Later ones than `newest_step` are damaged leftovers of before a resume; they are not counted and will be replaced.
    """
    for step in [step for step in folder.checkpoint_steps() if step <= newest_step][:-keep]:
        if step != best_step:
            shutil.rmtree(folder.checkpoint(step))


def remove_leftovers(folder: RunFolder) -> None:
    """Remove what a killed writer left under a temporary name."""
    for leftover in folder.checkpoints.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except DamagedCheckpoint:
        return False
    return True


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Move tensors out of a tree, leaving a mark with their path. Dicts become lists of pairs: keys may be numbers."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return f"{TENSOR_MARK}{path}"
    if isinstance(value, dict):
        return {"dict": [[key, _split(inner, f"{path}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_split(inner, f"{path}/{index}", tensors) for index, inner in enumerate(value)]}
    return value


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(TENSOR_MARK):
        return tensors[value.removeprefix(TENSOR_MARK)]
    if isinstance(value, dict) and "dict" in value:
        return {key: _join(inner, tensors) for key, inner in value["dict"]}
    if isinstance(value, dict) and "list" in value:
        return [_join(inner, tensors) for inner in value["list"]]
    return value
