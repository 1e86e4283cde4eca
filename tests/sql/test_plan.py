"""No join of a compiled statement multiplies rows, however long a visitor's history is."""

import json
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.training_set import features_sql
from tests.sql.test_statements import STATEMENTS
from tests.support.plan_shape import joins, multiplying
from tests.support.worlds import START, anchors_table, event, events_table

FEATURES = "the features of the prospect model"
#: Lists: each anchor is joined with the values that it lists, at most as many as a visitor has.
JOINS_VALUES = {
    "how often each value occurred": "timeline AS t",
    "the distinct values of a week": "runs",
}
SELF_JOIN = """
SELECT a.visitor, COUNT(*) FROM anchors AS a
JOIN events AS e ON e.visitor = a.visitor AND e.ts <= a.ts GROUP BY a.visitor"""
OF_TWO_PLACES = """
WITH d AS (SELECT DISTINCT x FROM events),
v AS (SELECT x, 1 AS place FROM d UNION ALL SELECT x, 1 FROM d UNION ALL SELECT x, 2 FROM d)"""
VISITORS, EACH = 3, 1500
#: The stream has each event once, and once for each of 3 columns whose distinct values are counted;
#: and each anchor once, and once for each of 3 lengths of windows.
STREAM = (1 + 3) * VISITORS * EACH + (1 + 3) * VISITORS * EACH


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake"])
@pytest.mark.parametrize("title", sorted(STATEMENTS.keys() - JOINS_VALUES))
def test_no_join_multiplies_rows(title: str, dialect: str) -> None:
    assert multiplying(STATEMENTS[title](dialect), dialect) == []


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake"])
def test_every_join_is_checked(dialect: str) -> None:
    features = STATEMENTS[FEATURES](dialect)
    assert joins(features, dialect) > 8
    assert joins(features, dialect) == features.count("JOIN ")
    for title, relation in JOINS_VALUES.items():
        (join,) = multiplying(STATEMENTS[title](dialect), dialect)
        assert relation.lower() in join.lower()


@pytest.mark.parametrize(
    "sql",
    [
        SELF_JOIN,
        "SELECT * FROM anchors AS a, events AS e",
        "SELECT * FROM anchors AS a CROSS JOIN events AS e",
        "WITH v AS (SELECT DISTINCT x, y FROM events) SELECT * FROM anchors a JOIN v ON v.x = a.x",
        "WITH v AS (SELECT DISTINCT x FROM events) SELECT * FROM anchors a JOIN v ON v.x >= a.x",
        "WITH v AS (SELECT DISTINCT x FROM events) SELECT * FROM anchors a JOIN v ON v.x = v.x",
        "WITH v AS (SELECT x FROM events) SELECT * FROM anchors a JOIN v ON v.x = a.x",
        "WITH v AS (SELECT x AS z, y AS x FROM (SELECT DISTINCT x FROM events) AS d) "
        "SELECT * FROM anchors a JOIN v ON v.x = a.x",
        "WITH v AS (SELECT DISTINCT x FROM e UNION ALL SELECT x FROM e) "
        "SELECT * FROM anchors a JOIN v ON v.x = a.x",
        f"{OF_TWO_PLACES} SELECT * FROM anchors a JOIN v ON v.x = a.x",
        f"{OF_TWO_PLACES} SELECT * FROM anchors a JOIN v ON v.x = a.x AND v.place = 1",
    ],
)
def test_a_join_that_multiplies_is_noticed(sql: str) -> None:
    assert len(multiplying(sql, "duckdb")) == 1


def rows_of_operators(sql: str) -> list[int]:
    """How many rows each operator of a statement emits, over few visitors with long histories."""
    anchors = [
        (f"v{visitor}", START + timedelta(seconds=20 * number))
        for visitor in range(VISITORS)
        for number in range(EACH)
    ]
    events = [
        event(at, user=key, app_id=f"app {number % 7}", domain_sessionid=f"{number // 30}")
        for number, (key, at) in enumerate(anchors)
    ]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events_table(events))
        connection.register("anchors", anchors_table(anchors))
        ((_, plan),) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").fetchall()
    rows, operators = [], list(json.loads(plan)["operator"])
    while operators:
        operator = operators.pop()
        operators += operator.get("children", [])
        rows.append(int(operator["intermediate_rows"]))
    return rows


def test_the_value_of_a_column_can_choose_one_part_of_a_union() -> None:
    sql = f"{OF_TWO_PLACES} SELECT * FROM anchors a JOIN v ON v.x = a.x AND v.place = 2"
    assert multiplying(sql, "duckdb") == []


def test_no_operator_emits_more_rows_than_the_stream_of_events_and_anchors_has() -> None:
    emitted = rows_of_operators(features_sql(prospect_group, events="events", anchors="anchors"))
    assert len(emitted) > 20 and max(emitted) >= VISITORS * EACH
    assert max(emitted) <= STREAM


def test_a_self_join_would_emit_many_times_as_many() -> None:
    sql = SELF_JOIN.replace("visitor", "domain_userid").replace("e.ts", "e.derived_tstamp")
    emitted = rows_of_operators(sql.replace("a.ts", "a.anchor_ts"))
    assert max(emitted) > 10 * STREAM


def test_the_kept_statement_multiplies_no_rows() -> None:
    kept = Path(__file__).parent / "statements" / f"{FEATURES}.snowflake.sql"
    assert multiplying(kept.read_text(), "snowflake") == []
