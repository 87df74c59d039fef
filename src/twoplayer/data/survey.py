"""A first look at a source: what it holds, what is wrong with it, and what to make of it; nothing is kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from twoplayer.data.collection import Collection
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.pictures import BadPicture, Header, decode, header

LARGEST_PROPOSED_SIZE = 64
"""Pixels a side beyond which training on two processor cores takes days."""

SHEET_PICTURES = 64
SHEET_SIZE = 64
CHUNK = 64

Item = tuple[int, bytes | BadPicture]


@dataclass
class Survey:
    """What is known about a source.

    Attributes:
        n: images that can be used.
        sizes: how many have which (width, height).
        modes: how many are of which kind, in Pillow's words.
        classes: how many are in which class.
        animated: how many have more than one frame.
        copies: how many are exact copies of others.
        constant: how many of those on the sheet have one color only.
        broken: what is wrong with those that cannot be read.
        notes: what else a person should know.
        form: what is proposed.
        sheet: some of them, uint8 [n, C, H, W].
    """

    n: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    animated: int = 0
    copies: int = 0
    constant: int = 0
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    form: Form = field(default_factory=Form)
    sheet: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 1), np.uint8))

    @property
    def memory(self) -> int:
        """Bytes of all images in the proposed form."""
        width, height = next(iter(self.sizes), (0, 0))
        side = self.form.image_size
        return self.n * (self.form.channels or 1) * (side * side if side else width * height)


def survey_of_collection(collection: Collection) -> Survey:
    """Goes through all pictures once; reads headers, and decodes a few for the sheet."""
    found, seen = Survey(notes=list(collection.notes)), set()
    good: list[int] = []
    with ThreadPoolExecutor() as pool:
        for chunk in _chunks(collection.stream(), CHUNK):
            for (number, _), looked in zip(chunk, pool.map(lambda one: _look(collection, *one), chunk), strict=True):
                if isinstance(looked, BadPicture):
                    found.broken.append(str(looked))
                    continue
                head, digest = looked
                good.append(number)
                found.sizes[head.size] += 1
                found.modes[head.mode] += 1
                found.animated += head.frames > 1
                found.copies += digest in seen
                seen.add(digest)
    found.n = len(good)
    if collection.labels is not None:
        counts = Counter(collection.labels[good].tolist())
        found.classes = Counter({name: counts[number] for number, name in enumerate(collection.class_names)})
    found.form = proposed(found)
    found.sheet = _sheet(collection, good, found.form)
    found.constant = _constant(found.sheet)
    return found


def survey_of_images(data: ImageData) -> Survey:
    """What a data set in memory says."""
    channels, height, width = data.shape
    found = Survey(len(data), notes=list(data.notes))
    found.sizes[width, height] = len(data)
    found.modes["L" if channels == 1 else "RGB"] = len(data)
    found.copies = len(data) - len({hashlib.blake2b(image.numpy().tobytes()).digest() for image in data.images})
    if data.labels is not None:
        counts = Counter(data.labels.tolist())
        found.classes = Counter({name: counts[number] for number, name in enumerate(data.class_names)})
    found.form = Form(None, channels) if max(height, width) <= LARGEST_PROPOSED_SIZE else proposed(found)
    found.sheet = data.images[_spread(len(data))].numpy()
    found.constant = _constant(data.images.numpy())
    return found


def proposed(found: Survey) -> Form:
    """The power of two below half of all pictures' shorter sides, where they differ in size or are large."""
    channels = 1 if all(Header(mode, (1, 1)).is_gray for mode in found.modes) else 3
    sides = sorted(min(size) for size in found.sizes.elements())
    if not sides or (len(found.sizes) == 1 and max(next(iter(found.sizes))) <= LARGEST_PROPOSED_SIZE):
        return Form(None, channels)
    return Form(min(2 ** (sides[len(sides) // 2].bit_length() - 1), LARGEST_PROPOSED_SIZE), channels)


def _look(collection: Collection, number: int, encoded: bytes | BadPicture) -> tuple[Header, bytes] | BadPicture:
    if isinstance(encoded, BadPicture):
        return encoded
    try:
        return header(encoded, collection.where(number)), hashlib.blake2b(encoded, digest_size=16).digest()
    except BadPicture as error:
        return error


def _sheet(collection: Collection, good: list[int], form: Form) -> np.ndarray:
    """Some pictures, spread over all, in a size for looking at."""
    side, channels = form.image_size or SHEET_SIZE, form.channels or 3
    wanted = {good[place] for place in _spread(len(good))}
    found = []
    for number, encoded in collection.some(wanted):
        try:
            if not isinstance(encoded, BadPicture):
                found.append(decode(encoded, collection.names[number], Form(max(side, SHEET_SIZE), channels)))
        except BadPicture:  # its header was whole
            continue
    return np.stack(found) if found else Survey().sheet


def _spread(n: int) -> list[int]:
    return np.linspace(0, n - 1, min(n, SHEET_PICTURES)).astype(int).tolist() if n else []


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _constant(images: np.ndarray) -> int:
    """How many of images [n, C, H, W] have one color only."""
    if not len(images):
        return 0
    flat = images.reshape(len(images), -1)
    return int((flat.min(1) == flat.max(1)).sum())
