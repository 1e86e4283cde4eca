"""Read the events that a sandbox keeps in its home: history as Parquet, live events in SQLite.

``history/*.parquet`` is written once, by the simulation. ``events.sqlite`` grows while a sandbox
runs (:mod:`prospect_lib.sandbox.events` writes it): one row per event, with the event as JSON
text. Readers are other processes, such as a notebook: they open the file read-only, see the
events of one moment, and never block the sandbox.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prospect_lib.errors import DataError, one_line
from prospect_lib.sql.dialects import DuckDB
from prospect_lib.warehouse.events import ATOMIC_COLUMNS

EVENTS_FILE = "events.sqlite"
EVENTS_FORMAT = 1  # PRAGMA user_version of the file; 0 while it has no tables
BATCH = 5000  # events per Arrow batch
SQL = DuckDB()


def refuse_old_format(home: Path) -> None:
    """Refuse a home whose live events are files of an earlier release.

    Raises:
        DataError: there are such files; the message says how to go on.
    """
    folder = home / "live"
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder} holds events in the format of an earlier release, which this release does "
            "not read. Copy the folder if you need them, then start again: python -m prospect_lib "
            "sandbox reset"
        )


def history(home: Path) -> str:
    """Return the SELECT over past events; empty if there are none.

    Raises:
        DataError: a file is damaged.
    """
    files = sorted((home / "history").glob("*.parquet"))
    if not files:
        return ""
    for file in files:
        try:
            pq.read_metadata(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{file} is damaged ({one_line(error)}). Simulate the events again: python -m "
                "prospect_lib demo, or delete the file."
            ) from error
    return f"SELECT * FROM read_parquet({SQL.files(files)}, union_by_name = true)"


@contextmanager
def live_events(home: Path) -> Iterator[tuple[str, pa.RecordBatchReader] | None]:
    """Yield a DuckDB SELECT over the live events, and the Arrow batches that it reads.

    The batches have one column, ``row``, with each event as JSON text; the SELECT knows them as
    ``stored`` and gives each column its type in Snowplow's events table, nested ones as JSON.
    Yields ``None`` if there are no live events.

    Raises:
        DataError: the file is damaged, or another release wrote it.
    """
    path = home / EVENTS_FILE
    if not path.is_file():
        yield None
        return
    with closing(read_only(path)) as connection:
        try:
            connection.execute("BEGIN")  # all that follows sees the events of one moment
            has_tables = format_of(connection, path) == EVENTS_FORMAT
            if not has_tables or not connection.execute("SELECT 1 FROM events LIMIT 1").fetchone():
                yield None
                return
            nested = connection.execute("SELECT name FROM nested_columns ORDER BY name").fetchall()
        except sqlite3.Error as error:
            raise damaged(path, error) from error
        yield _select(ATOMIC_COLUMNS | {name: "JSON" for (name,) in nested}), _batches(connection)


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file of live events for reading; the caller closes the connection."""
    # SQLite reads beside a log of writes only where it can write; without one, nothing changes
    can_write = os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists()
    address = f"{path.absolute().as_uri()}?mode=ro{'' if can_write else '&immutable=1'}"
    return sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0
    )


def format_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the format of a file of live events: ``EVENTS_FORMAT``, or 0 if it has no tables yet.

    Raises:
        DataError: another release wrote it.
    """
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, EVENTS_FORMAT):
        raise DataError(
            f"{path} has format {version}, expected {EVENTS_FORMAT}: another release wrote it. "
            "Use that release, or start again: python -m prospect_lib sandbox reset"
        )
    return int(version)


def damaged(path: Path, error: sqlite3.Error) -> DataError:
    """Return the error for a file of live events that SQLite cannot use."""
    return DataError(
        f"{path} cannot be used ({error}). If it is damaged, copy it if you need it, and start "
        "again: python -m prospect_lib sandbox reset"
    )


def _select(types: dict[str, str]) -> str:
    members = ", ".join(f'"{name}": "{kind}"' for name, kind in types.items())
    parsed = f'SELECT from_json("row", {SQL.text("{" + members + "}")}) AS event FROM stored'
    return f"SELECT unnest(event) FROM ({parsed})"


def _batches(connection: sqlite3.Connection) -> pa.RecordBatchReader:
    schema = pa.schema([("row", pa.string())])
    rows = connection.execute("SELECT row FROM events ORDER BY number")

    def batches() -> Iterator[pa.RecordBatch]:
        while texts := [text for (text,) in rows.fetchmany(BATCH)]:
            yield pa.record_batch([pa.array(texts, pa.string())], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
