"""Your own anchors: labels, times and identifiers of any type are read, or refused by one line."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from snowplow_signals import Attribute, StreamAttributeGroup, user_id

from prospect_lib.attributes import PAGE_VIEW
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.training_set import Anchors, create_table, extract
from prospect_lib.warehouse import DuckDBWarehouse

MORNING = datetime(2026, 1, 5, 6, tzinfo=UTC)
NIL = "00000000-0000-0000-0000-000000000000"
GROUP = StreamAttributeGroup(
    name="members",
    attribute_key=user_id,
    owner="a@example.com",
    attributes=[
        Attribute(name="views", type="int64", events=[PAGE_VIEW], aggregation="counter"),
    ],
)
#: Users 0 to 9 with a page view every hour of a day.
EVENTS = """
SELECT CAST(u.range AS VARCHAR) AS user_id, 'page_view' AS event_name,
  'com.snowplowanalytics.snowplow' AS event_vendor, '1-0-0' AS event_version,
  TIMESTAMP '2026-01-05' + INTERVAL (h.range) HOUR AS derived_tstamp
FROM range(10) AS u, range(24) AS h
"""


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse.over(EVENTS)
    yield opened
    opened.close()


def own(warehouse: DuckDBWarehouse, **columns: str) -> DuckDBWarehouse:
    """The warehouse with anchors of users 0 and 1 at six o'clock; columns as SQL over ``n``."""
    defaults = {"user_id": "CAST(n AS VARCHAR)", "anchor_ts": "TIMESTAMP '2026-01-05 06:00:00'"}
    select = ", ".join(f"{value} AS {name}" for name, value in (defaults | columns).items())
    warehouse.run(f"CREATE OR REPLACE TABLE own AS SELECT {select} FROM range(2) AS r(n)")
    return warehouse


@pytest.mark.parametrize(
    "label",
    [
        "n = 1",
        "n",
        "CAST(n AS DOUBLE)",
        "CAST(n AS DECIMAL(1, 0))",
        "CAST(n AS DECIMAL(10, 2))",
        "CAST(n AS VARCHAR)",
        "CASE n WHEN 1 THEN 'yes' ELSE 'no' END",
        "CASE n WHEN 1 THEN 'Yes' ELSE 'NO' END",
        "CASE n WHEN 1 THEN 'true' ELSE 'false' END",
        "CASE n WHEN 1 THEN 'T' ELSE 'F' END",
    ],
)
def test_a_label_of_any_type_is_a_boolean(warehouse: DuckDBWarehouse, label: str) -> None:
    rows = extract(own(warehouse, label=label), GROUP, "own")
    assert rows.table["label"].to_pylist() == [False, True]
    assert rows.manifest["positives"] == 1


@pytest.mark.parametrize(
    "anchor_ts",
    [
        "TIMESTAMPTZ '2026-01-05 06:00:00+00'",
        "TIMESTAMP_NS '2026-01-05 06:00:00'",
        "TIMESTAMP_NS '2026-01-05 06:00:00.000000999'",
        "'2026-01-05 06:00:00'",
        "'2026-01-05T06:00:00Z'",
        "'2026-01-05T01:00:00-05:00'",
        "'2026-01-05T07:30:00.000+01:30'",
    ],
)
def test_a_time_of_any_type_is_utc(warehouse: DuckDBWarehouse, anchor_ts: str) -> None:
    table = extract(own(warehouse, anchor_ts=anchor_ts), GROUP, "own").table
    assert table["anchor_ts"].to_pylist() == [MORNING, MORNING]
    assert table["views"].to_pylist() == [7, 7]


