"""Feature values as XGBoost's numbers, in a table and one by one."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.errors import DataError, ModelError
from prospect_lib.model.encoding import ABSENT, Column, Encoder

COLUMNS = Encoder(
    (
        Column("views", "number", "views"),
        Column("pricing", "number", "pricing", monotone=True),
        Column("converted", "flag", "conversions"),
        Column("medium", "category", "medium", ("email", "search")),
    )
)
NAMES = COLUMNS.names
VALUES = st.fixed_dictionaries(
    {
        "views": st.none() | st.integers(0, 10**6),
        "pricing": st.none() | st.integers(0, 10**6),
        "converted": st.none() | st.booleans(),
        "medium": st.none() | st.sampled_from(["email", "search", "never seen"]),
    }
)
TYPES = pa.schema(
    [
        ("views", pa.int64()),
        ("pricing", pa.int64()),
        ("converted", pa.bool_()),
        ("medium", pa.string()),
    ]
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_row_is_encoded_the_same_alone_and_in_a_table(rows):
    matrix = COLUMNS.matrix(pa.Table.from_pylist(rows, TYPES))
    np.testing.assert_array_equal(matrix, np.vstack([COLUMNS.row(row) for row in rows]))


def test_the_code_of_a_missing_value_depends_on_the_kind_of_feature():
    row = COLUMNS.row(dict.fromkeys(NAMES))
    np.testing.assert_array_equal(row, [[ABSENT, 0.0, ABSENT, 2.0]])
    assert ABSENT < -1e29


def test_a_number_that_is_nan_is_encoded_as_missing():
    """XGBoost needs twelve times the memory for rows with gaps, so there must be none."""
    table = pa.table({**dict.fromkeys(NAMES, pa.nulls(1)), "views": [math.nan]})
    assert COLUMNS.matrix(table)[0, 0] == COLUMNS.columns[0].encode_value(math.nan) == ABSENT
    assert not np.isnan(COLUMNS.matrix(table)).any()


def test_categories_are_codes_and_unseen_ones_are_missing():
    codes = [COLUMNS.columns[3].encode_value(v) for v in ("email", "search", "carrier pigeon")]
    np.testing.assert_array_equal(codes, [0.0, 1.0, 2.0])


def test_categories_are_sorted_so_that_codes_do_not_depend_on_the_order_of_rows():
    from prospect_lib.features import FEATURES

    one = Encoder.fit({"latest_app_id": ["b", "a"]}, FEATURES)
    assert one == Encoder.fit({"latest_app_id": {"a", "b"}}, FEATURES)
    assert one == Encoder.from_json(one.to_json())


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("views", pa.array(["3"]), "column views is string, expected a number"),
        ("converted", pa.array([1]), "column converted is int64, expected a flag"),
        ("medium", pa.array([1.5]), "column medium is double, expected a category"),
        ("views", pa.array([math.inf]), "views: an infinite number"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(column, values, message):
    good = pa.Table.from_pylist([dict.fromkeys(NAMES)], TYPES)
    table = good.set_column(NAMES.index(column), column, values)
    with pytest.raises(DataError, match=message):
        COLUMNS.matrix(table)


@pytest.mark.parametrize(
    ("name", "value"),
    [("views", "3"), ("views", True), ("converted", 1), ("medium", 7), ("views", [1])],
)
def test_a_served_value_of_the_wrong_type_is_named(name, value):
    with pytest.raises(DataError, match=f"{name}=.*expected a"):
        COLUMNS.row({**dict.fromkeys(NAMES), name: value})


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="rows lack pricing, medium"):
        COLUMNS.matrix(pa.table({"views": [1], "converted": [True]}))


def test_columns_of_nulls_and_of_decimals_are_read():
    table = pa.table(
        {
            "views": pa.nulls(1),
            "pricing": pa.array([3]).cast(pa.decimal128(20, 0)),
            "converted": pa.nulls(1),
            "medium": pa.array(["search"]).dictionary_encode(),
        }
    )
    np.testing.assert_array_equal(COLUMNS.matrix(table), [[ABSENT, 3, ABSENT, 1]])


def test_a_damaged_manifest_is_refused():
    with pytest.raises(ModelError, match="nonsense"):
        Encoder.from_json([{"name": "views", "nonsense": 1, "categories": []}])
