"""Splits by time and by visitor."""

import itertools
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prospect_lib.errors import DataError
from prospect_lib.model.rows import key_of, visitors_of
from prospect_lib.model.splits import (
    TimeRule,
    forward_splits,
    honest_split,
    random_split,
    visitor_folds,
    visitor_fractions,
)
from tests.support.synthetic import START, training_table

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=600, views=6)


def ends(table: pa.Table) -> tuple[datetime, datetime]:
    times = pc.min_max(table["anchor_ts"]).as_py()
    return times["min"], times["max"]


def test_no_visitor_is_on_both_sides(table):
    split = honest_split(table)
    assert split.shared_visitors() == 0
    assert random_split(table).shared_visitors() > 300  # the check can fail


def test_a_split_has_the_name_it_was_given_and_counts_the_rows_on_neither_side(table):
    split = honest_split(table, name="spring")
    assert split.name == "spring" and honest_split(table).name == "honest"
    assert split.train.num_rows + split.test.num_rows + split.unused == table.num_rows


def test_every_label_of_training_is_known_before_testing_starts(table):
    split = honest_split(table, horizon=12 * HOUR)
    assert ends(split.train)[1] + 12 * HOUR <= split.cut <= ends(split.test)[0]


def test_forward_splits_move_forward_and_do_not_overlap(table):
    splits = list(forward_splits(table, splits=3))
    assert [s.shared_visitors() for s in splits] == [0, 0, 0]
    for before, after in itertools.pairwise(splits):
        assert ends(before.test)[1] < after.cut <= ends(after.test)[0]
        assert before.train.num_rows < after.train.num_rows


def test_the_same_visitors_are_held_out_whatever_the_data(table):
    early = table.filter(pc.less(table["anchor_ts"], pa.scalar(START + timedelta(days=20))))
    cut = START + timedelta(days=15)
    held = [
        set(t.filter(~TimeRule(cut).train_mask(t))["domain_userid"].to_pylist())
        & set(t.filter(pc.less(t["anchor_ts"], pa.scalar(cut - HOUR)))["domain_userid"].to_pylist())
        for t in (early, table)
    ]
    trained = set(honest_split(table, cut=cut).train["domain_userid"].to_pylist())
    hashed = {v for v in held[0] if visitor_fractions(pa.array([v]))[0] < 0.3}
    assert len(hashed) > 20
    assert not hashed & trained


def test_fractions_are_uniform_and_stable():
    fractions = visitor_fractions(pa.array([f"v{i}" for i in range(20_000)]))
    assert abs(np.histogram(fractions, 10, (0, 1))[0] - 2000).max() < 200
    assert visitor_fractions(pa.array(["v7", "v0", "v7"])).tolist() == [
        fractions[7],
        fractions[0],
        fractions[7],
    ]
    assert fractions[0] == pytest.approx(0.2233663849)


def test_test_weights_represent_all_visitors(table):
    split = honest_split(table)
    everyone = table.filter(pc.greater_equal(table["anchor_ts"], pa.scalar(split.cut)))
    assert split.test_weight.sum() == pytest.approx(everyone.num_rows, rel=0.12)
    weighted = table.append_column("weight", pa.array(np.full(table.num_rows, 0.5)))
    np.testing.assert_allclose(honest_split(weighted).test_weight, split.test_weight / 2)


def test_a_stream_obeys_the_same_rule_as_the_table(table):
    cut = START + timedelta(days=25)
    rule = TimeRule(cut)
    kept = [b.filter(pa.array(rule.train_mask(b))) for b in table.to_batches(max_chunksize=500)]
    assert pa.Table.from_batches(kept).equals(honest_split(table, cut=cut).train.combine_chunks())


def test_folds_are_by_visitor():
    visitors = [f"v{i}" for i in range(50)]
    folds = visitor_folds(pa.array(visitors * 3), 5)
    assert folds.tolist() == folds[:50].tolist() * 3
    assert set(folds) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": START - timedelta(days=1)}, "training side is empty"),
        ({"cut": START + timedelta(days=99)}, "test side is empty"),
        ({"horizon": timedelta(days=99)}, "training side is empty"),
    ],
)
def test_an_empty_side_is_named_in_the_error(table, options, message):
    with pytest.raises(DataError, match=message):
        honest_split(table, **options)


@pytest.mark.parametrize("column", ["domain_userid", "anchor_ts"])
def test_a_row_without_visitor_or_time_is_an_error(table, column):
    place = table.schema.get_field_index(column)
    broken = table.set_column(place, column, pa.nulls(table.num_rows, table.schema.types[place]))
    with pytest.raises(DataError, match=f"{column} is null in"):
        honest_split(broken, cut=START)


def test_an_empty_table_and_broken_weights_are_errors(table):
    with pytest.raises(DataError, match="empty"):
        honest_split(table.slice(0, 0))
    broken = table.append_column("weight", pa.array(np.full(table.num_rows, -1.0)))
    with pytest.raises(DataError, match="weight: expected numbers from 0"):
        honest_split(broken)


def test_the_key_is_the_first_column_whatever_its_name(table):
    renamed = table.rename_columns({"domain_userid": "user_id"})
    split, expected = honest_split(renamed), honest_split(table)
    assert key_of(split.test) == "user_id"
    assert visitors_of(split.test).equals(visitors_of(expected.test))
    assert split.shared_visitors() == 0


@pytest.mark.parametrize("kind", [pa.int64(), pa.dictionary(pa.int32(), pa.string())])
def test_identifiers_that_are_integers_or_categories_become_text(kind):
    numbers = pa.array([7, 8, 7]).cast(kind if pa.types.is_integer(kind) else pa.string())
    rows = pa.table({"user_id": numbers.cast(kind), "label": [True, False, True]})
    assert visitors_of(rows).to_pylist() == ["7", "8", "7"]


@pytest.mark.parametrize(
    "rows",
    [
        pa.table({}),
        pa.table({"label": [True], "user_id": ["a"]}),
        pa.table({"anchor_ts": ["2026-01-05"], "user_id": ["a"]}),
        pa.table({"num_page_views": [1.0], "user_id": ["a"]}),
    ],
)
def test_a_training_set_that_does_not_start_with_its_key_is_refused(rows):
    with pytest.raises(
        DataError, match=r"the first column of the training set is .*Select the key"
    ):
        visitors_of(rows)
