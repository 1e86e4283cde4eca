"""A training set, wherever its rows are, and one look over them before training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from prospect_lib.errors import DataError
from prospect_lib.features import Feature
from prospect_lib.model.splits import Floats

#: A training set: a table, Parquet (a file or a folder), or a function that starts a
#: fresh pass over its record batches (XGBoost makes several).
Source: TypeAlias = pa.Table | Path | Callable[[], Iterable[pa.RecordBatch]]

BATCH_ROWS = 131_072
MIN_POSITIVES = 20


@dataclass(frozen=True)
class Survey:
    """What one pass over the rows found; times are aware, UTC."""

    rows: int
    positives: int
    visitors: int
    since: datetime
    until: datetime
    categories: Mapping[str, frozenset[str]]
    constant: tuple[str, ...]


def batches(source: Source, size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """One pass over a source, in order, at most ``size`` rows at a time (a stream's own)."""
    if isinstance(source, pa.Table):
        yield from source.to_batches(max_chunksize=size)
    elif isinstance(source, Path):
        yield from ds.dataset(source, format="parquet").to_batches(batch_size=size)
    else:
        yield from source()


def survey(source: Source, features: Sequence[Feature]) -> Survey:
    """Look once over the rows and refuse what no model can be trained on.

    Raises:
        DataError: no rows, a column missing, one class only, or too few positives.
    """
    counts = {"rows": 0, "positives": 0}
    visitors: set[str] = set()
    times: set[datetime] = set()
    seen: dict[str, set[Any]] = {feature.name: set() for feature in features}
    for batch in batches(source):
        if batch.num_rows == 0:
            continue
        _require(batch, ["domain_userid", "anchor_ts", "label", *seen])
        counts["rows"] += batch.num_rows
        counts["positives"] += int(np.count_nonzero(labels(batch)))
        visitors.update(pc.unique(batch.column("domain_userid")).to_pylist())
        times.update(_extremes(batch.column("anchor_ts").cast(pa.timestamp("us", "UTC"))))
        for feature in features:
            seen[feature.name].update(_sample_of_values(batch.column(feature.name), feature.kind))
    _check_classes(**counts)
    return Survey(
        **counts,
        visitors=len(visitors),
        since=min(times),
        until=max(times),
        categories={
            f.name: frozenset(seen[f.name] - {None}) for f in features if f.kind == "category"
        },
        constant=tuple(name for name, values in seen.items() if len(values) == 1),
    )


def refuse_constant(found: Survey) -> None:
    """Raise DataError where a feature has one value in every row."""
    if found.constant:
        raise DataError(
            f"constant in all {found.rows} rows: {', '.join(found.constant)}. A model cannot "
            "learn from them: widen --since .. --until, check that the events are tracked, "
            "leave the features out, or accept them with allow_constant=True."
        )


def labels(rows: pa.Table | pa.RecordBatch) -> Floats:
    """The label column as 0.0 and 1.0.

    Raises:
        DataError: it is not boolean, or has nulls (an outcome not yet known).
    """
    column = rows.column("label")
    if not pa.types.is_boolean(column.type) or column.null_count:
        raise DataError(
            f"label is {column.type} with {column.null_count} nulls; expected bool without nulls. "
            "Leave out anchors whose horizon is not fully observed."
        )
    found: Floats = column.cast(pa.uint8()).to_numpy().astype(np.float64)
    return found


def _require(batch: pa.RecordBatch, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in batch.schema.names]
    if missing:
        raise DataError(
            f"the training set lacks {', '.join(missing)}; it has "
            f"{', '.join(batch.schema.names)}. Build it with training_set.features_sql."
        )


def _extremes(values: pa.Array) -> list[Any]:
    ends = pc.min_max(values)
    return [ends["min"].as_py(), ends["max"].as_py()]


def _sample_of_values(values: pa.Array, kind: str) -> list[Any]:
    """All values of a category; of another column enough to see that it varies."""
    if kind == "category":
        return list(pc.unique(values).to_pylist())
    return [*_extremes(values), *([None] if values.null_count else [])]


def _check_classes(rows: int, positives: int) -> None:
    if rows == 0:
        raise DataError("the training set is empty. Widen --since .. --until, or check app ids.")
    if positives in (0, rows):
        raise DataError(
            f"all {rows} rows have label {positives > 0}: one class only, nothing to tell apart. "
            "Widen --since .. --until, or check the goal event and the horizon."
        )
    if min(positives, rows - positives) < MIN_POSITIVES:
        raise DataError(
            f"only {positives} of {rows} rows are positive; at least {MIN_POSITIVES} of either "
            "class are needed. Widen --since .. --until, or lengthen the horizon."
        )