@pytest.mark.parametrize(
    "user_id",
    [
        "n",
        "CAST(n AS HUGEINT)",
        "CAST(n AS DECIMAL(38, 0))",
        "CAST(n AS DOUBLE)",
        "CAST(n AS DECIMAL(9, 2))",
    ],
)
def test_whole_numbers_are_identifiers(warehouse: DuckDBWarehouse, user_id: str) -> None:
    table = extract(own(warehouse, user_id=user_id), GROUP, "own").table
    assert table["user_id"].to_pylist() == ["0", "1"]
    assert table["views"].to_pylist() == [7, 7]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "'maybe'"}, r"^label of the anchors own is 'maybe', expected true or false"),
        ({"label": "2"}, r"^label of the anchors own is '2', expected"),
        ({"anchor_ts": "'yesterday'"}, r"^anchor_ts of the anchors own is 'yesterday', expected"),
        ({"weight": "'heavy'"}, r"^weight of the anchors own is 'heavy', expected a number"),
        ({"weight": "'NaN'"}, r"^weight of the anchors own is 'NaN', expected a number"),
        ({"weight": "CAST('NaN' AS DOUBLE)"}, r"^weight of the anchors own is 'nan', expected"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_one_line(
    warehouse: DuckDBWarehouse, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        extract(own(warehouse, **columns), GROUP, "own")
    assert "\n" not in str(refused.value)


def test_missing_columns_are_named(warehouse: DuckDBWarehouse) -> None:
    warehouse.run("CREATE TABLE other AS SELECT 1 AS visitor, now() AS anchor_ts")
    with pytest.raises(DataError, match="other have no column user_id; they have visitor, anchor"):
        extract(warehouse, GROUP, "other")


@pytest.mark.parametrize("rows_at_once", [1000, 2])
def test_rows_without_identifier_time_or_label_are_left_out_and_counted(
    warehouse: DuckDBWarehouse, rows_at_once: int
) -> None:
    warehouse.run(
        "CREATE TABLE own AS SELECT * FROM (VALUES "
        "('1', '2026-01-05 06:00:00', 'yes'), ('2', '2026-01-05 06:00:00', 'no'), "
        "('3', '2026-01-05 06:00:00', 'no'), (NULL, '2026-01-05 06:00:00', 'no'), "
        f"('', '2026-01-05 06:00:00', 'no'), ('{NIL}', '2026-01-05 06:00:00', 'yes'), "
        "('4', NULL, 'yes'), ('5', '2026-01-05 06:00:00', NULL)) AS t(USER_ID, ANCHOR_TS, LABEL)"
    )
    rows = extract(warehouse, GROUP, "own", rows_at_once=rows_at_once)
    assert rows.table["user_id"].to_pylist() == ["1", "2", "3"]
    assert rows.manifest["notes"] == [
        "3 of 8 rows of own have no user_id; they are left out.",
        "1 of 8 rows of own have no anchor_ts; they are left out.",
        "1 of 8 rows of own have no label, so their outcome is not known; they are left out.",
    ]
    create_table(warehouse, "written", GROUP, "own")
    assert warehouse.query("SELECT COUNT(*) AS n FROM written")["n"][0].as_py() == 3


def test_an_earlier_training_set_is_a_relation_of_anchors(warehouse: DuckDBWarehouse) -> None:
    """Its features are computed again; they do not collide with the new ones."""
    anchors = Anchors(goal=PAGE_VIEW, horizon=timedelta(minutes=90), negatives=0.5)
    earlier = extract(warehouse, GROUP, anchors)
    warehouse.connection.register("earlier", earlier.table)
    again = extract(warehouse, GROUP, "earlier")
    assert again.table.equals(earlier.table)
    assert again.table.column_names == [
        *("user_id", "anchor_ts", "label", "weight", "views", "day_of_week"),
    ]


def test_events_of_nobody_make_no_rows(warehouse: DuckDBWarehouse) -> None:
    warehouse.run(f"UPDATE events SET user_id = CASE WHEN user_id < '5' THEN '' ELSE '{NIL}' END")
    with pytest.raises(DataError, match="no training row: no event with a right clock has a user"):
        extract(warehouse, GROUP, Anchors())


def test_a_relation_that_does_not_exist_is_refused_by_one_line(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(ServiceError, match="the anchors onw cannot be read; give Anchors") as e:
        extract(warehouse, GROUP, "onw")
    assert "\n" not in str(e.value)


def test_a_relation_without_a_usable_row_is_refused(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(DataError, match="no training row: the relation own has no row"):
        extract(own(warehouse, user_id="''"), GROUP, "own")
