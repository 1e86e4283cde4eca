"""Splits of a training set into rows to train on and rows to test on.

Rows of one visitor resemble each other, and future rows differ from past ones. A test row
is therefore later than every training row by at least one horizon (by then the last
training label is known), and its visitor does not occur in training:

    train: visitors not held out ..........|  gap  |  (not used)
    test:                                  |  gap  |  held-out visitors, new visitors

Visitors are held out by a stable hash. The same visitors are held out next week, so a
champion and a challenger that were trained in different weeks have both never seen them.
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

from prospect_lib.errors import TooFewError, wrong_type
from prospect_lib.model.rows import (
    MORE_DATA,
    Floats,
    Mask,
    Rows,
    check_rows,
    microseconds_of,
    moment,
    row_weights,
    visitors_of,
)

HORIZON = timedelta(hours=1)
HELD_OUT = 0.3


def visitor_fractions(visitors: pa.ChunkedArray | pa.Array, salt: str = "held-out") -> Floats:
    """Return a number in [0, 1) per row, shape (rows,), a hash of its visitor and the salt.

    Example: ``visitor_fractions(pa.array(["a", "b", "a"]))`` gives both rows of ``a`` the same
    number, on every machine and in every year.
    """
    codes = (
        visitors.combine_chunks() if isinstance(visitors, pa.ChunkedArray) else visitors
    ).dictionary_encode()
    hashes = (
        hashlib.blake2b(f"{salt}:{visitor}".encode(), digest_size=8).digest()
        for visitor in codes.dictionary.to_pylist()
    )
    by_code = np.array([int.from_bytes(h, "big") / 2**64 for h in hashes], dtype=np.float64)
    by_row: Floats = by_code[codes.indices.to_numpy()]
    return by_row


def visitor_folds(visitors: pa.ChunkedArray | pa.Array, folds: int) -> npt.NDArray[np.int64]:
    """Return a fold 0 .. folds - 1 per row; all rows of a visitor are in the same fold."""
    return (visitor_fractions(visitors, "fold") * folds).astype(np.int64)


@dataclass(frozen=True)
class TimeRule:
    """Assigns a row to training or testing from the row alone, so it works on a stream.

    Attributes:
        cut: start of the test period, aware.
        horizon: how far a label looks ahead, which is the gap before ``cut``.
        held_out: share of the visitors, by hash, that are never trained on.
        salt: another salt holds out other visitors.
    """

    cut: datetime
    horizon: timedelta = HORIZON
    held_out: float = HELD_OUT
    salt: str = "held-out"

    def train_mask(self, rows: Rows) -> Mask:
        """Select rows whose label was known before ``cut``, of visitors not held out."""
        known = _before(rows, self.cut - self.horizon)
        return known & (self._fractions(rows) >= self.held_out)

    def test_mask(self, rows: Rows) -> Mask:
        """Select rows from ``cut`` on, of visitors held out."""
        return ~_before(rows, self.cut) & (self._fractions(rows) < self.held_out)

    def _fractions(self, rows: Rows) -> Floats:
        return visitor_fractions(visitors_of(rows), self.salt)


@dataclass(frozen=True)
class Split:
    """A training set cut in two.

    Attributes:
        name: for tables and pictures.
        train: rows to train on.
        test: rows to test on.
        test_weight: weight of each test row, shape (rows,). Of the returning visitors only
            the held-out share is tested, so each of their rows counts 1 / share. Visitors
            first seen after the cut are all tested and count 1.
        cut: start of the test period, aware; ``None`` for a random split.
        horizon: how far a label looks ahead.
        unused: number of rows on neither side: earlier ones of visitors who are tested on, later
            ones of visitors trained on, and those in the gap.
    """

    name: str
    train: pa.Table
    test: pa.Table
    test_weight: Floats
    cut: datetime | None = None
    horizon: timedelta = HORIZON
    unused: int = 0

    def shared_visitors(self) -> int:
        """Count the test visitors that are also in training: 0 for an honest split."""
        test, train = (pc.unique(visitors_of(side)) for side in (self.test, self.train))
        both = pc.is_in(test, train)
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
    """Split by time and by visitor, with a gap of one horizon before the cut.

    Args:
        table: a training set.
        cut: start of the test period; by default three quarters of the rows are before it.
        until: end of the test period; by default the end of the table.
        horizon: how far a label looks ahead.
        held_out: share of the visitors that are tested on and not trained on.
        salt: another salt holds out other visitors.
        name: the name of the split.
    Raises:
        TooFewError: the table is empty, or one side of the split would be.

    Example: ``honest_split(table, cut=datetime(2026, 3, 1, tzinfo=UTC)).shared_visitors()``
    returns 0.
    """
    check_rows(table)
    if table.num_rows == 0:
        raise TooFewError(f"the training set is empty, expected rows to train on. {MORE_DATA}")
    for argument, time in (("cut", cut), ("until", until)):
        if time is not None and not isinstance(time, datetime):
            raise wrong_type(argument, time, "a datetime in UTC")
    rule = TimeRule(cut or quantile_time(table, 0.75), horizon, held_out, salt)
    train = table.filter(rule.train_mask(table))
    visitors = visitors_of(table)
    new = ~_is_in(visitors, visitors.filter(pa.array(_before(table, rule.cut - horizon))))
    in_period = ~_before(table, rule.cut)
    if until is not None:
        in_period &= _before(table, until)
    test_mask = in_period & (new | rule.test_mask(table))
    weight = np.where(new, 1.0, 1.0 / held_out)[test_mask] * row_weights(table)[test_mask]
    test = table.filter(test_mask)
    unused = table.num_rows - train.num_rows - test.num_rows
    split = Split(name, train, test, weight, rule.cut, horizon, unused)
    _refuse_empty_side(split, table)
    return split


def random_split(table: pa.Table, *, share: float = 0.25, seed: int = 0) -> Split:
    """Split the rows at random, as public tutorials do: visitors end up on both sides.

    It shows how much such a split flatters a model. Do not report its figures.
    """
    test = np.random.default_rng(seed).random(table.num_rows) < share
    weight = row_weights(table)[test]
    return Split("random rows", table.filter(~test), table.filter(test), weight)


def forward_splits(table: pa.Table, *, splits: int = 4, **options: Any) -> Iterator[Split]:
    """Yield splits that move forward in time: train on the past, test on the next slice.

    The first half of the rows is always training; the rest is cut into equal slices.

    Args:
        options: for :func:`honest_split`.
    """
    shares = np.linspace(0.5, 1.0, splits + 1)
    cuts = [quantile_time(table, share) for share in shares[:-1]]
    ends: list[datetime | None] = [*cuts[1:], None]
    for number, (cut, end) in enumerate(zip(cuts, ends, strict=True), start=1):
        yield honest_split(table, cut=cut, until=end, name=f"forward {number}", **options)


def quantile_time(table: pa.Table, share: float) -> datetime:
    """Return the time of a row before which this share of the rows lies, aware."""
    return moment(np.quantile(microseconds_of(table), share, method="higher"))


def _before(rows: Rows, time: datetime) -> Mask:
    limit = pa.scalar(time, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()
    mask: Mask = microseconds_of(rows) < limit
    return mask


def _is_in(values: pa.ChunkedArray, members: pa.ChunkedArray) -> Mask:
    mask: Mask = pc.is_in(values, pc.unique(members)).to_numpy()
    return mask


def _refuse_empty_side(split: Split, table: pa.Table) -> None:
    for side, rows in (("training", split.train), ("test", split.test)):
        if rows.num_rows == 0:
            raise TooFewError(
                f"the {side} side is empty when {table.num_rows:,} rows are cut at "
                f"{split.cut:%Y-%m-%d %H:%M} with a gap of {split.horizon}. {MORE_DATA}"
            )
