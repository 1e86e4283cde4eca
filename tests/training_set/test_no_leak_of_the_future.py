"""Guards against training on the future; each test fails if its guard is removed.

Two more guards have their tests in ``tests/evaluation`` (a shuffled label, a visitor on both
sides of the split) and in ``tests/model/test_splits`` (the gap of one horizon).
"""

from datetime import datetime, timedelta, timezone

import duckdb
import numpy as np
import pytest

from prospect_lib.attributes import sample_group
from prospect_lib.errors import DataError
from prospect_lib.training_set import Anchors, features_sql

START, DAYS, VISITORS = datetime(2026, 3, 1), 10, 40
MIDDLE = START + timedelta(days=DAYS / 2)


@pytest.fixture
def events():
    """A connection with page views and forms of 40 visitors over ten days, in ``events``."""
    rng = np.random.default_rng(0)
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE events (domain_userid VARCHAR, derived_tstamp TIMESTAMP, app_id VARCHAR, "
        "event_id VARCHAR, event_name VARCHAR, event_vendor VARCHAR, event_version VARCHAR, "
        "page_url VARCHAR)"
    )
    rows = [
        (
            f"v{rng.integers(VISITORS)}",
            START + timedelta(seconds=int(rng.integers(DAYS * 86400))),
            "website",
            f"e{number}",
            "submit_form" if rng.random() < 0.2 else "page_view",
            "com.snowplowanalytics.snowplow",
            "1-0-0",
            f"https://example.com/{rng.choice(['', 'pricing', 'customers'])}",
        )
        for number in range(1500)
    ]
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    yield connection
    connection.close()


def training_rows(connection, until: datetime):
    """Return features and labels at the anchors before ``until``."""
    anchors = Anchors().sql(events="events")
    sql = features_sql(sample_group, events="events", anchors=f"({anchors})")
    table = f"SELECT * FROM ({sql}) WHERE anchor_ts < ? ORDER BY domain_userid, anchor_ts"
    return connection.execute(table, [until]).fetchall()


def test_features_do_not_change_when_the_future_is_erased(events):
    known = MIDDLE - timedelta(hours=3)  # the outcomes of these rows are in the earlier half
    before = training_rows(events, known)
    events.execute("DELETE FROM events WHERE derived_tstamp > ?", [MIDDLE])
    assert before == training_rows(events, known)
    assert len(before) > 300


def test_a_row_whose_outcome_is_not_known_yet_is_left_out(events):
    last = events.execute("SELECT max(derived_tstamp) FROM events").fetchone()[0]
    rows = training_rows(events, last + timedelta(days=1))
    latest = max(row[1] for row in rows)
    assert latest <= last - timedelta(hours=1)
    assert latest > last - timedelta(hours=3)  # and no more rows are left out than necessary


def test_a_window_that_ends_in_the_past_does_not_use_later_events(events):
    """The weekly job for a past week gives the rows that it would have given in that week."""

    def window():
        sql = Anchors(since=START + timedelta(days=2), until=MIDDLE).sql(events="events")
        return events.execute(sql).fetchall()

    before = window()
    events.execute("DELETE FROM events WHERE derived_tstamp >= ?", [MIDDLE])
    assert before == window()
    assert len(before) > 200
    assert START + timedelta(days=2) <= min(row[1] for row in before)
    assert max(row[1] for row in before) <= MIDDLE - timedelta(hours=1)


def test_a_window_leaves_out_rows_but_not_the_events_that_features_need(events):
    since = START + timedelta(days=5)
    late = Anchors(since=since)
    sql = features_sql(sample_group, events="events", anchors=f"({late.sql(events='events')})")
    rows = events.execute(f"SELECT * FROM ({sql}) ORDER BY ALL").fetchall()
    everything = training_rows(events, START + timedelta(days=99))
    assert rows == sorted(row for row in everything if row[1] >= since)


def test_the_time_zone_of_a_window_counts():
    tokyo = timezone(timedelta(hours=9))
    sql = Anchors(until=datetime(2026, 3, 2, tzinfo=tokyo)).sql(events="e", dialect="snowflake")
    assert "2026-03-01 15:00:00" in sql


def test_an_empty_window_is_refused():
    with pytest.raises(DataError, match=r"window is empty.*widen --since"):
        Anchors(since=MIDDLE, until=MIDDLE).sql(events="events")
