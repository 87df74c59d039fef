"""Pictures decoded once into a file of bytes that is mapped into memory from then on.

A prepared set lies under `cache_folder()/data`, named by everything that it depends on: which files (names, sizes,
times), the form, the version of this code and of Pillow. Chunks are decoded in parallel; what is done is written down
chunk by chunk, so that an interrupted preparation goes on. Memory holds a few chunks at a time, however many pictures
there are, and afterwards what the system keeps of the file.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from twoplayer.core.cache import cache_folder
from twoplayer.core.errors import UserError
from twoplayer.data.collection import Collection, digest_of, tried
from twoplayer.data.form import Form
from twoplayer.data.kept import DAMAGE, FILES, Prepared, allocated, locked, mapped, opened
from twoplayer.data.pictures import BadPicture, decode, header, shown

VERSION = 1
"""Of what is written; another one prepares anew."""

CHUNK = 256
"""Pictures that a thread decodes at a time."""

MOST_BAD = 0.01
"""The share of pictures that may be unreadable where they are skipped."""

UNDONE, GOOD, BAD = 0, 1, 2

Told = Callable[[int, int], None]
"""Is told how many pictures of how many are done."""


def nobody(done: int, n: int) -> None:
    """Is told and shows nothing."""


BadImages = Literal["error", "skip"]


def prepared(collection: Collection, form: Form, bad_images: BadImages, told: Told) -> Prepared:
    """The pictures of a collection in one form, from the cache where they have been prepared before.

    Raises:
        UserError: a picture cannot be read, or too many; they differ in size and the form says none; no space.
    """
    key = digest_of([VERSION, PIL.__version__, form, bad_images, len(collection), collection.identity])
    folder = cache_folder() / "data" / key[:32]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _forget_older(folder, collection, form, bad_images)
        if (folder / "facts.json").is_file():
            try:
                return opened(folder)
            except DAMAGE:  # made again
                for each in FILES:
                    (folder / each).unlink(missing_ok=True)
        _prepare(folder, collection, form, bad_images, told)
        return opened(folder)


def _prepare(folder: Path, collection: Collection, form: Form, bad_images: BadImages, told: Told) -> None:
    shape = _shape(collection, form, bad_images)
    form = Form(form.image_size, shape[0], form.crop)
    _require_space(folder, collection, shape)
    size = len(collection) * int(np.prod(shape))
    if not (folder / "images.u8").exists() or (folder / "images.u8").stat().st_size != size:
        (folder / "state.u8").unlink(missing_ok=True)  # what it says is of other pixels
    images = mapped(folder / "images.u8", (len(collection), *shape))
    state = mapped(folder / "state.u8", (len(collection),))
    bad: dict[int, BadPicture] = {}

    def done(numbers: list[int], errors: dict[int, BadPicture]) -> None:
        if errors and bad_images == "error":
            raise errors[min(errors)]
        images.flush()  # pictures before the word that they are there
        state[numbers] = GOOD
        state[list(errors)] = BAD
        state.flush()
        bad.update(errors)
        _require_few(bad, len(collection))
        told(int((state != UNDONE).sum()), len(collection))

    state[state == BAD] = UNDONE  # of an interrupted preparation: their words are not kept
    given_up = threading.Event()
    for numbers, errors in _in_parallel(_tasks(collection, state, form, images, given_up), given_up):
        done(numbers, errors)
    if (state == UNDONE).any():
        raise UserError(f"{collection.text} has changed while it was read; begin again")
    rows = np.flatnonzero(state == GOOD)
    if len(rows) == 0:
        raise UserError(f"no picture of {collection.text} can be read: {bad[min(bad)]}")
    (folder / "state.u8").unlink()  # from here on rows move: what is interrupted now begins anew
    for place, row in enumerate(rows if bad else ()):
        images[place] = images[row]
    images.flush()
    os.truncate(folder / "images.u8", len(rows) * int(np.prod(shape)))
    np.save(folder / "rows.npy", rows)
    facts = {
        "shape": [len(rows), *map(int, shape)],
        "bad": [f"{shown(collection.names[number])} ({bad[number].why})" for number in sorted(bad)],
    }
    temporary = folder / "facts.tmp"
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(folder / "facts.json")


def _tasks(
    collection: Collection, state: np.ndarray, form: Form, images: np.ndarray, given_up: threading.Event
) -> Iterator[Callable[[], tuple[list[int], dict[int, BadPicture]]]]:
    """Pieces of work, each for one chunk of the pictures that are not done; what is given up ends with its picture."""

    def place(number: int, encoded: bytes | BadPicture, errors: dict[int, BadPicture]) -> None:
        try:
            if isinstance(encoded, BadPicture):
                raise encoded
            found = decode(encoded, collection.names[number], form, collection.where(number))
            if found.shape != images.shape[1:]:
                raise differing(collection)
            images[number] = found
        except BadPicture as error:
            errors[number] = error

    def work(chunk: list[tuple[int, bytes | BadPicture]]) -> tuple[list[int], dict[int, BadPicture]]:
        errors: dict[int, BadPicture] = {}
        for number, encoded in chunk:
            if given_up.is_set():
                break
            place(number, encoded, errors)
        return [number for number, _ in chunk], errors

    def read_and_work(numbers: list[int]) -> tuple[list[int], dict[int, BadPicture]]:
        return work([(number, tried(collection, number)) for number in numbers if not given_up.is_set()])

    if collection.is_random and collection.groups is None:
        undone = np.flatnonzero(state == UNDONE)
        for start in range(0, len(undone), CHUNK):
            yield partial(read_and_work, undone[start : start + CHUNK].tolist())
        return
    waiting = ((number, encoded) for number, encoded in collection.stream() if state[number] == UNDONE)
    while chunk := list(islice(waiting, CHUNK)):
        yield partial(work, chunk)


def _in_parallel(tasks: Iterator[Callable[[], Any]], given_up: threading.Event) -> Iterator[Any]:
    """Results in order; no more tasks begun than a few for each thread; `given_up` when no more are wanted."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        begun: list[Future[Any]] = [pool.submit(task) for task in islice(tasks, 2 * workers)]
        try:
            while begun:
                yield begun.pop(0).result()
                begun += [pool.submit(task) for task in islice(tasks, 1)]
        finally:
            given_up.set()
            for each in begun:
                each.cancel()


