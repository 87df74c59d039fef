"""Processes whose launcher has made a process group already, as Ray's workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import twoplayer as tp

WORKER = """
import sys, threading
import torch
from torch import distributed
import twoplayer as tp

def loop():
    for name in ("first", "second"):
        words = ["steps=4", "batch_size=8", "log_every=2", "generator.batch_norm=false"]
        tp.train("digits", *words, out=f"{sys.argv[1]}/{name}", device="cpu", quiet=True)

distributed.init_process_group("gloo")
worker = threading.Thread(target=loop)
worker.start()
worker.join()
here = torch.ones(1)
distributed.all_reduce(here)
assert here == distributed.get_world_size()
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_a_group_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert [tp.load(tmp_path / name).metrics[-1]["step"] for name in ("first", "second")] == [4, 4]
