"""The simulation is plausible and repeatable."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.simulation import history
from prospect_lib.sandbox.simulation.intent import (
    BETWEEN,
    DEMO,
    DEVICES,
    ENTRIES,
    FIRST_CHANNELS,
    FIRST_INTENTS,
    LATER_CHANNELS,
    chances,
    next_pages,
)
from prospect_lib.sandbox.simulation.visitors import Simulation, simulate

END = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def world() -> Simulation:
    return simulate(3000, 60, end=END, seed=0)


def query(world: Simulation, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.register("events", world.events)
        return connection.execute(sql).fetchall()


def test_every_step_of_the_walk_has_probability_one() -> None:
    for table in (
        FIRST_INTENTS,
        BETWEEN,
        ENTRIES,
        DEVICES,
        FIRST_CHANNELS,
        LATER_CHANNELS,
        next_pages(),
    ):
        np.testing.assert_allclose(table.sum(axis=-1), 1)
    on_page, after_page = chances()
    assert (on_page >= 0).all() and (on_page <= 1).all() and (after_page <= on_page).all()
    assert (np.diff(on_page[:3, -1, :DEMO], axis=0) > 0).all(), "more intent, more forms"


def test_a_field_is_entered_before_it_is_filled_in_before_the_form_is_sent(
    world: Simulation,
) -> None:
    rows = query(
        world,
        """
        SELECT domain_sessionid, LIST(event_name ORDER BY derived_tstamp) FROM events
        WHERE event_name IN ('focus_form', 'change_form', 'submit_form') GROUP BY ALL
        """,
    )
    before = {"change_form": "focus_form", "submit_form": "change_form"}
    for _, names in rows:
        for earlier, name in zip([None, *names], names, strict=False):
            assert before.get(name) in (None, earlier)


def test_the_intent_ends_with_the_form(world: Simulation) -> None:
    ((forms, visitors),) = query(
        world,
        "SELECT COUNT(*), COUNT(DISTINCT domain_userid) FROM events "
        "WHERE event_name = 'submit_form'",
    )
    assert forms == visitors > 100
    ((afterwards,),) = query(
        world,
        """
        SELECT COUNT(*) FROM events AS e JOIN (
          SELECT domain_userid, MAX(derived_tstamp) AS sent FROM events
          WHERE event_name = 'submit_form' GROUP BY ALL
        ) AS f ON f.domain_userid = e.domain_userid AND e.derived_tstamp > sent + INTERVAL 1 DAY
        """,
    )
    assert afterwards > 100, "they come back, and ask for nothing"


def test_what_is_seen_on_four_pages_matters_as_it_would(large_world: Simulation) -> None:
    """How much more often the fifth page view leads to a form if it was seen before."""
    with_numbers = """
        WITH numbered AS (
          SELECT *, COUNT(*) FILTER (event_name = 'page_view') OVER (
            PARTITION BY domain_sessionid ORDER BY derived_tstamp
          ) AS view
          FROM events WHERE domain_sessionidx = 1 AND useragent NOT LIKE '%Bot%'
        ), visits AS (
          SELECT {seen} AS seen, COALESCE(BOOL_OR(event_name = 'submit_form'), FALSE) AS sent
          FROM numbered GROUP BY domain_sessionid
          HAVING MAX(view) >= 5 AND NOT BOOL_OR(event_name LIKE '%_form' AND view < 5)
        )
        SELECT AVG(sent::INT) FILTER (seen) / AVG(sent::INT) FILTER (NOT seen) FROM visits
    """
    lift = {
        name: query(large_world, with_numbers.format(seen=seen))[0][0]
        for name, seen in {
            "pricing": "BOOL_OR(page_urlpath = '/pricing' AND view < 5)",
            "customers": "BOOL_OR(page_urlpath = '/customers' AND view < 5)",
            "film": "BOOL_OR(event_name = 'play_event' AND view < 5)",
            "reading": "COUNT(*) FILTER (event_name = 'page_ping' AND view < 5) > 5",
        }.items()
    }
    assert lift["pricing"] > lift["film"] > lift["reading"] > 1.2
    assert lift["customers"] > 1.2


def test_two_to_five_percent_of_sessions_convert(world: Simulation) -> None:
    ((share,),) = query(
        world,
        "SELECT COUNT(DISTINCT domain_sessionid) FILTER (event_name = 'submit_form') "
        "/ COUNT(DISTINCT domain_sessionid) FROM events",
    )
    assert 0.02 < share < 0.055


def test_all_kinds_of_visitor_and_event_occur(world: Simulation) -> None:
    events = world.events
    assert {"website", "hs-landing", "docs"} == set(events["app_id"].to_pylist())
    names = set(events["event_name"].to_pylist())
    assert names >= {
        "page_view",
        "page_ping",
        "focus_form",
        "change_form",
        "submit_form",
        "play_event",
    }
    devices = events["contexts_nl_basjes_yauaa_context_1"].to_pylist()
    assert {json.loads(d)[0]["deviceClass"] for d in set(devices)} == {
        "Desktop",
        "Phone",
        "Tablet",
        "Robot",
    }
    bodies = (
        events["unstruct_event_com_snowplowanalytics_snowplow_submit_form_1"]
        .drop_null()
        .to_pylist()
    )
    assert all(e["value"] == "****" for body in bodies for e in json.loads(body)["elements"])


def test_no_event_lies_outside_the_period(world: Simulation) -> None:
    times = world.events["derived_tstamp"].to_numpy()
    assert times.max() < np.datetime64("2026-01-05") and times.min() >= np.datetime64("2025-11-06")


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    first, again = (simulate(50, 10, end=END, seed=3) for _ in range(2))
    assert first.events.equals(again.events) and first.truth.equals(again.truth)
    assert not first.events.equals(simulate(50, 10, end=END, seed=4).events)


def test_history_is_written_once_and_sorted(tmp_path: Path) -> None:
    arguments = {"visitors": 60, "days": 10, "end": END, "seed": 1}
    written = history.write(tmp_path, **arguments)
    path = tmp_path / "history" / history.FILE_NAME
    stamp = path.stat().st_mtime_ns
    assert history.write(tmp_path, **arguments) == written and path.stat().st_mtime_ns == stamp
    table: pa.Table = pq.read_table(path)
    assert table.num_rows == written["events"]
    keys = list(
        zip(table["domain_userid"].to_pylist(), table["derived_tstamp"].to_pylist(), strict=True)
    )
    assert keys == sorted(keys)
    assert history.write(tmp_path, **{**arguments, "seed": 2})["seed"] == 2
    assert path.stat().st_mtime_ns != stamp


def test_history_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(SettingsError, match="set PROSPECT_HOME"):
        history.write(tmp_path / "home", visitors=5, days=2, end=END)


@pytest.mark.parametrize("hour", [0, 7, 19])
def test_most_sessions_begin_by_day_and_on_weekdays(hour: int) -> None:
    views = simulate(2000, 42, end=END.replace(hour=hour), seed=1).events["derived_tstamp"]
    moments = views.to_numpy().astype("datetime64[h]").astype(int)
    by_hour = np.bincount(moments % 24, minlength=24)
    assert by_hour[11:18].mean() > 2 * by_hour[0:6].mean()
    by_weekday = np.bincount((moments // 24 + 3) % 7, minlength=7)  # 1970-01-01 was a Thursday
    assert by_weekday[:5].mean() > 1.4 * by_weekday[5:].mean()
