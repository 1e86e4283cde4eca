"""Outcomes of served scores: which are known, and whether the model is still calibrated."""

from contextlib import closing
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from prospect_lib import plots
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval
from prospect_lib.monitoring.audit import audit
from prospect_lib.monitoring.outcomes import calibration_verdict, measure_outcomes, served_anchors
from prospect_lib.problem import prospect_problem
from prospect_lib.reports.audit_report import audit_html
from prospect_lib.server.interventions import is_held_out
from prospect_lib.training_set import extract
from tests.support.served_world import END, Row, World

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


def held_out_by_session(values: Row) -> Row:
    held_out = is_held_out(values["num_sessions_l7d"][-1], 0.5, "invite")
    return {"act": not held_out, "held_out": held_out, "holdout_share": 0.5}


def test_a_holdout_is_reported_and_training_leaves_out_the_sessions_acted_on(tmp_path: Path):
    world = World(tmp_path, visitors=200, decision=held_out_by_session)
    served = world.serve()
    with closing(world.warehouse()) as warehouse:
        report = measure_outcomes(warehouse, served)
        page = audit_html(audit(warehouse, served), report)
        table = extract(warehouse, prospect_problem, served_anchors(warehouse, tmp_path)).table
    effect = report.effect()
    sessions = report.rows.drop_duplicates(["domain_userid", "served_session"])
    assert effect.acted.sessions == (~sessions["held_out"]).sum() > 10
    assert effect.held_out.sessions == sessions["held_out"].sum() > 10
    *_, figures, verdict, warning = report.summary().splitlines()
    assert figures.startswith("Does acting help? Of the sessions chosen:")
    assert "points [" in verdict and "positive labels" in warning
    assert all(line in unescape(page) for line in (figures, verdict, warning))
    assert page.count("<img") == 3, "with the picture of the effect"
    assert table.num_rows == report.rows["held_out"].sum()
    assert set(table["weight"].to_pylist()) == {2.0}


def test_only_a_difference_beyond_noise_is_reported():
    assert calibration_verdict(Interval(0.8, 0.5, 1.2)).startswith("As many goals as predicted")
    assert calibration_verdict(Interval(0.5, 0.3, 0.8)).startswith("Fewer goals")
    assert calibration_verdict(Interval(2.0, 1.3, 2.8)).startswith("More goals")
