"""What the sandbox must find at once among millions of events: ids, and a visitor's events.

One SQLite file beside the Parquet segments. It holds what they hold, arranged for serving:
16 bytes for each ``event_id``, so that one is recognised for ever, and the lines of each
visitor of a segment, compressed. It is read where it lies, so memory does not grow with it.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from prospect_lib.errors import SettingsError

_TABLES = """
CREATE TABLE IF NOT EXISTS segments (segment INTEGER PRIMARY KEY, events INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ids (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (
    visitor TEXT, segment INTEGER, packed BLOB, PRIMARY KEY (visitor, segment)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_segment ON lines (segment);
"""

Numbered = tuple[int, bytes]  # a line and its place in its segment


class Index:
    """Finished segments, for one process; its calls must not overlap, except ``add``.

    ``add`` has a connection of its own and may run beside the others: these look only at
    segments that they are told of by ``known``, so what is still in memory is not seen twice.

    Raises:
        SettingsError: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._reader = self._connect()
            self._reader.executescript(_TABLES)
            found = self._reader.execute("SELECT segment, events FROM segments").fetchall()
        except sqlite3.Error as error:
            raise SettingsError(
                f"{path} cannot be used ({error}). Delete it: it is made anew from the events."
            ) from error
        self.known: dict[int, int] = dict(found)

    def has(self, identifier: bytes) -> bool:
        """Whether an event is known by the 16 bytes of its id."""
        found = self._reader.execute("SELECT 1 FROM ids WHERE id = ?", [identifier])
        return found.fetchone() is not None

    def of_visitor(self, visitor: str) -> list[bytes]:
        """The visitor's lines in order of arrival."""
        found = self._reader.execute(
            "SELECT segment, packed FROM lines WHERE visitor = ? ORDER BY segment", [visitor]
        )
        return [line for n, packed in found if n in self.known for _, line in _unpack(packed)]

    def of_segment(self, segment: int) -> list[bytes]:
        """All lines of a segment in order of arrival."""
        found = self._reader.execute("SELECT packed FROM lines WHERE segment = ?", [segment])
        return [line for _, line in sorted(pair for (p,) in found for pair in _unpack(p))]

    def add(
        self, segment: int, ids: Iterable[bytes], lines: Mapping[str, Iterable[Numbered]]
    ) -> None:
        """All of a segment at once; the caller then adds it to ``known``."""
        known = sorted(ids)  # neighbours share a page, so that each is written once
        packed = [(visitor, segment, _pack(mine)) for visitor, mine in sorted(lines.items())]
        with closing(self._connect()) as writer, writer:
            writer.executemany("INSERT OR IGNORE INTO ids VALUES (?)", [(one,) for one in known])
            writer.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", packed)
            writer.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", [segment, len(known)])

    def clear(self) -> None:
        """Forget everything."""
        with self._reader:
            for table in ("segments", "ids", "lines"):
                self._reader.execute(f"DELETE FROM {table}")
        self.known = {}

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, timeout=60)
        connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer
        connection.execute("PRAGMA synchronous = FULL")  # the log it replaces is deleted then
        return connection


def _pack(lines: Iterable[Numbered]) -> bytes:
    return zlib.compress(b"".join(b"%d %s\n" % numbered for numbered in lines), 1)


def _unpack(packed: bytes) -> list[Numbered]:
    found = [line.partition(b" ") for line in zlib.decompress(packed).split(b"\n")[:-1]]
    return [(int(place), line) for place, _, line in found]
