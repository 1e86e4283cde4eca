"""The index of an earlier run, or one made anew from the Parquet segments."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.index import Index
from prospect_lib.sandbox.tail import Tail, stamp
from prospect_lib.warehouse import segments

NAME = "index.sqlite"


def indexed(folder: Path) -> Index:
    """The folder's index; a damaged one is put aside, and what it lacks is read from Parquet."""
    try:
        index = Index(folder / NAME)
    except SettingsError:
        for path in folder.glob(f"{NAME}*"):
            path.unlink()
        index = Index(folder / NAME)
    logs = segments.logs(folder)
    for number in segments.parquets(folder):
        if number not in index.known and number not in logs:
            tail = _from_parquet(folder, number)
            index.add(number, tail.ids, tail.by_visitor())
            index.known[number] = len(tail.lines)
    return index


def _from_parquet(folder: Path, number: int) -> Tail:
    """A segment whose log is gone; values come back as the log had them."""
    tail = Tail(number)
    with duckdb.connect(config={"threads": 1}) as connection:
        path = str(segments.parquet_of(folder, number))
        cursor = connection.execute("SELECT * FROM read_parquet(?)", [path])
        names = [column[0] for column in cursor.description or []]
        for values in cursor.fetchall():
            pairs = zip(names, values, strict=True)
            row = {name: _plain(name, value) for name, value in pairs if value is not None}
            tail.add(row, json.dumps(row, separators=(",", ":")).encode())
    return tail


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value.replace(tzinfo=UTC))
    nested = name.startswith(("unstruct_event_", "contexts_"))
    return json.loads(value) if nested and isinstance(value, str) else value
