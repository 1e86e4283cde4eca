"""A training set, wherever its rows are, and one pass over them before training."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from prospect_lib.aggregation.definitions import LEFT_OUT
from prospect_lib.errors import DataError, TooFewError, one_line, wrong_type
from prospect_lib.features import Feature
from prospect_lib.model.encoding import check_type
from prospect_lib.model.rows import (
    MORE_DATA,
    Floats,
    Rows,
    check_rows,
    key_of,
    labels,
    microseconds_of,
    moment,
    row_weights,
    visitors_of,
)

#: A training set: a table, Parquet (a file or a folder), or a function that starts a new
#: pass over its record batches (XGBoost needs several passes).
Source: TypeAlias = pa.Table | Path | str | Callable[[], Iterable[pa.RecordBatch]]

BATCH_ROWS = 131_072
#: Visitors of each class that training needs, and a test.
MIN_VISITORS, MIN_TEST_VISITORS = 10, 5
#: The names of the files of a large training set that has no manifest yet.
PART = re.compile(r"^(part-\d{5}\.parquet|\.part-.*\.draft|\.manifest\.json\..*\.draft)$")
#: Values of a categorical feature that a model tells apart.
MAX_CATEGORIES = 100


@dataclass(frozen=True)
class DatasetSummary:
    """A training set in numbers.

    Attributes:
        rows: number of rows.
        positives: number of rows with a true label.
        visitors: number of distinct visitors.
        since: time of the first row, aware, UTC.
        until: time of the last row, aware, UTC.
        early: the time that 2% of the rows are before: the first row may have a wrong clock.
        later: the time that three quarters of the rows are before.
        features: those that a model can learn from.
        categories: the values of each categorical feature, without null; of a feature with many,
            such as a page path, the ``MAX_CATEGORIES`` most frequent. All others count as unseen.
        absent: features that extraction left out, because the events lack their columns.
        empty: features without a value in any row, left out as well.
        constant: features with the same value in all rows, left out as well.
        unknown: rows in which no attribute has a value, as before a visitor's first event.
    """

    rows: int
    positives: int
    visitors: int
    since: datetime
    until: datetime
    early: datetime
    later: datetime
    features: tuple[Feature, ...]
    categories: Mapping[str, frozenset[str]]
    absent: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    unknown: int = 0

    def notes(self) -> list[str]:
        """Return a sentence for each reason why features are left out."""
        reasons = (
            ("whose columns the events lack", self.absent),
            (
                "that no event gives a value (check their events, properties and criteria)",
                self.empty,
            ),
            (f"that are the same in all {self.rows:,} rows", self.constant),
        )
        return [
            f"Trained without features {reason}: {', '.join(names)}."
            for reason, names in reasons
            if names
        ]


def batches(source: Source, size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a source in order, at most ``size`` per batch.

    A function's record batches are passed on in the size that it gives them.

    Raises:
        DataError: it is no source, or a file cannot be read.
    """
    if isinstance(source, pa.Table):
        yield from source.to_batches(max_chunksize=size)
    elif isinstance(source, Path | str):
        try:
            yield from ds.dataset(parquet_files(source), format="parquet").to_batches(
                batch_size=size
            )
        except (OSError, pa.ArrowInvalid) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"cannot read {source}: {reason}. Expected Parquet files.") from error
    elif callable(source):
        yield from source()
    else:
        raise wrong_type(
            "the training set",
            source,
            "an Arrow table such as extract(...).table, the path of Parquet files, or a function "
            "that returns record batches",
        )


def parquet_files(path: Path | str) -> list[str]:
    """Return a Parquet file, or those of a folder, in order.

    Raises:
        DataError: there is none, or a part of a training set is missing or damaged.
    """
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: there is no Parquet file. Write the training set there first.")
    if any(PART.search(file.name) for file in files if file.parent == path):
        _refuse_incomplete(path)
    return [str(file) for file in files]


