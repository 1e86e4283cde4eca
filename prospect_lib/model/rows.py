"""The columns that every training set has: key, ``anchor_ts``, ``label`` and perhaps ``weight``.

The key is the first column and identifies the visitor, whatever its name is. Each function
returns a column in one form, or refuses it with one sentence.
"""

from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.aggregation.definitions import COLUMNS
from prospect_lib.errors import DataError, wrong_type

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows: TypeAlias = pa.Table | pa.RecordBatch

#: What to do about too few rows or conversions, on the command line and in Python.
MORE_DATA = (
    "Take a longer period of events (--since .. --until, or since and until of Anchors), or a "
    "goal that more visitors reach."
)
_UTC = pa.timestamp("us", "UTC")


def check_rows(rows: object) -> None:
    """Refuse everything but Arrow rows whose columns have distinct names.

    Raises:
        DataError: the message names the type, or the columns.
    """
    if not isinstance(rows, pa.Table | pa.RecordBatch):
        raise wrong_type(
            "the training set",
            rows,
            "an Arrow table, such as extract(...).table or pyarrow.Table.from_pandas(frame, "
            "preserve_index=False)",
        )
    names = rows.schema.names
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"the training set has several columns named {', '.join(repeated)}, expected one "
            "each. Rename or leave out the others."
        )


def key_of(rows: Rows) -> str:
    """Return the name of a training set's key, which is its first column.

    Raises:
        DataError: the first column holds no identifiers.

    Example: ``key_of(pa.table({"user_id": ["a"], "label": [True]}))`` returns ``"user_id"``.
    """
    check_rows(rows)
    names = rows.schema.names
    if not names or names[0] in COLUMNS or not _is_identifier(rows.schema.types[0]):
        first = f"{names[0]} ({rows.schema.types[0]})" if names else "missing"
        raise DataError(
            f"the first column of the training set is {first}, expected the key: text that "
            "identifies the visitor, such as domain_userid. Select the key first."
        )
    return str(names[0])


def visitors_of(rows: Rows) -> Any:
    """Return the key of each row as text, without nulls; integers become text.

    Raises:
        DataError: the first column holds no identifiers, or a null.
    """
    name = key_of(rows)
    visitors = rows.column(0)
    _refuse_nulls(name, visitors)
    return visitors if pa.types.is_string(visitors.type) else visitors.cast(pa.string())


def times_of(rows: Rows) -> Any:
    """Return ``anchor_ts`` of each row in UTC, with microseconds; without a zone it is UTC.

    Raises:
        DataError: the column is missing, has nulls or holds no times.
    """
    times = _column(rows, "anchor_ts")
    _refuse_nulls("anchor_ts", times)
    if times.type == _UTC:
        return times
    if not pa.types.is_timestamp(times.type):
        raise DataError(
            f"anchor_ts is {times.type}, expected timestamps in UTC. Convert the column first."
        )
    return pc.cast(times, pa.timestamp("us", times.type.tz), safe=False).cast(_UTC)


def microseconds_of(rows: Rows) -> npt.NDArray[np.int64]:
    """Return ``anchor_ts`` of each row as microseconds since 1970, shape (rows,)."""
    values: npt.NDArray[np.int64] = times_of(rows).cast(pa.int64()).to_numpy()
    return values


def moment(microseconds: float) -> datetime:
    """Return the aware time that is so many microseconds after 1970."""
    time = pa.scalar(int(microseconds), _UTC).as_py()
    assert isinstance(time, datetime)
    return time


def labels(rows: Rows) -> Floats:
    """Return the label column as 0.0 and 1.0, shape (rows,).

    Raises:
        DataError: it is neither boolean nor made of the numbers 0 and 1, or has nulls (an
            outcome that is not known yet).
    """
    column = _column(rows, "label")
    if column.null_count:
        raise DataError(
            f"label is null in {column.null_count} rows, expected true or false. Leave out "
            "anchors whose horizon is not fully observed."
        )
    if pa.types.is_boolean(column.type):
        truth: Floats = column.cast(pa.uint8()).to_numpy().astype(np.float64)
        return truth
    if not is_numeric(column.type):
        raise DataError(f"label is {column.type}, expected true and false, or 1 and 0.")
    numbers: Floats = pc.cast(column, pa.float64(), safe=False).to_numpy()
    others = numbers[~np.isin(numbers, (0.0, 1.0))]
    if len(others):
        raise DataError(f"label has the number {others[0]:g}, expected 1 and 0.")
    return numbers


def row_weights(rows: Rows) -> Floats:
    """Return the ``weight`` column, or ones, shape (rows,).

    Raises:
        DataError: a weight is no number, null, negative or not finite.
    """
    if "weight" not in rows.schema.names:
        return np.ones(rows.num_rows)
    column = rows.column("weight")
    if not is_numeric(column.type):
        raise DataError(f"weight is {column.type}, expected numbers from 0 on.")
    weights: Floats = pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan).to_numpy()
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("weight: expected numbers from 0 on, without nulls. Correct the column.")
    return weights


def is_numeric(kind: pa.DataType) -> bool:
    """Return whether a column holds integers, floats or decimals."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _column(rows: Rows, name: str) -> Any:
    check_rows(rows)
    if name not in rows.schema.names:
        raise DataError(
            f"the training set lacks {name}; its columns are {', '.join(rows.schema.names)}. "
            "Build it with extract, or add the column."
        )
    return rows.column(name)


def _is_identifier(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
    )


def _refuse_nulls(name: str, values: pa.ChunkedArray | pa.Array) -> None:
    if values.null_count:
        raise DataError(
            f"{name} is null in {values.null_count} rows; every row needs both a key and a time. "
            "Leave these rows out."
        )
