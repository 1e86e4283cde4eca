"""Which rows a model may learn from, and which then tell how good it is.

Rows of one visitor are alike, and tomorrow is not in today's data. So a test row is
later than every training row by one horizon (the last label of training is known by
then), and its visitor is not in training at all:

    train: visitors not held out ..........|  gap  |  (not used)
    test:                                  |  gap  |  held-out visitors, new visitors

Held-out visitors are chosen by a stable hash, so they are the same ones next week, and
a champion and a challenger trained on different weeks both have never seen them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
HORIZON = timedelta(hours=1)
HELD_OUT = 0.3


def visitor_fractions(visitors: pa.ChunkedArray | pa.Array, salt: str = "held-out") -> Floats:
    """A number in [0, 1) for each row that depends on its visitor (and salt) alone.

    Example: the same visitor gets the same number on every machine and in every year.
    """
    _refuse_nulls("domain_userid", visitors)
    codes = (
        visitors.combine_chunks() if isinstance(visitors, pa.ChunkedArray) else visitors
    ).dictionary_encode()
    hashes = (
        hashlib.blake2b(f"{salt}:{visitor}".encode(), digest_size=8).digest()
        for visitor in codes.dictionary.to_pylist()
    )
    fractions = np.array([int.from_bytes(h, "big") / 2**64 for h in hashes], dtype=np.float64)
    found: Floats = fractions[codes.indices.to_numpy()]
    return found


def visitor_folds(visitors: pa.ChunkedArray | pa.Array, folds: int) -> npt.NDArray[np.int64]:
    """A fold 0 .. folds - 1 for each row; all rows of a visitor are in one fold."""
    return (visitor_fractions(visitors, "fold") * folds).astype(np.int64)


@dataclass(frozen=True)
class TimeRule:
    """Which side a row is on, from the row alone (so it works on a stream).

    Attributes:
        cut: where testing starts, aware.
        horizon: how far a label looks ahead; the gap before ``cut``.
        held_out: share of the visitors, by hash, that are never trained on.
        salt: another salt holds out other visitors.
    """

    cut: datetime
    horizon: timedelta = HORIZON
    held_out: float = HELD_OUT
    salt: str = "held-out"

    def train_mask(self, rows: pa.Table | pa.RecordBatch) -> Mask:
        """Rows whose label was known before ``cut``, of visitors not held out."""
        known = _before(rows, self.cut - self.horizon)
        return known & (self._fractions(rows) >= self.held_out)

    def test_mask(self, rows: pa.Table | pa.RecordBatch) -> Mask:
        """Rows from ``cut`` on, of visitors held out."""
        return ~_before(rows, self.cut) & (self._fractions(rows) < self.held_out)

    def _fractions(self, rows: pa.Table | pa.RecordBatch) -> Floats:
        return visitor_fractions(rows.column("domain_userid"), self.salt)


@dataclass(frozen=True)
class Split:
    """A training set cut in two; ``test_weight`` makes the test rows represent everyone.

    Of returning visitors only the held-out share is tested, so each of those rows
    counts 1 / share; visitors first seen after the cut are all tested and count 1.
    """

    name: str
    train: pa.Table
    test: pa.Table
    test_weight: Floats
    cut: datetime | None = None
    horizon: timedelta = HORIZON

    def shared_visitors(self) -> int:
        """How many test visitors are also in training: 0 where the split is honest."""
        both = pc.is_in(
            pc.unique(self.test["domain_userid"]), pc.unique(self.train["domain_userid"])
        )
        return int(pc.sum(both).as_py() or 0)


def honest_split(
    table: pa.Table,
    *,
    cut: datetime | None = None,
    until: datetime | None = None,
    horizon: timedelta = HORIZON,
    held_out: float = HELD_OUT,
    salt: str = "held-out",
    name: str = "honest",
) -> Split:
    """Train before ``cut`` less one horizon; test after it, on visitors not trained on.

    Args:
        table: a training set.
        cut: start of the test period; by default the moment 75% of the rows are before.
        until: end of the test period, by default the end of the table.
    Raises:
        DataError: the table is empty, or one side of the split would be.
    """
    if table.num_rows == 0:
        raise DataError("the training set is empty. Widen --since .. --until, or check app ids.")
    rule = TimeRule(cut or quantile_time(table, 0.75), horizon, held_out, salt)
    train_mask = rule.train_mask(table)
    train = table.filter(train_mask)
    seen_before = table.filter(_before(table, rule.cut - horizon))["domain_userid"]
    new = ~_in(table["domain_userid"], seen_before)
    in_period = ~_before(table, rule.cut)
    if until is not None:
        in_period &= _before(table, until)
    test_mask = in_period & (new | rule.test_mask(table))
    weight = np.where(new, 1.0, 1.0 / held_out)[test_mask] * row_weights(table)[test_mask]
    split = Split(name, train, table.filter(test_mask), weight, rule.cut, horizon)
    _check_sides(split, table)
    return split


def random_split(table: pa.Table, *, share: float = 0.25, seed: int = 0) -> Split:
    """Rows at random, as in the public versions: visitors on both sides, optimistic.

    Kept to show what it hides; never use its figures.
    """
    test = np.random.default_rng(seed).random(table.num_rows) < share
    weight = row_weights(table)[test]
    return Split("random rows", table.filter(~test), table.filter(test), weight)


def forward_splits(table: pa.Table, *, splits: int = 4, **options: Any) -> Iterator[Split]:
    """Train on the past, test on the next slice; ``splits`` times, moving forward.

    The first half of the rows is always training; the rest is cut into equal slices.
    """
    shares = np.linspace(0.5, 1.0, splits + 1)
    cuts = [quantile_time(table, share) for share in shares[:-1]]
    ends: list[datetime | None] = [*cuts[1:], None]
    for number, (cut, end) in enumerate(zip(cuts, ends, strict=True), start=1):
        yield honest_split(table, cut=cut, until=end, name=f"forward {number}", **options)


def quantile_time(table: pa.Table, share: float) -> datetime:
    """The moment before which this share of the rows lies, aware."""
    times = np.sort(_microseconds(table["anchor_ts"]))
    moment = times[min(int(share * len(times)), len(times) - 1)]
    found = pa.scalar(int(moment), pa.timestamp("us", "UTC")).as_py()
    assert isinstance(found, datetime)
    return found


def row_weights(table: pa.Table | pa.RecordBatch) -> Floats:
    """The ``weight`` column, or ones.

    Raises:
        DataError: a weight is null, negative or not finite.
    """
    if "weight" not in table.schema.names:
        return np.ones(table.num_rows)
    weights: Floats = np.asarray(table.column("weight"), dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("weight: expected numbers from 0 on, without nulls. Correct the column.")
    return weights


def _microseconds(times: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    _refuse_nulls("anchor_ts", times)
    values = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    found: npt.NDArray[np.int64] = values.to_numpy()
    return found


def _refuse_nulls(name: str, values: pa.ChunkedArray | pa.Array) -> None:
    if values.null_count:
        raise DataError(
            f"{name} is null in {values.null_count} rows; every row needs a visitor and a moment. "
            "Leave them out in the query of the anchors."
        )


def _before(rows: pa.Table | pa.RecordBatch, moment: datetime) -> Mask:
    limit = pa.scalar(moment, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()
    found: Mask = _microseconds(rows.column("anchor_ts")) < limit
    return found


def _in(values: pa.ChunkedArray, members: pa.ChunkedArray) -> Mask:
    found: Mask = pc.is_in(values, pc.unique(members)).to_numpy()
    return found


def _check_sides(split: Split, table: pa.Table) -> None:
    for side, rows in (("training", split.train), ("test", split.test)):
        if rows.num_rows == 0:
            raise DataError(
                f"the {side} side is empty when {table.num_rows} rows are cut at {split.cut}. "
                "Widen --since .. --until, or move the cut."
            )
