"""The simulation is plausible and repeatable, and its true probabilities are calibrated."""

import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.simulation import history
from prospect_lib.sandbox.simulation.visitors import Simulation, simulate
from prospect_lib.sandbox.simulation.walk import chances, transitions

END = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def world() -> Simulation:
    return simulate(3000, 60, end=END, seed=0)


def outcomes(world: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """The true probability and the outcome of every row of the truth."""
    with duckdb.connect() as connection:
        connection.register("events", world.events)
        connection.register("truth", world.truth)
        rows = connection.execute(
            """
            SELECT p_true, known, COALESCE(MAX(goal) OVER (
              PARTITION BY domain_userid ORDER BY ts
              RANGE BETWEEN INTERVAL 1 MICROSECOND FOLLOWING AND INTERVAL 1 HOUR FOLLOWING
            ), 0) AS y
            FROM (
              SELECT domain_userid, anchor_ts AS ts, p_true, 0 AS goal, TRUE AS known FROM truth
              UNION ALL
              SELECT domain_userid, derived_tstamp, NULL, 1, FALSE FROM events
              WHERE event_name = 'submit_form'
            )
            QUALIFY known
            """
        ).fetchnumpy()
    return np.asarray(rows["p_true"], dtype=float), np.asarray(rows["y"], dtype=float)


def test_every_step_of_the_walk_has_probability_one() -> None:
    np.testing.assert_allclose(transitions().sum(axis=2), 1)
    assert (chances() >= 0).all() and (chances() <= 1).all()
    assert (np.diff(chances()[:5, -1], axis=0) > 0).all(), "more intent, more forms"


def test_the_true_probability_is_calibrated(world: Simulation) -> None:
    p, y = outcomes(world)
    assert abs(y.mean() - p.mean()) < 0.01
    for lower, upper in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.01)):
        inside = (p >= lower) & (p < upper)
        assert inside.sum() > 300
        # moments of one visit share its fate, so the error is that of fewer rows
        error = 4 * np.sqrt(p[inside].mean() * (1 - p[inside].mean()) / (inside.sum() / 8))
        assert abs(y[inside].mean() - p[inside].mean()) < error


def test_the_true_probability_ranks_outcomes_well_but_not_perfectly(world: Simulation) -> None:
    p, y = outcomes(world)
    assert 0.85 < roc_auc_score(y, p) < 0.97


def test_two_to_five_percent_of_sessions_convert(world: Simulation) -> None:
    with duckdb.connect() as connection:
        connection.register("events", world.events)
        share = connection.execute(
            "SELECT count(DISTINCT CASE WHEN event_name = 'submit_form' THEN domain_sessionid END)"
            " / count(DISTINCT domain_sessionid) FROM events"
        ).fetchone()
    assert share is not None and 0.02 < share[0] < 0.05


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
    with pytest.raises(SettingsError, match="Set PROSPECT_HOME"):
        history.write(tmp_path / "home", visitors=5, days=2, end=END)


@pytest.mark.parametrize("hour", [0, 7, 19])
def test_most_sessions_begin_by_day_and_on_weekdays(hour: int) -> None:
    views = simulate(2000, 42, end=END.replace(hour=hour), seed=1).events["derived_tstamp"]
    moments = views.to_numpy().astype("datetime64[h]").astype(int)
    by_hour = np.bincount(moments % 24, minlength=24)
    assert by_hour[11:18].mean() > 2 * by_hour[0:6].mean()
    by_weekday = np.bincount((moments // 24 + 3) % 7, minlength=7)  # 1970-01-01 was a Thursday
    assert by_weekday[:5].mean() > 1.4 * by_weekday[5:].mean()
