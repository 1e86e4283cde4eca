"""Exports of the events table: the same events in any format are the same table."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from snowplow_signals import AtomicProperty, Attribute, EntityProperty, EventProperty

from prospect_lib.aggregation import attribute_values
from prospect_lib.attributes import PAGE_VIEW
from prospect_lib.sql.compiler import attributes_sql
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.events import CANONICAL_COLUMNS
from tests.support.worlds import DEVICE, ITEM, START, event, group_of

HEADER = "event_id,event_name,derived_tstamp,collector_tstamp,domain_userid,mkt_campaign,se_value"
ROW = "e{0},page_view,2026-01-05 00:00:{0:02},2026-01-05 00:00:{0:02},u1,0012,1.5"


@contextmanager
def opened(path: Path) -> Iterator[DuckDBWarehouse]:
    with closing(DuckDBWarehouse.over_file(path)) as warehouse:
        yield warehouse


def rows_of(path: Path) -> list[dict[str, Any]]:
    with opened(path) as warehouse:
        return warehouse.query("SELECT * FROM events ORDER BY derived_tstamp").to_pylist()


def csv_of(folder: Path, *rows: str, header: str = HEADER, count: int = 40) -> Path:
    """Write a CSV of these rows, and good ones before them, up to the count."""
    good = [ROW.format(number) for number in range(count - len(rows))]
    (folder / "events.csv").write_text("\n".join([header, *good, *rows]) + "\n")
    return folder / "events.csv"


# --- the same events in any format -----------------------------------------------------------

GROUP = group_of(
    Attribute(name="views", type="int64", events=[PAGE_VIEW], aggregation="counter"),
    Attribute(
        name="campaigns", type="string_list", events=[], aggregation="unique_list",
        property=AtomicProperty(name="mkt_campaign"),
    ),
    Attribute(
        name="spent", type="double", events=[], aggregation="sum",
        property=EventProperty(vendor="com.acme", name="item", major_version=1, path="$.price"),
    ),
    Attribute(
        name="device", type="string", events=[], aggregation="last",
        property=EntityProperty(
            vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass"
        ),
    ),
    Attribute(
        name="index", type="int32", events=[], aggregation="max",
        property=AtomicProperty(name="domain_sessionidx"),
    ),
    Attribute(
        name="hour", type="string", events=[], aggregation="last",
        property=AtomicProperty(name="derived_tstamp", date_part="hour_of_day"),
    ),
)  # fmt: skip


@st.composite
def some_events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of one visitor, as in the real table: nested values, ids and codes that look odd."""
    events = []
    for number in range(draw(st.integers(1, 8))):
        at = START + timedelta(microseconds=draw(st.integers(0, 10**12)))
        prices = st.one_of(st.none(), st.integers(0, 9), st.floats(0, 9).map(lambda x: round(x, 2)))
        events.append(
            event(
                at,
                collector_tstamp=at + timedelta(seconds=number),
                event_id=f"{number}",
                domain_userid="0012",
                mkt_campaign=draw(
                    st.sampled_from([None, "0012", "1e5", "true", "2026-01-05", "ü,"])
                ),
                domain_sessionidx=draw(st.sampled_from([None, 1, 2])),
                se_value=draw(st.sampled_from([None, 1.0, 2.5])),
                br_cookies=draw(st.sampled_from([None, True, False])),
                **{
                    ITEM: draw(st.one_of(st.none(), st.fixed_dictionaries({"price": prices}))),
                    DEVICE: draw(st.sampled_from([None, [{"deviceClass": 'Phone "x"'}]])),
                },
            )
        )
    return events


def frame(events: list[dict[str, Any]]) -> pd.DataFrame:
    """Nested values as JSON text."""
    texts = [
        {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in e.items()}
        for e in events
    ]
    return pd.DataFrame(texts)


def pandas_csv(path: Path, events: list[dict[str, Any]]) -> Path:
    frame(events).to_csv(path / "events.csv.gz", index=False)
    return path / "events.csv.gz"


def text_csv(path: Path, events: list[dict[str, Any]]) -> Path:
    """As a person in another zone exports it: tabs, upper case, local times."""
    table = frame(events).rename(columns=str.upper)
    for name in ("DERIVED_TSTAMP", "COLLECTOR_TSTAMP"):
        table[name] = table[name].dt.tz_convert("Asia/Kolkata").map(lambda ts: ts.isoformat())
    table.to_csv(path / "EVENTS.TSV", index=False, sep="\t")
    return path / "EVENTS.TSV"


