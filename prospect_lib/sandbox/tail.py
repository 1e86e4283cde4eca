"""The latest segment of events, as lines in memory, until Parquet and the index have it."""

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prospect_lib.warehouse.segments import log_of

Row = dict[str, Any]


@dataclass
class Tail:
    """One segment's lines and who they are about.

    Attributes:
        number: of the segment.
        lines: as on disk, without the line's end, in order of arrival.
        ids: 16 bytes for each event.
        places: the places of a visitor's lines; events without a visitor are under "".
    """

    number: int
    lines: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)

    def add(self, row: Row, line: bytes) -> None:
        """Note an event that is on disk."""
        self.places.setdefault(row.get("domain_userid") or "", []).append(len(self.lines))
        self.lines.append(line.rstrip(b"\n"))
        self.ids.append(id_of(row))

    def of_visitor(self, visitor: str) -> list[bytes]:
        """The visitor's lines in order of arrival."""
        return [self.lines[place] for place in self.places.get(visitor, ())]

    def by_visitor(self) -> dict[str, list[tuple[int, bytes]]]:
        """Every visitor's lines with their places."""
        return {
            visitor: [(place, self.lines[place]) for place in places]
            for visitor, places in self.places.items()
        }


def read_tail(folder: Path, number: int) -> Tail:
    """The segment as its log has it; what a crash cut short or doubled is set aside."""
    path, tail = log_of(folder, number), Tail(number)
    known: set[bytes] = set()
    aside: list[bytes] = []
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        row = _row(line)
        if row is None or id_of(row) in known:
            aside.append(line.rstrip(b"\n") + b"\n")
        else:
            known.add(id_of(row))
            tail.add(row, line)
    if aside:
        _set_aside(path, tail, b"".join(aside))
    return tail


def _row(line: bytes) -> Row | None:
    try:
        row: Row = json.loads(line)
    except ValueError:
        return None
    return row if line.endswith(b"\n") else None


def _set_aside(path: Path, tail: Tail, lines: bytes) -> None:
    with path.with_name("torn.ndjson").open("ab") as torn:
        torn.write(lines)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(b"".join(line + b"\n" for line in tail.lines))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def id_of(row: Row) -> bytes:
    """The 16 bytes of an event's id."""
    return UUID(row["event_id"]).bytes


def stamp(at: datetime) -> str:
    """A UTC moment as the log writes it: ``2026-01-05T10:00:00.123000Z``."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
