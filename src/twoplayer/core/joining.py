"""How processes find each other, and how one that dies ends the others."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any

import torch

from twoplayer.core.console import say
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, OthersGone, Ranks, are_several

TIME_TO_MEET = timedelta(minutes=30)
"""Machines of a cluster may start minutes apart."""

SECONDS_BETWEEN_SIGNS = 1.0
SECONDS_OF_PATIENCE = 20.0
"""Without a sign of life; after that a process counts as dead."""

SECONDS_TO_END = 5.0
"""For a sign of life that is under way."""

PREFIX = "twoplayer"
_times_joined = count()
"""The same on all ranks; what was said in an earlier time is not heard in a later one."""

ENDED, LIVES, DONE = "ended", "lives", "done"
KEEPER = "the process that keeps the others together (rank 0, or its launcher) ended or hangs"


@contextmanager
def joined(device: torch.device, patience: timedelta | None = None) -> Iterator[Ranks]:
    """Inside, this process is one of those that its launcher started; alone where there are no others.

    Where the launcher has made a process group already, as Ray does, that one is used, and left as it is.

    Args:
        device: where this process computes; the exchange goes by NCCL between GPUs, by Gloo between processors.
        patience: how long an exchange waits for a process that lives; torch's own (10 or 30 minutes) when left out.

    Raises:
        UserError: the others cannot be reached.
    """
    if not are_several():
        yield ALONE
        return
    from torch import distributed

    is_ours = not distributed.is_initialized()
    if is_ours:
        try:
            _meet("nccl" if device.type == "cuda" else "gloo", patience)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the other processes cannot be reached: {str(error).splitlines()[0]}") from error
    exchanged = device if distributed.get_backend() == "nccl" else None
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size(), exchanged)
    watch = Watch(ranks)
    watch.begin()
    try:
        yield ranks
        watch.say(DONE, "")
        if is_ours:
            with suppress(RuntimeError):  # whoever is gone already is done too
                distributed.destroy_process_group()
    except OthersGone as error:
        watch.finished.wait(SECONDS_OF_PATIENCE + 5.0)  # the watch knows whose end it was, says so, and ends this one
        watch.say(ENDED, f"an exchange failed: {error}")
        raise UserError(f"an exchange with the other processes failed, though all live: {error}") from error
    except BaseException as error:
        watch.say(ENDED, f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        watch.end()


def _meet(backend: str, patience: timedelta | None) -> None:
    """Form the process group once all are there, so that nobody waits with all patience for one that never comes."""
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://", timeout=TIME_TO_MEET))
    store.set(f"{PREFIX}/there/{rank}", "")
    store.wait([f"{PREFIX}/there/{other}" for other in range(count)], TIME_TO_MEET)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=patience)


class Watch:
    """A thread that gives signs of life, looks for those of the others, and ends this process when one is missing.

    A process that waits for a dead one in an exchange may wait for very long: nothing else can end it.

    Args:
        ranks: this process among all.
    """

    def __init__(self, ranks: Ranks) -> None:
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        self.ranks = ranks
        self.finished = threading.Event()
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        own = TCPStore(host, port, None, False, timeout=timedelta(seconds=SECONDS_OF_PATIENCE), wait_for_workers=False)
        begun = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's own store outlives its workers
        self.store: Any = PrefixStore(f"{PREFIX}/{begun}/{next(_times_joined)}", own)
        self.lock = threading.Lock()
        self.seen: dict[int, tuple[bytes, float]] = {}
        self.missing: str | None = None
        self.heard = 0.0
        self.threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Say who this is, and watch from now on."""
        self.say("name", f"rank {self.ranks.index} (process {os.getpid()} on {socket.gethostname()})")
        self.heard = time.monotonic()
        self.threads = [
            threading.Thread(target=work, name="ranks", daemon=True) for work in (self._listen, self._watch)
        ]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Watch no longer. A thread that is still in the store when Python ends would abort the process."""
        self.finished.set()
        for thread in self.threads:
            thread.join(SECONDS_TO_END)

    def say(self, what: str, words: str) -> None:
        """Something about this process, for the others."""
        if self.lock.acquire(timeout=SECONDS_OF_PATIENCE):  # a store that hangs keeps it
            with suppress(RuntimeError):
                self.store.set(f"{what}/{self.ranks.index}", words)
            self.lock.release()

    def _listen(self) -> None:
        """Exchange signs of life; the store may never answer when the process that keeps it hangs."""
        number = 0
        while self.missing is None and not self.finished.wait(SECONDS_BETWEEN_SIGNS):
            number += 1
            try:
                with self.lock:
                    self.store.set(f"{LIVES}/{self.ranks.index}", str(number))
                    self.missing = self._missing()
            except RuntimeError:  # the store is gone with the process that kept it
                self.missing = KEEPER
            self.heard = time.monotonic()

    def _watch(self) -> None:
        while not self.finished.wait(SECONDS_BETWEEN_SIGNS):
            silent = time.monotonic() - self.heard > SECONDS_OF_PATIENCE
            missing = self.missing or (KEEPER if silent else None)
            if missing and not self.finished.wait(SECONDS_BETWEEN_SIGNS):
                say(f"{missing}; this one (rank {self.ranks.index}) ends too")
                os._exit(1)

    def _missing(self) -> str | None:
        """Which other process ended, in words."""
        now = time.monotonic()
        for rank in set(range(self.ranks.count)) - {self.ranks.index}:
            if self._told(DONE, rank) is not None:
                continue
            name = (self._told("name", rank) or f"rank {rank}".encode()).decode()
            if (why := self._told(ENDED, rank)) is not None:
                return f"{name} ended ({why.decode()})"
            sign = self._told(LIVES, rank) or b""
            before = self.seen.get(rank)
            if before is None or before[0] != sign:
                self.seen[rank] = (sign, now)
            elif now - before[1] > SECONDS_OF_PATIENCE:
                return f"{name} gave no sign of life for {SECONDS_OF_PATIENCE:.0f} s"
        return None

    def _told(self, what: str, rank: int) -> bytes | None:
        key = f"{what}/{rank}"
        return self.store.get(key) if self.store.check([key]) else None