def _refuse_incomplete(folder: Path) -> None:
    """Refuse a training set that is not as its manifest, which is written last, says."""
    again = "Write it again: extract_to(folder, warehouse)."
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        parts: Mapping[str, int] = manifest.get("parts", {})
        for name, rows in parts.items():
            if (there := pq.read_metadata(folder / name).num_rows) != rows:
                raise DataError(f"{folder / name} has {there:,} rows instead of {rows:,}. {again}")
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is a part of a training set: {Path(error.filename or name).name} is "
            f"missing. {again}"
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder} is a damaged training set: {one_line(error)}. {again}"
        ) from error


def summarize(
    source: Source, features: Sequence[Feature], key: str | None = None
) -> DatasetSummary:
    """Summarize the rows in one pass, and refuse rows that cannot train a model.

    Args:
        source: the rows; the metadata of their schema may say what extraction left out.
        features: those of the problem.
        key: the problem's key, which the first column must be; by default it is not checked.
    Raises:
        DataError: a column is missing or of another type.
        TooFewError: there are no rows, too few visitors of a class, or no feature varies.
    """
    rows = positives = unknown = 0
    visitors: set[str] = set()
    by_class: dict[float, set[str]] = {0.0: set(), 1.0: set()}
    times = TimeSample()
    absent: list[Feature] | None = None
    values: dict[str, Counter[Any]] = {}
    for batch in batches(source):
        check_rows(batch)
        if absent is None:
            _refuse_other_key(batch, key)
            left_out = json.loads((batch.schema.metadata or {}).get(LEFT_OUT, b"{}"))
            absent = [f for f in features if f.attribute in left_out]
            features = [f for f in features if f not in absent]
            values = {feature.name: Counter() for feature in features}
        visitor, label = visitors_of(batch), labels(batch)
        _require(batch, features)
        counted = row_weights(batch) > 0
        rows += batch.num_rows
        positives += int(np.count_nonzero(label))
        visitors.update(pc.unique(visitor).to_pylist())
        for value, members in by_class.items():
            if len(members) < MIN_VISITORS:
                chosen = pa.array((label == value) & counted)
                members.update(pc.unique(visitor.filter(chosen)).to_pylist())
        times.add(microseconds_of(batch))
        unknown += _count_unknown(batch, features)
        for feature in features:
            values[feature.name].update(_values(batch.column(feature.name), feature.kind))
    if rows == 0:
        raise TooFewError(f"the training set is empty, expected rows to train on. {MORE_DATA}")
    counts = {value: len(members) for value, members in by_class.items()}
    _refuse_too_few(counts, len(visitors), MIN_VISITORS, "training")
    varying = tuple(feature for feature in features if len(values[feature.name]) > 1)
    same = [feature.name for feature in features if feature not in varying]
    empty = [name for name in same if set(values[name]) <= {None}]
    if not varying:
        raise TooFewError(
            f"every feature is the same in all {rows:,} rows: nothing to learn from. {MORE_DATA}"
        )
    return DatasetSummary(
        rows,
        positives,
        len(visitors),
        since=moment(times.first),
        until=moment(times.last),
        early=moment(times.quantile(0.02)),
        later=moment(times.quantile(0.75)),
        features=varying,
        categories={
            f.name: _most_frequent(values[f.name]) for f in varying if f.kind == "category"
        },
        absent=tuple(feature.name for feature in absent or ()),
        empty=tuple(empty),
        constant=tuple(name for name in same if name not in empty),
        unknown=unknown,
    )


def _count_unknown(rows: Rows, features: Iterable[Feature]) -> int:
    """Count the rows in which all features but the day are null, zero, false or empty."""
    unknown = np.ones(rows.num_rows, dtype=bool)
    for feature in features:
        if feature.attribute is not None and unknown.any():
            column = rows.column(feature.name)
            if feature.kind == "category":
                column = pc.utf8_length(column.cast(pa.string()))
            nothing = pc.equal(column.cast(pa.float64(), safe=False), 0.0)
            unknown &= np.asarray(pc.fill_null(nothing, True))
    return int(unknown.sum())


