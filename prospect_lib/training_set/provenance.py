"""Where a training set comes from: what it takes to build its rows again, bit for bit."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.training_set.anchors import Anchors


class Provenance:
    """What is said of rows that come by in parts; in which parts makes no difference.

    Attributes:
        rows: how many there were.
    """

    def __init__(self) -> None:
        self.rows, self._positives, self._labelled = 0, 0, False
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._hashes: dict[str, Any] = {}

    def add(self, table: pa.Table) -> None:
        """Take in the next rows."""
        self.rows += table.num_rows
        if "label" in table.column_names:
            self._labelled = True
            self._positives += int(pc.sum(table["label"]).as_py() or 0)
        window = pc.min_max(table["anchor_ts"]).as_py()
        moments = [m for m in (window["min"], window["max"], self._since, self._until) if m]
        if moments:
            self._since, self._until = min(moments), max(moments)
        for name, column in zip(table.column_names, table.columns, strict=True):
            for what, part in _plain_arrays(column):
                self._hashes.setdefault(f"{name} {what}", hashlib.sha256()).update(part)

    def manifest(
        self, sql: str, group: AttributeGroup, anchors: Anchors | str, include_anchor: bool
    ) -> dict[str, Any]:
        """What it takes to build the same rows again, and to see that they are the same."""
        return {
            "group": {"name": group.name, "version": group.version, "hash": group_hash(group)},
            "anchors": anchors if isinstance(anchors, str) else _plain(asdict(anchors)),
            "include_anchor": include_anchor,
            "rows": self.rows,
            "positives": self._positives if self._labelled else None,
            "since": self._since and self._since.isoformat(),
            "until": self._until and self._until.isoformat(),
            "sql": sql,
            "sql_sha256": hashlib.sha256(sql.encode()).hexdigest(),
            "rows_sha256": self._fingerprint(),
        }

    def _fingerprint(self) -> str:
        """A hash of the columns' hashes: equal rows, equal hash."""
        digests = [f"{what}: {found.hexdigest()}" for what, found in self._hashes.items()]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Arguments as JSON has them: lengths in seconds, moments in ISO 8601."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _plain_arrays(column: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    """Which values are null, and the others, as bytes; of texts their lengths too.

    Not Arrow's own memory: what lies there below a null may be anything.
    """
    yield "is null", column.is_null().to_numpy()
    if not pa.types.is_string(column.type):
        yield "value", column.to_numpy()
        return
    for chunk in column.chunks:
        texts = chunk.fill_null("")
        yield "length", pc.binary_length(texts).to_numpy()
        together = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        yield "value", pc.binary_join(together, "")[0].as_py().encode()
