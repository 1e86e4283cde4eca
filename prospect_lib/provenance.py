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

from prospect_lib.aggregation import group_hash
from prospect_lib.anchors import Anchors

_BATCH = 65_536


def manifest_of(
    table: pa.Table,
    sql: str,
    group: AttributeGroup,
    anchors: Anchors | str,
    include_anchor: bool,
) -> dict[str, Any]:
    """What it takes to build the same rows again, and to see that they are the same."""
    window = pc.min_max(table["anchor_ts"]).as_py()
    labelled = "label" in table.column_names
    return {
        "group": {"name": group.name, "version": group.version, "hash": group_hash(group)},
        "anchors": anchors if isinstance(anchors, str) else _plain(asdict(anchors)),
        "include_anchor": include_anchor,
        "rows": table.num_rows,
        "positives": int(pc.sum(table["label"]).as_py() or 0) if labelled else None,
        "since": window["min"].isoformat(),
        "until": window["max"].isoformat(),
        "sql": sql,
        "sql_sha256": hashlib.sha256(sql.encode()).hexdigest(),
        "rows_sha256": fingerprint(table),
    }


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


def fingerprint(table: pa.Table) -> str:
    """A hash of the rows, in batches of one size: equal rows, equal hash.

    Not of Arrow's own memory: what lies there below a null may be anything.
    """
    found = hashlib.sha256(repr(table.schema.names).encode())
    for first in range(0, table.num_rows, _BATCH):
        for column in table.slice(first, _BATCH).columns:
            for part in _plain_arrays(column):
                found.update(part)
    return found.hexdigest()


def _plain_arrays(column: pa.ChunkedArray) -> Iterator[Any]:
    """A column as NumPy arrays: which values are null, and the others; texts with lengths."""
    yield column.is_null().to_numpy()
    if pa.types.is_string(column.type):
        texts = pa.concat_arrays(column.fill_null("").chunks)
        yield pc.binary_length(texts).to_numpy()
        together = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        yield pc.binary_join(together, "")[0].as_py().encode()
    else:
        yield column.to_numpy()