def refuse_too_few(rows: pa.Table, weight: Floats, least: int, purpose: str) -> None:
    """Refuse rows of too few visitors who reach the goal, or who do not.

    Args:
        rows: a training set; rows of weight 0 do not count.
        weight: of each row, shape (rows,).
        least: number of visitors that each label needs.
        purpose: what the rows are for, for the message.
    Raises:
        TooFewError: there are fewer.
    """
    visitors, label = visitors_of(rows), labels(rows)
    counts = {
        value: len(pc.unique(visitors.filter(pa.array((label == value) & (weight > 0)))))
        for value in (0.0, 1.0)
    }
    _refuse_too_few(counts, len(pc.unique(visitors)), least, purpose)


def _refuse_too_few(counts: Mapping[float, int], visitors: int, least: int, purpose: str) -> None:
    for label, follows, remedy in (
        (1.0, "the goal follows", MORE_DATA),
        (0.0, "no goal follows", "Check the goal and the horizon of the problem."),
    ):
        if counts[label] < least:
            raise TooFewError(
                f"too little for {purpose}: {counts[label]} of {visitors:,} visitors have a row "
                f"that {follows}, at least {least} are needed. {remedy}"
            )


class TimeSample:
    """Quantiles of times that arrive in arrays; of many times, every second one is dropped."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self.first, self.last = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self._kept: list[npt.NDArray[np.int64]] = []
        self._seen, self._every = 0, 1

    def add(self, times: npt.NDArray[np.int64]) -> None:
        """Add the next times; their division into arrays does not matter."""
        if not len(times):
            return
        self.first, self.last = min(self.first, times.min()), max(self.last, times.max())
        self._kept.append(np.ascontiguousarray(times[-self._seen % self._every :: self._every]))
        self._seen += len(times)
        while sum(map(len, self._kept)) > self._limit:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._every *= 2

    def quantile(self, share: float) -> int:
        """Return the time that this share of the times is before."""
        return int(np.quantile(np.concatenate(self._kept), share, method="higher"))


def _refuse_other_key(batch: pa.RecordBatch, key: str | None) -> None:
    if key is not None and key_of(batch) != key:
        raise DataError(
            f"the training set's key is {key_of(batch)}, but the problem scores one {key} at a "
            "time. Give the problem that the rows were extracted for: problem=... or --problem."
        )


def _require(batch: pa.RecordBatch, features: Sequence[Feature]) -> None:
    if missing := [f.name for f in features if f.name not in batch.schema.names]:
        names = ", ".join(missing[:5]) + f" and {len(missing) - 5} more" * (len(missing) > 5)
        raise DataError(
            f"the training set lacks {names}. Give the problem that it was extracted for, "
            "problem=..., or the features= that it has."
        )
    for feature in features:
        check_type(feature, batch.schema.field(feature.name).type)


def _most_frequent(values: Counter[Any]) -> frozenset[str]:
    counts = [(-rows, value) for value, rows in values.items() if value is not None]
    return frozenset(value for _, value in sorted(counts)[:MAX_CATEGORIES])


def _values(column: pa.Array, kind: str) -> Mapping[Any, int]:
    """Count all values of a category; of other columns, enough to see whether they vary."""
    if kind == "category":
        counts = pc.value_counts(column)
        return dict(zip(*(counts.field(i).to_pylist() for i in range(2)), strict=True))
    if pa.types.is_floating(column.type):  # NaN is a missing number
        column = pc.if_else(pc.is_nan(column), None, column)
    ends = pc.min_max(column)
    return Counter(
        [ends["min"].as_py(), ends["max"].as_py(), *([None] if column.null_count else [])]
    )
