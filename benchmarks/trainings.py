"""What benchmarks of whole trainings share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from twoplayer.core.errors import Diverged
from twoplayer.runs.folder import RunFolder


def train_to_the_end(words: Sequence[str], place: Path, threads: int) -> None:
    """`twoplayer train WORDS --out PLACE`, unless that has been done; what was stopped goes on.

    A divergence is an end too; with any other this process ends.
    """
    if RunFolder(place).failure.exists():
        return
    words = ["--resume"] if (place / "config.yaml").exists() else words
    command = [sys.executable, "-m", "twoplayer", "train", *words, "--out", str(place), "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment)
    if ended.returncode not in (0, Diverged.exit_code):
        raise SystemExit(f"{place}: ended with {ended.returncode}")
