"""How the process is set up before it computes. What is set stays the caller's if the environment already says it.

Training takes and gives back tensors of tens of megabytes all the time. By default glibc asks the system for each anew,
and the first touch of every page costs as much as a pass over it; here freed memory is kept and used again, in huge
pages where the system offers them. OpenMP's threads, when they wait, give the core away sooner than by default: two
trainings on the same cores otherwise slow each other many times over. Numbers below 1e-38 count as zero, because
processors compute with them slowly.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twoplayer.core.cache import cache_folder

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt."""

ENVIRONMENT = {
    "THP_MEM_ALLOC_ENABLE": "1",  # torch asks for huge pages
    "GOMP_SPINCOUNT": "20000",  # turns of a waiting loop before a thread sleeps; the default is 300,000
}
"""What torch and its OpenMP read when they are loaded."""


def set_up_process() -> None:
    """For programs, first thing: the environment of torch, and what `keep_memory` does."""
    if "torch" not in sys.modules:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    keep_memory()


def keep_memory() -> bool:
    """Let glibc keep freed memory for the next use; whether it is glibc that listens. Harmless to call again."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    wanted = {M_MMAP_THRESHOLD: (2**30, 2**25), M_TRIM_THRESHOLD: (2**31 - 1,), M_TOP_PAD: (2**26,)}
    taken = [
        any(library.mallopt(parameter, value) == 1 for value in values)  # older ones refuse a threshold above 32 MiB
        for parameter, values in wanted.items()
    ]
    return all(taken)


def keep_compiled() -> None:
    """Let code that torch compiles be found again by later processes. Before the first compilation."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def flush_denormals() -> bool:
    """Let this thread, and all that it starts from now on, take numbers below 1e-38 for zero; whether it can."""
    import torch

    return torch.set_flush_denormal(True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread: sums of several are rounded differently, and so is what is made of them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
