"""What the program sets up for itself: seen from inside fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twoplayer.core.process import ENVIRONMENT


def told_by(code: str, **environment: str) -> str:
    free = {key: value for key, value in os.environ.items() if key not in {*ENVIRONMENT, "OMP_NUM_THREADS"}}
    done = subprocess.run(
        [sys.executable, "-c", code], env=free | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_is_set_before_torch_is_loaded_and_not_over_the_users() -> None:
    code = """
import os, sys
from twoplayer.core.process import set_up_process
assert 'torch' not in sys.modules
set_up_process()
print(os.environ['GOMP_SPINCOUNT'], os.environ['THP_MEM_ALLOC_ENABLE'])
"""
    assert told_by(code) == "20000 1"
    assert told_by(code, GOMP_SPINCOUNT="7") == "7 1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux does")
@pytest.mark.slow
def test_freed_memory_is_used_again_without_new_pages() -> None:
    """80 MB taken and given back 20 times: page by page each time by default, once with the set-up."""
    code = """
import resource, sys
from twoplayer.core.process import set_up_process
{set_up}
import torch
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(20_000_000)
before = faults()
for _ in range(20): torch.ones(20_000_000)
print(faults() - before)
"""
    if "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("another C library")
    assert int(told_by(code.format(set_up="set_up_process()"))) < 1_000
    assert int(told_by(code.format(set_up=""))) > 10_000


def test_denormals_are_zero_on_every_thread() -> None:
    code = """
import torch
from twoplayer.core.process import flush_denormals
can = flush_denormals()
torch.set_num_threads(4)
small = torch.full((4_000_000,), 1e-30)
print(can, int((small * 1e-10).count_nonzero()))
"""
    assert told_by(code) in ("True 0", "False 4000000")