def _shape(collection: Collection, form: Form, bad_images: BadImages) -> tuple[int, int, int]:
    """(C, H, W) of every picture. Reads headers where the form does not say it. Raises UserError."""
    if form.image_size is not None and form.channels is not None:
        return form.channels, form.image_size, form.image_size
    sizes, is_gray = set(), True
    for number, encoded in collection.stream():
        try:
            if isinstance(encoded, BadPicture):
                raise encoded
            found = header(encoded, collection.where(number))
        except BadPicture:
            if bad_images == "error":
                raise
            continue
        sizes.add(found.size)
        is_gray = is_gray and found.is_gray
    if not sizes:
        raise UserError(f"no picture of {collection.text} can be read")
    if form.image_size is None and len(sizes) > 1:
        raise differing(collection)
    width, height = min(sizes) if form.image_size is None else (form.image_size, form.image_size)
    return form.channels or (1 if is_gray else 3), height, width


def most_bad(n: int) -> float:
    """How many of n pictures may be left out."""
    return max(MOST_BAD * n, 1)


def differing(collection: Collection) -> UserError:
    """The error for pictures of several sizes where the form says none."""
    return UserError(f"{collection.text}: pictures differ in size; say the one to use, for example data.image_size=64")


def _require_few(bad: dict[int, BadPicture], n: int) -> None:
    if len(bad) > most_bad(n):
        raise UserError(
            f"{len(bad)} of {n} pictures cannot be read, more than {100 * MOST_BAD:g} %: first {bad[min(bad)]}"
        )


def _require_space(folder: Path, collection: Collection, shape: tuple[int, int, int]) -> None:
    path = folder / "images.u8"
    there = allocated(path) if path.exists() else 0
    needed = len(collection) * int(np.prod(shape)) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{collection.text} needs {needed / 2**30:.1f} GiB prepared, but {free / 2**30:.1f} GiB are free in "
            f"{cache_folder()}; let TWOPLAYER_CACHE name a larger place, or say data.cache=none"
        )


def _forget_older(folder: Path, collection: Collection, form: Form, bad_images: BadImages) -> None:
    """Remove what was prepared of the same pictures in the same way before their files changed."""
    pointers = folder.parent / "newest"
    pointers.mkdir(exist_ok=True)
    pointer = pointers / digest_of([collection.text, collection.selection, form, bad_images])[:32]
    with suppress(OSError, ValueError):
        before, identity = pointer.read_text(encoding="utf-8").split("\n")
        if before != folder.name and "/" not in before:
            if identity != collection.identity:
                collection.notes.append("its files have changed since they were prepared; they were prepared again")
            shutil.rmtree(folder.parent / before, ignore_errors=True)
    pointer.write_text(f"{folder.name}\n{collection.identity}", encoding="utf-8")
