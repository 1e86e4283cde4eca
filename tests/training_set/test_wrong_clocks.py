"""Events years early or late change no other row of a training set, and are counted."""

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from snowplow_signals import Event

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import PAGE_VIEW, sample_group
from prospect_lib.training_set import extract
from prospect_lib.warehouse import DuckDBWarehouse

START, DAY, HOUR = datetime(2026, 1, 5), timedelta(days=1), timedelta(hours=1)
#: An export of 40 days that was cut at noon: a page view every ten minutes, of 50 visitors.
NOON = START + 40 * DAY + 12 * HOUR
TIMES = [NOON - number * timedelta(minutes=10) for number in range(40 * 144)]
EARLY, LATE = datetime(2019, 1, 19), datetime(2031, 1, 1)


def rows_of(
    moved: dict[int, datetime | None], anchors: Anchors, *, collector: bool
) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Key, time and label of each row, and the notes.

    Args:
        moved: number of an event -> its ``derived_tstamp``, or ``None`` for no such event.
    """
    kept = [n for n in range(len(TIMES)) if moved.get(n, START) is not None]
    derived = [moved.get(n) or TIMES[n] for n in kept]
    table = pa.table(
        {
            "domain_userid": [f"v{n % 50}" for n in kept],
            "event_name": ["page_view"] * len(kept),
            "event_vendor": [PAGE_VIEW.vendor] * len(kept),
            "event_version": [PAGE_VIEW.version] * len(kept),
            "page_url": ["https://x.io/"] * len(kept),
            "derived_tstamp": pa.array(derived, pa.timestamp("us")),
        }
    )
    if collector:
        received = pa.array([TIMES[n] for n in kept], pa.timestamp("us"))
        table = table.append_column("collector_tstamp", received)
    warehouse = DuckDBWarehouse.over("SELECT * FROM stored", stored=table.to_reader())
    rows = extract(warehouse, sample_group, anchors)
    warehouse.close()
    columns = (rows.table[name].to_pylist() for name in ("domain_userid", "anchor_ts", "label"))
    return list(zip(*columns, strict=True)), rows.manifest["notes"]


@pytest.mark.parametrize("collector", [True, False])
@pytest.mark.parametrize(
    "anchors",
    [
        Anchors(goal=Event(name="page_view")),
        Anchors(goal=Event(name="page_view"), first_seen=(40 * DAY, 39 * DAY + 20 * HOUR)),
        Anchors(goal=Event(name="page_view"), until=NOON - 3 * DAY),
    ],
    ids=["all", "first_seen", "until"],
)
def test_rows_are_those_without_the_events_of_wrong_clocks(
    anchors: Anchors, collector: bool
) -> None:
    wrong = {3: LATE, 2000: EARLY, 4000: LATE + DAY}
    rows, notes = rows_of(wrong, anchors, collector=collector)
    without, _ = rows_of(dict.fromkeys(wrong), anchors, collector=collector)
    assert rows == without and len(rows) > 100
    (note,) = notes
    read = 2 if anchors.until and collector else 3  # the last one was collected after `until`
    assert note.startswith(f"Events with a wrong clock, which are no training rows: {read}.")


@pytest.mark.parametrize("collector", [True, False])
def test_the_unknown_last_hour_of_an_export_is_left_out(collector: bool) -> None:
    rows, _ = rows_of({2: LATE}, Anchors(goal=Event(name="page_view")), collector=collector)
    latest = max(anchor_ts for _, anchor_ts, _ in rows)
    assert latest.replace(tzinfo=None) == NOON - HOUR


@pytest.mark.parametrize("collector", [True, False])
def test_right_clocks_have_no_note(collector: bool) -> None:
    rows, notes = rows_of({}, Anchors(goal=Event(name="page_view")), collector=collector)
    assert not notes and len(rows) == len(TIMES) - 6
