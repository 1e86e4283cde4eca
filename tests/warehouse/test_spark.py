"""The Spark dialect on a real Spark: the fold's values, and DuckDB's rows."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from snowplow_signals import Attribute

from prospect_lib.aggregation.criteria import like, meets
from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import leaves, to_text
from prospect_lib.anchors import SITE_ANCHORS, Anchors
from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.doctor.accounts import open_limited, warehouse_checks
from prospect_lib.errors import DataError, ProspectError, ServiceError
from prospect_lib.monitoring.audit import audit
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.problem import prospect_problem
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.settings import Settings
from prospect_lib.sql.conditions import event_condition, matched_value
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set import attributes_sql, create_table, extract
from prospect_lib.warehouse import DatabricksWarehouse, DuckDBWarehouse, SparkWarehouse
from prospect_lib.warehouse.tables import temporary_table
from tests.sql.test_names import NAMES, named
from tests.sql.test_statements import FOLDER, STATEMENTS
from tests.sql.test_values import EVENTS, attribute
from tests.support import spark
from tests.support.databricks_cloud import CLOUD_SECRETS, Account, cloud
from tests.support.served_world import record, write
from tests.support.worlds import (
    COMPARED,
    CRITERIONS,
    DEVICE,
    EXAMPLES,
    HOUR,
    NUMBERS,
    START,
    TEXTS,
    anchors_table,
    event,
    events_table,
    group_of,
    served,
    worlds,
)
from tests.training_set.test_anchors import COLLECTOR, SAMPLED, key_of, run, table_of, visits
from tests.training_set.test_parity import comparable

SQL = dialect_of("spark")
KINDS = ["string", "double", "int64", "bool"]


@pytest.fixture(params=spark.KINDS)
def typed_events(request: pytest.FixtureRequest) -> tuple[list[dict[str, Any]], pa.Table, bool]:
    """Events of all spellings, where the nested values have one type; whether it is text."""
    kinds = dict.fromkeys(("price", "size", "device_class"), request.param)
    return *spark.typed(EVENTS, {**kinds, "at": "string"}), request.param == "string"


def is_nested(prop: Any) -> bool:
    """Whether a property depends on the type of a nested value."""
    return any(leaf.type != "atomic" for leaf in leaves(prop))


def test_values_are_those_of_the_fold(typed_events: Any) -> None:
    events, table, is_all = typed_events
    properties = [prop for prop in [*TEXTS, *NUMBERS] if is_all or is_nested(prop)]
    attributes = [attribute(kind, prop) for kind in KINDS for prop in properties]
    columns = [f"{matched_value(each, SQL)} AS c{n}" for n, each in enumerate(attributes)]
    rows = spark.query(
        f"SELECT {', '.join(columns)} FROM events ORDER BY CAST(event_id AS INT)", events=table
    )
    for row, each in zip(rows, events, strict=True):
        for computed, definition in zip(row.values(), attributes, strict=True):
            expected = attribute_values(group_of(definition), [each], START)["x"]
            assert computed == expected and type(computed) is type(expected), (each, definition)


def test_criteria_select_the_events_that_the_fold_selects(typed_events: Any) -> None:
    events, table, is_all = typed_events
    criterions = [c for c in CRITERIONS if is_all or is_nested(c.property)]
    counters = [
        Attribute(name="x", type="int64", events=[], aggregation="counter", criteria={"all": [c]})
        for c in criterions
    ]
    columns = [f"{event_condition(c, SQL)} AS c{n}" for n, c in enumerate(counters)]
    rows = spark.query(
        f"SELECT {', '.join(columns)} FROM events ORDER BY CAST(event_id AS INT)", events=table
    )
    for row, each in zip(rows, events, strict=True):
        for selected, criterion in zip(row.values(), criterions, strict=True):
            assert bool(selected) is meets(criterion, each), (each, criterion)


TYPES = strategies.fixed_dictionaries(
    {
        **dict.fromkeys(
            ("price", "size", "device_class"),
            strategies.sampled_from([*spark.KINDS, "string", "double"]),
        ),
        "at": strategies.just("string"),
    }
)


#: Each takes Spark seconds, so there are fewer: those of ``make parity`` compare 25,000 values.
@settings(max_examples=EXAMPLES // 12 or 8, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(size=8), types=TYPES, ansi=strategies.booleans())
def test_spark_equals_fold_on_random_worlds(world: Any, types: dict[str, str], ansi: bool) -> None:
    group, events, anchors, inclusive = world
    events, table = spark.typed(events, types)
    key = group.attribute_key.name
    sql = attributes_sql(
        group, events="events", anchors="anchors", dialect="spark", include_anchor=inclusive
    )
    spark.session().conf.set("spark.sql.ansi.enabled", str(ansi).lower())
    rows = spark.query(sql, events=table, anchors=anchors_table(anchors, key))
    spark.session().conf.set("spark.sql.ansi.enabled", "true")
    assert len(rows) == len(anchors)
    for row in rows:
        user, at = row.pop(key), row.pop("anchor_ts").replace(tzinfo=UTC)
        for name, value in served(group, events, user, at, inclusive).items():
            COMPARED["Spark"] += 1
            equal = row[name] == comparable(value) or comparable(row[name]) == value
            assert equal, (name, user, at, sql)


# --- statements, on the same events as on DuckDB -------------------------------------------------


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(anchors=SAMPLED, collector=strategies.booleans(), data=strategies.data())
def test_spark_places_and_samples_the_same_anchors(
    anchors: Anchors, collector: bool, data: strategies.DataObject
) -> None:
    events = data.draw(visits(collector))
    how = {"key": key_of(anchors), "columns": COLLECTOR if collector and events else ()}
    rows = spark.query(
        anchors.sql(events="events", dialect="spark", **how), events=table_of(events)
    )
    assert rows == run(anchors, events, **how)


@pytest.fixture(scope="module")
def warehouses() -> Iterator[tuple[DuckDBWarehouse, SparkWarehouse]]:
    """The events of the demo website in DuckDB, and in Spark as a lake has them."""
    events = simulate(300, 70, end=datetime(2026, 3, 1, tzinfo=UTC)).events
    devices = [text.replace("}", ', "class": "x"}') for text in events[DEVICE].to_pylist()]
    place = events.column_names.index(DEVICE)
    events = events.set_column(place, DEVICE, pa.array(devices))
    embedded = DuckDBWarehouse.over("SELECT * FROM stored", stored=events.to_reader())
    spark.load("events", spark.as_loaded(events))
    embedded.run(f"CREATE TABLE anchors AS {Anchors().sql(events='events')}")
    spark.load("anchors", embedded.query("SELECT domain_userid, anchor_ts FROM anchors"))
    embedded.run("ALTER TABLE anchors DROP label")
    warehouse = SparkWarehouse(spark.session(), "events")
    yield embedded, warehouse
    warehouse.close()
    embedded.close()


@pytest.mark.parametrize("title", STATEMENTS)
def test_a_statement_gives_the_rows_of_its_twin(title: str, warehouses: Any) -> None:
    statements = [
        (FOLDER / f"{title}.{dialect}.sql").read_text() for dialect in ("duckdb", "spark")
    ]
    embedded, other = (w.query(sql) for w, sql in zip(warehouses, statements, strict=True))
    assert embedded.num_rows > 100
    assert other.to_pylist() == embedded.to_pylist()


def test_a_training_set_is_duckdb_s_bit_for_bit(warehouses: Any) -> None:
    since = datetime(2026, 1, 15, tzinfo=UTC)
    anchors = replace(SITE_ANCHORS, since=since, negatives=0.9, min_events=2)
    with spark.compiling():
        embedded, other = (extract(each, prospect_problem, anchors) for each in warehouses)
    assert embedded.table.num_rows > 500
    assert other.table.equals(embedded.table)
    assert other.manifest["rows_sha256"] == embedded.manifest["rows_sha256"]
    assert len(other.manifest["notes"]) > len(embedded.manifest["notes"])
    assert warehouses[1].query("SHOW VIEWS LIKE 'prospect_*'").num_rows == 0


@pytest.mark.parametrize(
    ("session", "events", "reason"),
    [
        (None, "events", "session is a NoneType, expected a SparkSession"),
        ("spark", "a; DROP TABLE b", "expected the name of a table or view"),
        ("spark", "no.such.events", "Check the name of the events table"),
        ("spark", "texts", "Nested columns must be structs.* read the file with open_warehouse"),
    ],
)
def test_a_wrong_table_is_one_line_with_its_remedy(
    warehouses: Any, session: Any, events: str, reason: str
) -> None:
    as_text = f"SELECT * EXCEPT ({DEVICE}), '[]' AS {DEVICE} FROM events"
    warehouses[1].session.sql(as_text).createOrReplaceTempView("texts")
    with pytest.raises(ProspectError, match=reason) as refused:
        warehouse = SparkWarehouse(session and spark.session(), events)
        extract(warehouse, prospect_problem, Anchors(since="2026-02-20"))
    assert "\n" not in str(refused.value)


def test_a_training_set_becomes_a_table(warehouses: Any) -> None:
    _, warehouse = warehouses
    anchors = Anchors(since=datetime(2026, 2, 25, tzinfo=UTC))
    for _ in range(2):
        statement = create_table(warehouse, "training_set", sample_group, anchors)
    rows = warehouse.query("SELECT * FROM training_set ORDER BY 1, 2")
    assert statement.startswith("CREATE OR REPLACE TABLE training_set AS\nWITH")
    assert rows.num_rows == extract(warehouse, sample_group, anchors).table.num_rows
    assert warehouse.query(statement.partition("AS\n")[2]).to_pylist() == rows.to_pylist()


def test_own_anchors_are_a_view_of_the_session(warehouses: Any) -> None:
    columns = "domain_userid, CAST(anchor_ts AS {}) AS anchor_ts, 'yes' AS label, '2.0' AS weight"
    embedded, warehouse = warehouses
    for each, text in ((embedded, "VARCHAR"), (warehouse, "STRING")):
        select = f"SELECT {columns.format(text)} FROM anchors"
        each.run(f"CREATE OR REPLACE TEMP VIEW own AS {select}")
    sets = [extract(each, sample_group, "own").table for each in warehouses]
    assert sets[0].num_rows > 500 and sets[1].equals(sets[0])


def test_a_window_is_needed_unless_the_moments_are_given(warehouses: Any) -> None:
    with pytest.raises(DataError, match="a window is needed"):
        extract(warehouses[1])


def test_rows_are_written_and_read_again(warehouses: Any) -> None:
    _, warehouse = warehouses
    at = datetime(2026, 3, 1, 0, 0, 0, 1)
    table = pa.table({"n": [2**60, None], "text": ["${env:HOME}'\\", None], "at": [at, None]})
    with temporary_table(warehouse, "test", table) as name:
        assert warehouse.query(f"SELECT * FROM {name}").to_pylist() == table.to_pylist()
    with pytest.raises(ServiceError, match=r"Spark refused the statement: \[TABLE_OR_VIEW_NOT"):
        warehouse.query(f"SELECT * FROM {name}")


# --- through Databricks' connector, see tests/warehouse/test_databricks.py -----------------------


@pytest.fixture
def workspace(warehouses: Any) -> Iterator[Account]:
    """A Databricks workspace that runs the statements on the same Spark."""
    _, warehouse = warehouses

    def engine(sql: str) -> pa.Table:
        sql = re.sub(r"^CREATE TABLE (\S+) AS", r"CACHE TABLE \1 AS", sql)
        return warehouse.session.sql(sql.replace("spark_catalog.default.", "")).toArrow()

    with cloud(engine) as account:
        yield account


def test_databricks_reads_once_and_has_duckdb_s_rows(workspace: Account, warehouses: Any) -> None:
    sentences: list[str] = []
    settings = Settings(Path(), values=CLOUD_SECRETS)
    warehouse = DatabricksWarehouse.connect(settings, before_read=sentences.append)
    anchors = Anchors(since=datetime(2026, 2, 25, tzinfo=UTC))
    table = extract(warehouse, sample_group, anchors).table
    warehouse.close()
    assert table.num_rows > 50
    assert table.equals(extract(warehouses[0], sample_group, anchors).table)
    assert len(sentences) == 1 and not workspace.temporary
    name = CLOUD_SECRETS["ATOMIC_TABLE"]
    (read,) = [sql for sql in workspace.statements if f"FROM {name}\nWHERE" in sql]
    assert re.match(r"CREATE TEMPORARY TABLE prospect_events_\w+ AS\nSELECT\n", read)
    assert all(read.count(f"`collector_tstamp` {sign} CAST('20") == 1 for sign in (">=", "<"))
    others = [sql for sql in workspace.statements if name in sql and sql != read]
    assert all(re.search(r"LIMIT 0|MAX\(`collector_tstamp`\)|^DESCRIBE DETAIL", s) for s in others)


@pytest.mark.usefixtures("workspace")
def test_an_audit_in_databricks_finds_what_it_finds_on_duckdb(tmp_path: Path) -> None:
    group = group_of(*(a for a in prospect_group.attributes if a.name == "num_page_views_l7d"))
    moments = [START + timedelta(seconds=20 * number) for number in range(2)]
    twice = [{"num_page_views_l7d": count} for count in (2, 4)]
    write(tmp_path, [record("u1", *each, group) for each in zip(twice, moments, strict=True)])
    served, times = read_served(tmp_path, group), [at.replace(tzinfo=None) for at in moments]
    table = pa.Table.from_pylist([{**event(at), "collector_tstamp": at} for at in times])
    embedded = DuckDBWarehouse.over("SELECT * FROM stored", stored=table.to_reader())
    spark.load("served", table)
    secrets = {**CLOUD_SECRETS, "ATOMIC_TABLE": "spark_catalog.default.served"}
    databricks = DatabricksWarehouse.connect(Settings(Path(), values=secrets))
    causes = [
        audit(each, served, group, known_since=START).causes for each in (embedded, databricks)
    ]
    assert causes[0] == causes[1] and sum(causes[0].values()) == 2
    embedded.close()


@pytest.mark.usefixtures("workspace")
def test_what_databricks_refuses_is_one_line() -> None:
    values = {**CLOUD_SECRETS, "ATOMIC_TABLE": "spark_catalog.default.no_events"}
    warehouse = DatabricksWarehouse.connect(Settings(Path(), values=values))
    with pytest.raises(ServiceError) as missing:
        warehouse.columns()
    assert str(missing.value) == (
        "Databricks refused the statement: [TABLE_OR_VIEW_NOT_FOUND] The table or view `no_events` "
        "cannot be found. Verify the spelling and correctness of the schema and catalog. "
        "ATOMIC_TABLE names the events."
    )
    with pytest.raises(ServiceError, match=r"\[DIVIDE_BY_ZERO\]") as failed:
        warehouse.query("SELECT 1 / 0 AS one")
    assert "\n" not in str(failed.value)


@pytest.mark.usefixtures("workspace")
def test_rows_are_inserted_through_databricks_and_read_again() -> None:
    at = datetime(2026, 3, 1, 0, 0, 0, 1)
    table = pa.table({"n": [2**60, None], "text": ["it's\\", None], "at": [at, None]})
    warehouse = DatabricksWarehouse.connect(Settings(Path(), values=CLOUD_SECRETS))
    with temporary_table(warehouse, "test", table) as name:
        rows = warehouse.query(f"SELECT * FROM {name} ORDER BY n DESC")
    assert rows.to_pylist() == table.to_pylist()


@pytest.mark.usefixtures("workspace")
def test_the_doctor_checks_rights_and_the_table_in_databricks() -> None:
    signed_in, events = warehouse_checks(Settings(Path(), values=CLOUD_SECRETS), open_limited)
    user = signed_in.observed.removeprefix("signed in with the user ")
    name = CLOUD_SECRETS["ATOMIC_TABLE"]
    assert events.state == "ok" and events.observed.startswith(f"{name} is readable: collector_tst")
    values = {**CLOUD_SECRETS, "ATOMIC_TABLE": "no_catalog.default.no_events"}
    missing = warehouse_checks(Settings(Path(), values=values), open_limited)[1:]
    assert [check.do for check in missing] == [
        f"GRANT USE CATALOG ON CATALOG no_catalog TO `{user}`;",
        f"GRANT USE SCHEMA ON SCHEMA no_catalog.default TO `{user}`;",
        f"GRANT SELECT ON TABLE no_catalog.default.no_events TO `{user}`;",
    ]


# --- spellings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["O'Hara", "a\\b", "\\'", "${env:HOME}", "$\u007benv:HOME}", "a\nb", "%_;--", "ü\U0001f600"],
)
def test_a_text_is_data(text: str) -> None:
    assert spark.query(f"SELECT {SQL.text(text)} AS a") == [{"a": text}]


@pytest.mark.parametrize("pattern", ["a%", "a\\%", "_\\_", "%\\", "it's%"])
def test_a_pattern_has_no_escapes(pattern: str) -> None:
    texts = ["a", "ab", "a\\", "a\\b", "x\\y", "it's", "a%"]
    rows = spark.query(f"SELECT {SQL.like('x', pattern)} AS a FROM t", t=pa.table({"x": texts}))
    assert [row["a"] for row in rows] == [like(pattern, text) for text in texts]


def test_names_of_our_own_steps_and_columns_are_free() -> None:
    events = [event(START, app_id="b"), event(START + HOUR, app_id="a"), event(START + HOUR)]
    group = named(NAMES)
    sql = attributes_sql(group, events="own_events", anchors="own_anchors", dialect="spark")
    anchors = anchors_table([("u1", START + HOUR)])
    (row,) = spark.query(sql, own_events=events_table(events), own_anchors=anchors)
    values = {name: value for name, value in row.items() if name in NAMES}
    assert values == served(group, events, "u1", START + HOUR, True)


#: One moment, as Spark types it.
TIMES = [
    "TIMESTAMP_NTZ '2026-01-04 23:30:00.25'",
    "TIMESTAMP '2026-01-05 01:30:00.25+02:00'",
    "'2026-01-05T01:30:00.25+02:00'",
    "'2026-01-04 23:30:00.25 UTC'",
    "'2026-01-04 23:30:00.25'",
]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_types_of_times_and_the_session_s_zone_do_not_matter(zone: str) -> None:
    moment, later = datetime(2026, 1, 4, 23, 30, 0, 250_000), timedelta(days=90)
    columns = [f"{SQL.utc('x')} AS a FROM (SELECT {time} AS x)" for time in TIMES]
    spark.session().conf.set("spark.sql.session.timeZone", zone)
    rows = [spark.query(f"SELECT {column}")[0]["a"] for column in columns]
    (row,) = spark.query(
        f"SELECT {SQL.later('x', '7776000000000')} AS later, {SQL.date_part('hour_of_day', 'x')} "
        f"AS hour, {SQL.microseconds_between('x', 'y')} AS between FROM "
        f"(SELECT {SQL.literal(moment)} AS x, {SQL.literal(moment + later)} AS y)"
    )
    spark.session().conf.set("spark.sql.session.timeZone", "UTC")
    assert rows == [moment] * len(TIMES)
    assert row == {"later": moment + later, "hour": "23", "between": 7_776_000_000_000}


def test_a_number_has_the_text_that_python_gives_it() -> None:
    """Java before 19 writes 2e23 as 1.9999999999999998E23; larger ones may differ."""
    generator = np.random.default_rng(0)
    numbers = [
        *(generator.integers(1, 10**7, 500) / 100),
        *generator.random(500),
        *(10.0 ** generator.uniform(-12, 16, 500)),
        *(float(f"{digit}e{power}") for digit in (2, 3, 9) for power in range(-30, 40)),
        0.0, -0.0, 1e15, 1e16, 123456789012345680.0, 2e-3, 1.7976931348623157e308,
    ]  # fmt: skip
    rows = spark.query(
        f"SELECT {SQL.number_text('x')} AS a FROM numbers", numbers=pa.table({"x": numbers})
    )
    texts = [to_text(float(number)) for number in numbers]
    differing = [pair for pair in zip(rows, texts, strict=True) if pair[0]["a"] != pair[1]]
    assert differing == []
