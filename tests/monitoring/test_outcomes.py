"""What followed each served score, what is not known yet, and what that says of the model."""

from datetime import timedelta
from pathlib import Path

import pytest

from prospect_lib import plots
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval
from prospect_lib.monitoring.outcomes import outcomes, verdict
from tests.support.served_world import END, World

HOUR = timedelta(hours=1)


def test_outcomes_are_those_of_a_slow_loop(tmp_path: Path):
    world = World(
        tmp_path,
        visitors=400,
        score=lambda values: 0.9 if values["num_form_engagements_l7d"] else 0.01,
    )
    served = world.serve()
    warehouse = world.warehouse()
    end = END.replace(tzinfo=None) - timedelta(hours=6)
    found = outcomes(warehouse, served, until=end)
    forms: dict[str, list] = {}
    for event in world.events:
        if event["event_name"] == "submit_form":
            forms.setdefault(event["domain_userid"], []).append(event["derived_tstamp"])
    for row in found.rows.itertuples():
        followed = any(
            row.anchor_ts < at <= row.anchor_ts + HOUR for at in forms.get(row.domain_userid, [])
        )
        assert row.label == followed
    assert found.censored + len(found.rows) == served.num_rows and found.censored > 0
    assert found.rows["label"].sum() > 0
    days = found.by("day")
    assert days["scores"].sum() == len(found.rows)
    assert days["goals"].sum() == found.rows["label"].sum()
    acted = found.rows[found.rows["score"] >= 0.05]
    assert (
        days["acted"].sum() == len(acted)
        and (found.rows["act"] == (found.rows["score"] > 0.05)).all()
    )
    devices = found.by("latest_device_class")
    assert {"Desktop", "Phone"} <= set(devices.index)
    assert "with a known outcome" in found.summary()
    assert plots.live_calibration(found, bins=4).png()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="no outcome is known yet"):
        outcomes(warehouse, served, until=END.replace(tzinfo=None) - timedelta(days=3))
    warehouse.close()


def test_only_what_is_beyond_noise_is_said_to_be_wrong():
    assert verdict(Interval(0.8, 0.5, 1.2)).startswith("What was promised came")
    assert verdict(Interval(0.5, 0.3, 0.8)).startswith("Less came")
    assert verdict(Interval(2.0, 1.3, 2.8)).startswith("More came")
