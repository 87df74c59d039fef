"""What lies where in tar archives: found once by going through their headers, kept, and mapped into memory after that.

An index is an Arrow file under `cache_folder()/index`. Processes that train together wait for the one that makes it and
share its pages; a million pictures cost a process no memory until they are looked up.
Source of the format: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from twoplayer.core.cache import cache_folder
from twoplayer.data.collection import digest_of
from twoplayer.data.kept import DAMAGE, locked

VERSION = 1
"""Of what is written; another one is made anew."""


class Names(Sequence[str]):
    """Many names without an object for each.

    Args:
        column: an Arrow array of their bytes.
    """

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return Names(self._column[place])
        name: bytes = self._column[int(place)].as_py()
        return name.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Index:
    """The pictures of some archives, in the order in which they lie there.

    Attributes:
        names: [N], of each.
        shards: [N], int32, in which archive it is.
        starts: [N], int64, of its first byte there.
        sizes: [N], int64, bytes.
        labels: [N], int64; absent for unlabeled pictures.
        class_names: one per class id.
        names_digest: see `Collection`.
    """

    names: Sequence[str]
    shards: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    names_digest: str


def indexed(archives: list[Path], find: Callable[[], Index]) -> Index:
    """The index of archives, as it was kept while none of them has changed, else found and kept.

    Where nothing can be kept it is found each time. Raises what `find` does.
    """
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in archives]
    identity = digest_of([VERSION, *stats])
    folder = cache_folder() / "index" / digest_of([name for name, _, _ in stats])[:32]
    place = folder / "index.arrow"
    if (kept := _opened(place, identity)) is not None:
        return kept
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        if (kept := _opened(place, identity)) is not None:
            return kept
        found = find()
        with suppress(OSError):
            _write(place, identity, found)
        return _opened(place, identity) or found


def _write(place: Path, identity: str, index: Index) -> None:
    import pyarrow as pa

    names = pa.array([name.encode("utf-8", "surrogateescape") for name in index.names], pa.large_binary())
    columns = {"name": names, "shard": index.shards, "start": index.starts, "size": index.sizes}
    if index.labels is not None:
        columns["label"] = index.labels
    facts = {"identity": identity, "classes": json.dumps(index.class_names), "names": index.names_digest}
    table = pa.table(columns).replace_schema_metadata(facts)
    temporary = place.with_suffix(".tmp")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    temporary.replace(place)


def _opened(place: Path, identity: str) -> Index | None:
    """An index that was kept; None where there is none of these archives."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.memory_map(str(place))).read_all()
        facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        if facts["identity"] != identity:
            return None
        columns = {name: table.column(name).chunk(0) for name in table.column_names}
        names = Names(columns.pop("name"))
        arrays = {name: column.to_numpy() for name, column in columns.items()}
        classes = tuple(json.loads(facts["classes"]))
    except (*DAMAGE, pa.ArrowException):
        return None
    return Index(names, arrays["shard"], arrays["start"], arrays["size"], arrays.get("label"), classes, facts["names"])
