"""Sentences about the events: nobody's, wrong clocks, and what never occurs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from snowplow_signals import Event

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import sample_group
from prospect_lib.errors import DataError
from prospect_lib.training_set.event_notes import event_notes
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

EVENTS = """
SELECT
  CASE WHEN range % 4 = 0 THEN '' ELSE 'u' || range % 3 END AS domain_userid,
  'https://example.com/' AS page_url,
  CASE WHEN range % 5 = 0 THEN 'sign_up' ELSE 'page_view' END AS event_name,
  'com.snowplowanalytics.snowplow' AS event_vendor, '1-0-0' AS event_version,
  TIMESTAMP '2026-01-05' + INTERVAL (range) MINUTE AS derived_tstamp
FROM range(100)
"""


@pytest.fixture(scope="module")
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse.over(EVENTS)
    yield opened
    opened.close()


def notes(warehouse: DuckDBWarehouse, **arguments: Any) -> list[str]:
    anchors = Anchors(**{"goal": [Event(name="sign_up")], **arguments})
    return event_notes(warehouse, sample_group, anchors, warehouse.columns())


def test_events_of_nobody_are_counted(warehouse: DuckDBWarehouse) -> None:
    assert notes(warehouse) == [
        "25 of 100 events are nobody's: their domain_userid is missing, empty or nil."
    ]


def test_a_goal_or_a_moment_that_never_occurs_is_named_with_the_events_there_are(
    warehouse: DuckDBWarehouse,
) -> None:
    there_are = "there are page_view (80), sign_up (20)."
    assert notes(warehouse, goal=[Event(name="signup")])[1:] == [
        f"No event matches the goal; {there_are}"
    ]
    nowhere = Anchors(at=[Event(name="page_veiw")], goal=[Event(name="sign_up")])
    with pytest.raises(DataError, match="no event matches `at` of the anchors; there are page_"):
        extract(warehouse, sample_group, nowhere)


def test_only_events_about_the_window_of_the_anchors_are_read() -> None:
    opened = DuckDBWarehouse.over(
        EVENTS.replace("FROM range", ", derived_tstamp AS collector_tstamp FROM range")
    )
    late = datetime(2026, 1, 5, 2, 20, tzinfo=UTC)  # an hour later than the minutes from 80 on
    (note,) = notes(opened, since=late)
    opened.close()
    assert note.startswith("5 of 20 events are nobody's")
