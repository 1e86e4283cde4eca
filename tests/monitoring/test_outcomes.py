"""Outcomes of served scores: which are known, and whether the model is still calibrated."""

from datetime import timedelta
from pathlib import Path

import pytest

from prospect_lib import plots
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval
from prospect_lib.monitoring.outcomes import calibration_verdict, measure_outcomes
from tests.support.served_world import END, World

HOUR = timedelta(hours=1)


def test_outcomes_equal_those_of_a_slow_loop(tmp_path: Path):
    world = World(
        tmp_path,
        visitors=400,
        score=lambda values: 0.9 if values["num_form_engagements_l7d"] else 0.01,
    )
    served = world.serve()
    warehouse = world.warehouse()
    end = END.replace(tzinfo=None) - timedelta(hours=6)
    report = measure_outcomes(warehouse, served, until=end)
    forms: dict[str, list] = {}
    for event in world.events:
        if event["event_name"] == "submit_form":
            forms.setdefault(event["domain_userid"], []).append(event["derived_tstamp"])
    for row in report.rows.itertuples():
        followed = any(
            row.anchor_ts < at <= row.anchor_ts + HOUR for at in forms.get(row.domain_userid, [])
        )
        assert row.label == followed
    assert report.censored + len(report.rows) == served.num_rows and report.censored > 0
    assert report.rows["label"].sum() > 0
    days = report.by("day")
    assert days["scores"].sum() == len(report.rows)
    assert days["goals"].sum() == report.rows["label"].sum()
    acted = report.rows[report.rows["score"] >= 0.05]
    assert (
        days["acted"].sum() == len(acted)
        and (report.rows["act"] == (report.rows["score"] > 0.05)).all()
    )
    devices = report.by("latest_device_class")
    assert {"Desktop", "Phone"} <= set(devices.index)
    assert "with a known outcome" in report.summary()
    assert plots.live_calibration(report, bins=4).png()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="no outcome is known yet"):
        measure_outcomes(warehouse, served, until=END.replace(tzinfo=None) - timedelta(days=3))
    warehouse.close()


def test_only_a_difference_beyond_noise_is_reported():
    assert calibration_verdict(Interval(0.8, 0.5, 1.2)).startswith("As many goals as predicted")
    assert calibration_verdict(Interval(0.5, 0.3, 0.8)).startswith("Fewer goals")
    assert calibration_verdict(Interval(2.0, 1.3, 2.8)).startswith("More goals")