def pandas_parquet(path: Path, events: list[dict[str, Any]]) -> Path:
    table = frame(events)
    for name in ("derived_tstamp", "collector_tstamp"):
        table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[ns, UTC]")
    table["app_id"] = table["app_id"].astype("category")
    table.to_parquet(path / "pandas.parquet")
    return path / "pandas.parquet"


def naive_parquet(path: Path, events: list[dict[str, Any]], unit: str = "ns") -> Path:
    """Whole ids as numbers, times of another precision without a zone, in upper case."""
    table = frame(events).rename(columns=str.upper)
    table["DERIVED_TSTAMP"] = (
        table["DERIVED_TSTAMP"].dt.tz_localize(None).astype(f"datetime64[{unit}]")
    )
    table["EVENT_ID"] = table["EVENT_ID"].astype(int)
    table.to_parquet(path / "naive.parquet")
    return path / "naive.parquet"


def text_parquet(path: Path, events: list[dict[str, Any]]) -> Path:
    """Every cell as text."""
    table = frame(events).astype(object)
    table = table.where(table.notna(), None).map(lambda v: v if v is None else str(v))
    table.to_parquet(path / "text.parquet")
    return path / "text.parquet"


def nested_parquet(path: Path, events: list[dict[str, Any]]) -> Path:
    """Nested columns as structs, in a folder of parts."""
    (path / "parts").mkdir()
    kinds = {
        **{name: CANONICAL_COLUMNS[name] for name in events[0] if name in CANONICAL_COLUMNS},
        "derived_tstamp": "TIMESTAMPTZ",
        ITEM: "STRUCT(price DOUBLE)",
        DEVICE: 'STRUCT("deviceClass" VARCHAR)[]',
    }
    casts = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in kinds.items())
    rows = pa.table({"row": [json.dumps(e, default=str) for e in events]})
    members = ", ".join(
        f'"{name}": "{"JSON" if name in (ITEM, DEVICE) else "VARCHAR"}"' for name in kinds
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows)
        connection.execute(
            f"CREATE TABLE e AS SELECT UNNEST(FROM_JSON(\"row\", '{{{members}}}')) FROM rows"
        )
        for part in (0, 1):
            connection.execute(
                f"COPY (SELECT {casts} FROM e WHERE CAST(event_id AS INT) % 2 = {part}) "
                f"TO '{path}/parts/{part}.parquet'"
            )
    return path / "parts"


WRITERS: list[Callable[[Path, list[dict[str, Any]]], Path]] = [
    pandas_csv, text_csv, pandas_parquet, naive_parquet, text_parquet, nested_parquet
]  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(events=some_events())
def test_the_same_events_in_any_format_are_the_same(events: list[dict[str, Any]]) -> None:
    """The same table, whatever the format, and the values that the definition gives."""
    at = START + timedelta(days=30)
    expected = attribute_values(GROUP, events, at)
    tables = []
    for writer in WRITERS:
        with TemporaryDirectory() as name, opened(writer(Path(name), events)) as warehouse:
            rows = warehouse.query("SELECT * FROM events ORDER BY event_id").to_pylist()
            for row in rows:
                for nested in (ITEM, DEVICE):
                    row[nested] = json.loads(row[nested] or "null")
                    if row[nested] == {"price": None}:  # a struct has all its fields
                        row[nested] = {"price": None}
            tables.append([dict(sorted(row.items())) for row in rows])
            warehouse.run(
                "CREATE TABLE anchors AS SELECT '0012' AS domain_userid, "
                f"TIMESTAMP '{at:%Y-%m-%d}' AS anchor_ts"
            )
            sql = attributes_sql(GROUP, events="events", anchors="anchors")
            [computed] = warehouse.query(sql).to_pylist()
            assert {name: computed[name] for name in expected} == expected, writer.__name__
    for writer, table in zip(WRITERS, tables, strict=True):
        assert table == tables[0], writer.__name__
    assert [row["mkt_campaign"] for row in tables[0]] == [e["mkt_campaign"] for e in events]
