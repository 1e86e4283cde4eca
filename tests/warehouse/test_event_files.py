"""Exports of the events table: the same events in any format are the same table."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snowplow_signals import AtomicProperty, Attribute, EntityProperty, EventProperty

from prospect_lib.aggregation import attribute_values
from prospect_lib.attributes import PAGE_VIEW
from prospect_lib.errors import DataError
from prospect_lib.sql.compiler import attributes_sql
from prospect_lib.warehouse import DuckDBWarehouse, event_files
from prospect_lib.warehouse.clocks import end_of_data
from prospect_lib.warehouse.events import CANONICAL_COLUMNS
from tests.support.worlds import DEVICE, ITEM, START, event, group_of

HEADER = "event_id,event_name,derived_tstamp,collector_tstamp,domain_userid,mkt_campaign,se_value"
ROW = "e{0},page_view,2026-01-05 00:00:{0:02},2026-01-05 00:00:{0:02},u1,0012,1.5"


@contextmanager
def opened(path: Path) -> Iterator[DuckDBWarehouse]:
    with closing(DuckDBWarehouse.over_file(path)) as warehouse:
        yield warehouse


def csv_of(folder: Path, *rows: str, good: int = 40, header: str = HEADER) -> Path:
    """Write a CSV of good rows, and these after them."""
    texts = [header, *(ROW.format(number) for number in range(good)), *rows]
    (folder / "events.csv").write_text("\n".join(texts) + "\n")
    return folder / "events.csv"


def parquet_of(csv: Path) -> Path:
    """Write the same cells, all text, as Parquet."""
    path = csv.with_suffix(".parquet")
    pd.read_csv(csv, dtype=str).to_parquet(path)
    return path


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
        quarters = st.integers(0, 36).map(lambda n: n / 4)  # sums are exact in any order
        prices = st.one_of(st.none(), st.integers(0, 9), quarters)
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


@settings(max_examples=5)
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
                row |= {name: json.loads(row[name] or "null") for name in (ITEM, DEVICE)}
            tables.append(rows)
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


# --- cells -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-05T01:30:00+02:00", datetime(2026, 1, 4, 23, 30)),
        ("2026-01-05 01:30:00.5-05:30", datetime(2026, 1, 5, 7, 0, 0, 500_000)),
        ("2026-01-05T01:30:00.123456Z", datetime(2026, 1, 5, 1, 30, 0, 123456)),
        ("2026-01-05 01:30:00.123", datetime(2026, 1, 5, 1, 30, 0, 123000)),
        ("2026-01-05 01:30:00.000 +0200", datetime(2026, 1, 4, 23, 30)),
        ("2026-01-05 01:30:00.000 -0800", datetime(2026, 1, 5, 9, 30)),
        ("2026-01-05T01:30:00", datetime(2026, 1, 5, 1, 30)),
    ],
)
def test_times_as_text_are_utc(tmp_path: Path, text: str, utc: datetime) -> None:
    csv = csv_of(tmp_path, f"e,page_view,{text},{text},u2,,", good=1)
    for path in (csv, parquet_of(csv)):
        with opened(path) as warehouse:
            sql = "SELECT derived_tstamp, collector_tstamp FROM events WHERE domain_userid = 'u2'"
            assert warehouse.query(sql).to_pylist() == [
                {"derived_tstamp": utc, "collector_tstamp": utc}
            ]


def test_types_are_known_and_not_guessed(tmp_path: Path) -> None:
    """An id of digits, a code with zeros and an own column are text; empty cells are null."""
    header = f"{HEADER},user_id,network_userid,my_code,br_cookies,true_tstamp,domain_sessionidx"
    row = '1,page_view,2026-01-05,2026-01-05,,0012,20.0,12345678901234567890,"",007,1,,3.0'
    with opened(csv_of(tmp_path, row, good=0, header=header)) as warehouse:
        [event] = warehouse.query("SELECT * FROM events").to_pylist()
    assert event == {
        "event_id": "1", "event_name": "page_view",
        "derived_tstamp": datetime(2026, 1, 5), "collector_tstamp": datetime(2026, 1, 5),
        "domain_userid": None, "mkt_campaign": "0012", "se_value": 20.0,
        "user_id": "12345678901234567890", "network_userid": None, "my_code": "007",
        "br_cookies": True, "true_tstamp": None, "domain_sessionidx": 3,
    }  # fmt: skip


def test_parquet_types_of_other_programs_become_those_of_the_events_table(tmp_path: Path) -> None:
    """Decimals, whole ids as floats, text as bytes, maps, empty columns, times with a zone."""
    at = pa.array([0], pa.timestamp("ms", "Europe/Berlin"))
    table = pa.table(
        {
            "event_name": pa.array(["page_view"]).dictionary_encode(),
            "derived_tstamp": at,
            "load_tstamp": at.cast(pa.timestamp("ns", "UTC")),
            "my_tstamp": at.cast(pa.timestamp("ns")),
            "user_id": pa.array([12.0]),
            "network_userid": pa.array([Decimal(10**20)], pa.decimal128(38, 0)),
            "tr_total": pa.array([Decimal("20.00")], pa.decimal128(18, 2)),
            "my_id": pa.array([Decimal(10**20)], pa.decimal128(38, 0)),
            "page_title": pa.array(["ü".encode()]),
            "true_tstamp": pa.nulls(1),
            "contexts_com_acme_user_1": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
            "my_list": pa.array([[1, 2]]),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet")
    with opened(tmp_path / "events.parquet") as warehouse:
        [event] = warehouse.query("SELECT * FROM events").to_pylist()
    start = datetime(1970, 1, 1)
    assert event == {
        "event_name": "page_view", "derived_tstamp": start, "load_tstamp": start,
        "my_tstamp": start, "user_id": "12", "network_userid": "1" + "0" * 20, "tr_total": 20.0,
        "my_id": "1" + "0" * 20, "page_title": "ü", "true_tstamp": None,
        "contexts_com_acme_user_1": '{"a":1}', "my_list": "[1,2]",
    }  # fmt: skip


def test_a_collector_time_that_is_never_set_is_no_column(tmp_path: Path) -> None:
    csv = csv_of(tmp_path, "e1,page_view,2026-01-05 12:00:00,,u1,,", good=0)
    with opened(csv) as warehouse:
        assert "collector_tstamp" not in warehouse.columns()
        assert end_of_data(warehouse) == datetime(2026, 1, 5, 12, tzinfo=UTC)


# --- what is left out, and said ---------------------------------------------------------------


@pytest.mark.parametrize("write", [lambda csv: csv, parquet_of], ids=["csv", "parquet"])
@pytest.mark.parametrize(
    ("header", "rows", "events", "note"),
    [
        (HEADER, [], 40, None),
        (HEADER, [ROW.format(3), ROW.format(3)], 40, "event_id counts once: 2."),
        (HEADER, [ROW.format(3).replace("e3", "")] * 2, 42, None),
        (
            HEADER,
            ["e,page_view,yesterday,2026-01-05,u1,,", "f,page_view,,2026-01-05,u1,,"],
            40,
            "Events left out, because their derived_tstamp is no time: 2 of 42 (first: row 41, "
            "'yesterday').",
        ),
        (
            HEADER,
            ["e,page_view,,2026-01-05,u1,,"],
            40,
            "is no time: 1 of 41 (first: row 41, empty).",
        ),
        (
            HEADER,
            ["e,page_view,2026-01-05,2026-01-05,u1,,abc"],
            41,
            "Cells of se_value that are no numbers and count as empty: 1 of 41 (first: row 41, "
            "'abc').",
        ),
        (
            HEADER.replace("se_value", DEVICE),
            ["e,page_view,2026-01-05,2026-01-05,u1,,{broken"],
            41,
            f"Cells of {DEVICE} that are no JSON and count as empty: 1 of 41 (first: row 41, "
            "'{broken').",
        ),
    ],
)
def test_what_is_left_out_is_said(
    tmp_path: Path,
    write: Callable[[Path], Path],
    header: str,
    rows: list[str],
    events: int,
    note: str | None,
) -> None:
    with opened(write(csv_of(tmp_path, *rows, header=header))) as warehouse:
        assert warehouse.query("SELECT COUNT(*) AS n FROM events")["n"][0].as_py() == events
        assert note in warehouse.notes[0] if note else warehouse.notes == ()
        for column in warehouse.columns():  # every cell can be read
            warehouse.query(f"SELECT {column} FROM events")


@pytest.mark.parametrize("write", [lambda csv: csv, parquet_of], ids=["csv", "parquet"])
def test_of_duplicates_the_one_collected_first_counts(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    """Whatever the order in the file, and however many slices of ids are compared."""
    twice = [f"e{n},later,2026-01-05 00:00:{n:02},2026-01-06,u1,," for n in range(40)]
    twice.append("e7,first,2026-01-05 00:00:07,2026-01-04,u1,,")
    path = write(csv_of(tmp_path, *twice))
    for ids_at_once in (10, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(event_files, "IDS_AT_ONCE", ids_at_once)
            with opened(path) as warehouse:
                sql = "SELECT event_name, COUNT(*) AS n FROM events GROUP BY 1 ORDER BY 1"
                counts = warehouse.query(sql).to_pylist()
        assert counts == [{"event_name": "first", "n": 1}, {"event_name": "page_view", "n": 39}]


def test_names_of_own_columns_are_free(tmp_path: Path) -> None:
    """Also those that reading a file uses, though bad cells and duplicates are counted."""
    own = "row,part,place,cell,is_bad,filename,hash,1,column 1"
    rows = [f"{ROW.format(7)},{own}", f"{ROW.format(8).replace('1.5', 'x')},{own}"]
    good = [f"{ROW.format(number)},{own}" for number in range(40)]
    csv = csv_of(tmp_path, *good, *rows, good=0, header=f"{HEADER},{own}")
    for path in (csv, parquet_of(csv)):
        with opened(path) as warehouse:
            [event] = warehouse.query("SELECT * FROM events WHERE event_id = 'e7'").to_pylist()
            assert len(warehouse.notes) == 2
        assert list(event.values())[-9:] == own.split(",")


def test_duplicates_in_different_parts_of_a_folder_count_once(tmp_path: Path) -> None:
    for kind, write in (("csv", lambda csv: csv), ("parquet", parquet_of)):
        folder = tmp_path / kind
        for part in ("a", "b"):
            (folder / part).mkdir(parents=True)
            path = write(csv_of(folder / part, ROW.format(50 + (part == "b"))))
            path.rename(folder / part / f"0.{kind}")
            (folder / part / "events.csv").unlink(missing_ok=True)
        (folder / "_SUCCESS").touch()
        with opened(folder) as warehouse:
            assert warehouse.query("SELECT event_id FROM events").num_rows == 42
            assert "40" in warehouse.notes[0]


# --- what cannot be used ----------------------------------------------------------------------

GOOD = "\n".join([HEADER, *(ROW.format(number) for number in range(20))])
LATIN = GOOD.replace("u1", "\u00fc", 1).encode("latin-1")
FAR_LATIN = (GOOD + f"\n{ROW.format(30)}" * 500).encode() + b"\n\xfc" + ROW.format(31).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("rows.csv", HEADER.encode(), "has no events"),
        ("header.csv", ROW.format(1).encode(), "a CSV with a line of column names"),
        ("column.csv", b"event_name,page_url\n", r"events\): derived_tstamp\. Export"),
        ("same.csv", f"{HEADER},EVENT_ID\n".encode(), "columns event_id and EVENT_ID, which are"),
        ("quote.csv", GOOD.replace("u1", '"u1', 1).encode(), "line .*unterminated quote"),
        ("short.csv", f"{GOOD}\ne1,page_view".encode(), "line 22: Expected Number of Columns: 7"),
        ("latin.csv", LATIN, "is neither a Parquet file nor UTF-8 text; save it as one of these"),
        ("far.csv", FAR_LATIN, "is not UTF-8 text; save it as UTF-8"),
        ("utf16.csv", GOOD.encode("utf-16"), "nor UTF-8 text"),
        ("utf16le.csv", GOOD.encode("utf-16-le"), "nor UTF-8 text"),
        ("torn.csv.gz", gzip.compress(GOOD.encode() * 9)[:200], "cannot be read"),
        ("text.parquet", GOOD.encode(), "this is not a parquet file"),
        ("torn.parquet", b"PAR1" + bytes(100), "cannot be read"),
        (
            "times.csv",
            GOOD.replace("2026-01-05 00:00:0", "once ").encode(),
            r"cells of derived_tstamp that are no times such as 2026-01-31T12:00:00Z: 10 of 20 "
            r"\(first: row 1, 'once 0'\). Correct the export\.",
        ),
        ("numbers.csv", GOOD.replace("1.5", "x").encode(), "20 of 20 .* or leave the column out"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        DuckDBWarehouse.over_file(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250 + len(str(path))


def test_numbers_are_no_times(tmp_path: Path) -> None:
    pd.DataFrame({"event_name": ["a"], "derived_tstamp": [1767571200]}).to_parquet(
        tmp_path / "e.parquet"
    )
    with pytest.raises(DataError, match=r"derived_tstamp that are no times.*'1767571200'"):
        DuckDBWarehouse.over_file(tmp_path / "e.parquet")


def test_a_folder_without_parts_or_of_two_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder has no file whose name ends with"):
        DuckDBWarehouse.over_file(tmp_path)
    parquet_of(csv_of(tmp_path))
    with pytest.raises(DataError, match="give a folder of one kind"):
        DuckDBWarehouse.over_file(tmp_path)


def test_a_file_without_read_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, because an administrator can read any file."""

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = csv_of(tmp_path)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"events\.csv cannot be read: Permission denied\."):
        DuckDBWarehouse.over_file(path)
