"""A shifted channel mix is found; clean days raise nothing; alarms rest for a while."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prospect_lib import plots
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.monitoring.drift import CoolDown, drift, psi
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.training_set import SITE_ANCHORS, features_sql
from prospect_lib.warehouse import DuckDBWarehouse
from tests.support.served_world import END


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Rows of the last 30 of 60 simulated days: by then every window is full."""
    events = simulate(1200, 60, end=END, seed=1).events
    warehouse = DuckDBWarehouse.over("SELECT NULL AS nothing")
    warehouse.connection.register("arrived", events)
    warehouse.run("CREATE OR REPLACE TABLE events AS SELECT * FROM arrived")
    anchors = f"({SITE_ANCHORS.sql(events='events')})"
    found = warehouse.frame(features_sql(prospect_group, events="events", anchors=anchors))
    warehouse.close()
    found["anchor_ts"] = found["anchor_ts"].astype("datetime64[us]")
    start = END.replace(tzinfo=None) - timedelta(days=30)
    return found[found["anchor_ts"] >= start].reset_index(drop=True)


@pytest.fixture(scope="module")
def parts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half the visitors are trained on, the others are served: nothing has changed."""
    half = rows["domain_userid"].map(lambda name: int(name[:2], 16) % 2 == 0)
    return rows[half], rows[~half]


def days(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [day for _, day in rows.groupby(rows["anchor_ts"].dt.date) if len(day) > 5]


def test_clean_days_raise_nothing(parts):
    training, served = parts
    reports = [drift(training, day) for day in days(served)[:12]]
    assert len(reports) == 12
    assert sum(bool(report.alarms) for report in reports) <= 1
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)]
    report = drift(training, week)
    assert report.alarms == [] and report.advice() == []
    assert "no feature moved beyond chance" in report.summary()


def test_a_shifted_channel_mix_is_named(parts):
    training, served = parts
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)].copy()
    rng = np.random.default_rng(0)
    visitors = week["domain_userid"].unique()
    moved = set(rng.choice(visitors, int(0.7 * len(visitors)), replace=False))
    week.loc[week["domain_userid"].isin(moved), "first_mkt_medium_l30d"] = "display"
    report = drift(training, week)
    assert report.alarms == ["first_mkt_medium_l30d"]
    (line,) = report.advice()
    assert "a new value: 0% in training" in line and "ask who runs the campaigns" in line
    assert report.visitors == len(visitors)
    assert plots.drift(report).png()[:4] == b"\x89PNG"


def test_one_visitor_is_one_however_many_rows_he_has(parts):
    training, served = parts
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)]
    one = week[week["domain_userid"] == week["domain_userid"].iloc[0]]
    busy = one.iloc[:1].assign(num_page_views_l7d=10_000.0)
    crowd = pd.concat([week, *[busy] * len(week)])
    assert drift(training, crowd).alarms == []


def test_few_visitors_cannot_say_so_and_the_report_says_that(parts):
    training, served = parts
    few = served[served["domain_userid"].isin(served["domain_userid"].unique()[:6])]
    report = drift(training, few)
    assert report.alarms == [] and report.needed > 6
    assert f"{report.needed:,} would show" in report.summary()


def test_psi_by_hand():
    assert psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])) == pytest.approx(
        0.1 * np.log(1.2) - 0.1 * np.log(0.8)
    )
    assert psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0


def test_an_alarm_is_raised_once_and_again_after_the_cool_down(tmp_path: Path, parts):
    training, served = parts
    moved = served.assign(first_mkt_medium_l30d="display")
    report = drift(training, moved)
    calm = CoolDown(tmp_path / "audit" / "alarms.json")
    at = END
    assert calm.due(report, at) == report.alarms != []
    assert calm.due(report, at + timedelta(hours=1)) == []
    assert calm.due(report, at + timedelta(days=3)) == report.alarms
    milder = moved["first_mkt_medium_l30d"].where(
        moved.index % 2 == 0, served["first_mkt_medium_l30d"]
    )
    less = drift(training, served.assign(first_mkt_medium_l30d=milder))
    other = CoolDown(tmp_path / "other.json")
    assert other.due(less, at) == ["first_mkt_medium_l30d"]
    assert other.due(report, at + timedelta(hours=1)) == ["first_mkt_medium_l30d"], "it doubled"
    (tmp_path / "other.json").write_text("{")
    assert other.due(less, at) == ["first_mkt_medium_l30d"], "a torn file is forgotten"


def test_nothing_in_common_is_refused(parts):
    training, _ = parts
    with pytest.raises(DataError, match="nothing to compare"):
        drift(training, pd.DataFrame({"domain_userid": [], "anchor_ts": []}))


def test_moments_may_be_aware(parts):
    training, served = parts
    aware = served.assign(anchor_ts=served["anchor_ts"].dt.tz_localize("UTC"))
    assert drift(training, aware, draws=20).visitors == served["domain_userid"].nunique()
