"""A training set, wherever its rows are, and one pass over them before training."""

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
from prospect_lib.model.splits import Floats, visitors_of

#: A training set: a table, Parquet (a file or a folder), or a function that starts a new
#: pass over its record batches (XGBoost needs several passes).
Source: TypeAlias = pa.Table | Path | Callable[[], Iterable[pa.RecordBatch]]

BATCH_ROWS = 131_072
_MIN_POSITIVES = 20


@dataclass(frozen=True)
class DatasetSummary:
    """A training set in numbers.

    Attributes:
        rows: number of rows.
        positives: number of rows with a true label.
        visitors: number of distinct visitors.
        since: time of the first row, aware, UTC.
        until: time of the last row, aware, UTC.
        categories: the values of each categorical feature, without null.
        constant: the features with a single value.
    """

    rows: int
    positives: int
    visitors: int
    since: datetime
    until: datetime
    categories: Mapping[str, frozenset[str]]
    constant: tuple[str, ...]


def batches(source: Source, size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a source in order, at most ``size`` per batch.

    A function's record batches are passed on in the size that it gives them.
    """
    if isinstance(source, pa.Table):
        yield from source.to_batches(max_chunksize=size)
    elif isinstance(source, Path):
        yield from ds.dataset(source, format="parquet").to_batches(batch_size=size)
    else:
        yield from source()


def summarize(source: Source, features: Sequence[Feature]) -> DatasetSummary:
    """Summarize the rows in one pass, and refuse rows that cannot train a model.

    Raises:
        DataError: no rows, a missing column, one class only, or too few positives.
    """
    counts = {"rows": 0, "positives": 0}
    visitors: set[str] = set()
    times: set[datetime] = set()
    values: dict[str, set[Any]] = {feature.name: set() for feature in features}
    for batch in batches(source):
        if batch.num_rows == 0:
            continue
        _require(batch, ["anchor_ts", "label", *values])
        counts["rows"] += batch.num_rows
        counts["positives"] += int(np.count_nonzero(labels(batch)))
        visitors.update(pc.unique(visitors_of(batch)).to_pylist())
        times.update(_extremes(batch.column("anchor_ts").cast(pa.timestamp("us", "UTC"))))
        for feature in features:
            values[feature.name].update(_values(batch.column(feature.name), feature.kind))
    _check_classes(**counts)
    return DatasetSummary(
        **counts,
        visitors=len(visitors),
        since=min(times),
        until=max(times),
        categories={
            f.name: frozenset(values[f.name] - {None}) for f in features if f.kind == "category"
        },
        constant=tuple(name for name, distinct in values.items() if len(distinct) == 1),
    )


def refuse_constant_features(summary: DatasetSummary) -> None:
    """Raise DataError if a feature has a single value in all rows."""
    if summary.constant:
        raise DataError(
            f"constant in all {summary.rows} rows: {', '.join(summary.constant)}. A model cannot "
            "learn from them: widen --since .. --until, check that the events are tracked, "
            "leave the features out, or accept them with allow_constant=True."
        )


def labels(rows: pa.Table | pa.RecordBatch) -> Floats:
    """Return the label column as 0.0 and 1.0, shape (rows,).

    Raises:
        DataError: it is not boolean, or has nulls (an outcome that is not known yet).
    """
    column = rows.column("label")
    if not pa.types.is_boolean(column.type) or column.null_count:
        raise DataError(
            f"label is {column.type} with {column.null_count} nulls; expected bool without nulls. "
            "Leave out anchors whose horizon is not fully observed."
        )
    numbers: Floats = column.cast(pa.uint8()).to_numpy().astype(np.float64)
    return numbers


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


def _values(column: pa.Array, kind: str) -> list[Any]:
    """Return all values of a category; of other columns, enough to see whether they vary."""
    if kind == "category":
        return list(pc.unique(column).to_pylist())
    return [*_extremes(column), *([None] if column.null_count else [])]


def _check_classes(rows: int, positives: int) -> None:
    if rows == 0:
        raise DataError("the training set is empty. Widen --since .. --until, or check app ids.")
    if positives in (0, rows):
        raise DataError(
            f"all {rows} rows have label {positives > 0}: one class only, nothing to learn. "
            "Widen --since .. --until, or check the goal event and the horizon."
        )
    if min(positives, rows - positives) < _MIN_POSITIVES:
        raise DataError(
            f"only {positives} of {rows} rows are positive; at least {_MIN_POSITIVES} rows of "
            "each class are needed. Widen --since .. --until, or lengthen the horizon."
        )
