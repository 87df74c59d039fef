"""The order of a pass over pictures that lie in groups, such as the row groups of a Parquet file.

A group is read as a whole, and reading it again for each picture would cost too much: groups are shuffled, and then the
pictures of those that are in memory together. For several processes not to read the same groups, a batch is made in
lanes. The shuffled groups are cut into as many lanes of equal length, each lane is shuffled within a window of its own,
and gives the same number of neighboring rows to every batch. A process reads the lanes that its rows lie in. How many
lanes there are depends on the batch alone, so the number of processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import gcd

from twoplayer.core.rng import Stream
from twoplayer.data.collection import Collection, Encoded, Group, tried

LANES = 8
"""At most; as many as divide the batch. More processes than lanes share lanes."""

BUFFER = 4096
"""Pictures in the windows of all lanes, if they are not more than MOST_BUFFERED bytes; in each at least one group."""

MOST_BUFFERED = 2**28


def in_lanes(collection: Collection, order: Stream, first: int, size: int, rows: slice) -> Iterator[list[Encoded]]:
    """These rows of the batches of a pass, encoded, from the batch with number `first` on.

    Args:
        collection: pictures in groups.
        order: where the order of the pass is drawn.
        first: batches before it are not read.
        size: pictures per batch.
        rows: which of each batch.
    """
    lanes = gcd(size, LANES)
    share, wanted = size // lanes, range(size)[rows]
    parts = []
    for lane in range(lanes):
        mine = range(lane * share, (lane + 1) * share)
        common = range(max(mine.start, wanted.start), min(mine.stop, wanted.stop))
        if common:
            pictures = _lane(collection, order, lane, lanes, first * share)
            parts.append((pictures, slice(common.start - mine.start, common.stop - mine.start)))
    while any(batch := [list(islice(pictures, share))[places] for pictures, places in parts]):
        yield [each for part in batch for each in part]


def _lane(collection: Collection, order: Stream, lane: int, lanes: int, skipped: int) -> Iterator[Encoded]:
    """A lane's pictures without the first `skipped`; windows before them are not read."""
    for number, window in enumerate(windows(pieces(collection.groups or [], order, lane, lanes), lanes)):
        rows = [row for piece in window for row in piece.rows]
        if skipped < len(rows):
            shuffled = order.child("window", lane, number).permutation(len(rows))
            yield from _read(collection, rows, shuffled[skipped:].tolist())
        skipped = max(skipped - len(rows), 0)


def _read(collection: Collection, rows: list[int], places: list[int]) -> Iterator[Encoded]:
    """The pictures of a window, read in their order, given in another; no more is kept than one window."""
    encoded = [(row, tried(collection, row)) for row in rows]
    yield from (encoded[place] for place in places)


def pieces(groups: list[Group], order: Stream, lane: int, lanes: int) -> Iterator[Group]:
    """What a lane has of the shuffled groups: whole ones, but at its ends."""
    n = sum(len(group.rows) for group in groups)
    first, end, place = lane * n // lanes, (lane + 1) * n // lanes, 0
    for turn in order.child("groups").permutation(len(groups)).tolist():
        rows, size = groups[turn].rows, groups[turn].size
        mine = rows[max(first - place, 0) : max(end - place, 0)]
        place += len(rows)
        if mine:
            yield Group(mine, size * len(mine) // len(rows))


def windows(groups: Iterable[Group], lanes: int) -> Iterator[list[Group]]:
    """Groups of a lane that are in memory together."""
    window: list[Group] = []
    pictures = size = 0
    for group in groups:
        pictures, size = pictures + len(group.rows), size + group.size
        if window and (pictures > BUFFER // lanes or size > MOST_BUFFERED // lanes):
            yield window
            window, pictures, size = [], len(group.rows), group.size
        window.append(group)
    if window:
        yield window
