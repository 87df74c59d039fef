"""environment.json: what a run was made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import torch

PACKAGES = ("twoplayer", "torch", "numpy", "pillow", "pydantic", "safetensors", "scikit-learn")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor and threads; nothing that names a person or a path."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": describe_device(device),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def describe_device(device: torch.device) -> str:
    """A device in words, with the accelerator's model where there is one."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
