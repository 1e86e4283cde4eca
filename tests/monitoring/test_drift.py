"""A changed mix of channels raises an alarm; days without a change raise none."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from prospect_lib import plots
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, TooFewError
from prospect_lib.monitoring.drift import LEAST_VISITORS, measure_drift, psi
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
    features = warehouse.frame(features_sql(prospect_group, events="events", anchors=anchors))
    warehouse.close()
    features["anchor_ts"] = features["anchor_ts"].astype("datetime64[us]")
    start = END.replace(tzinfo=None) - timedelta(days=30)
    return features[features["anchor_ts"] >= start].reset_index(drop=True)


@pytest.fixture(scope="module")
def parts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half the visitors are trained on, the others are served: nothing has changed."""
    half = rows["domain_userid"].map(lambda name: int(name[:2], 16) % 2 == 0)
    return rows[half], rows[~half]


def days(rows: pd.DataFrame) -> list[pd.DataFrame]:
    return [day for _, day in rows.groupby(rows["anchor_ts"].dt.date) if len(day) > 5]


def test_days_without_a_change_raise_no_alarm(parts):
    training, served = parts
    busy = [day for day in days(served) if day["domain_userid"].nunique() >= LEAST_VISITORS]
    reports = [measure_drift(training, day) for day in busy[:12]]
    assert len(reports) == 12
    assert sum(bool(report.alarms) for report in reports) <= 1
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)]
    report = measure_drift(training, week)
    assert report.alarms == [] and report.advice() == []
    assert "no feature moved beyond chance" in report.summary()


def test_a_changed_mix_of_channels_is_named(parts):
    training, served = parts
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)].copy()
    rng = np.random.default_rng(0)
    visitors = week["domain_userid"].unique()
    moved = set(rng.choice(visitors, int(0.7 * len(visitors)), replace=False))
    week.loc[week["domain_userid"].isin(moved), "first_mkt_medium_l30d"] = "display"
    report = measure_drift(training, week)
    assert report.alarms == ["first_mkt_medium_l30d"]
    (line,) = report.advice()
    assert "a new value: 0% in training" in line and "ask who runs the campaigns" in line
    assert report.visitors == len(visitors)
    assert plots.drift(report).png()[:4] == b"\x89PNG"


def test_a_visitor_counts_once_however_many_rows_they_have(parts):
    training, served = parts
    week = served[served["anchor_ts"] > served["anchor_ts"].max() - timedelta(days=7)]
    one = week[week["domain_userid"] == week["domain_userid"].iloc[0]]
    busy = one.iloc[:1].assign(num_page_views_l7d=10_000.0)
    crowd = pd.concat([week, *[busy] * len(week)])
    assert measure_drift(training, crowd).alarms == []


def test_a_report_of_few_visitors_tells_how_many_it_needs(parts):
    training, served = parts
    few = served[served["domain_userid"].isin(served["domain_userid"].unique()[:40])]
    report = measure_drift(training, few)
    assert report.alarms == [] and report.needed > 40
    assert f"{report.needed:,} would reveal" in report.summary()


def test_of_a_handful_of_visitors_nothing_is_said(parts):
    training, served = parts
    few = served[served["domain_userid"].isin(served["domain_userid"].unique()[:11])]
    with pytest.raises(TooFewError, match="too few to say: 11 visitors were served"):
        measure_drift(training, few.assign(num_page_views_l7d=10_000.0))


def test_psi_by_hand():
    assert psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])) == pytest.approx(
        0.1 * np.log(1.2) - 0.1 * np.log(0.8)
    )
    assert psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0


def test_one_report_in_ten_raises_an_alarm_if_that_is_tolerated() -> None:
    """Training and serving draw from one distribution; ties and rare values included."""
    rng = np.random.default_rng(0)

    def draw(visitors: int) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "domain_userid": [f"visitor {i}" for i in range(visitors)],
                "anchor_ts": pd.Timestamp("2026-03-01"),
                "views": rng.poisson(2, visitors).astype(float),
                "seconds": rng.exponential(10, visitors),
                "channel": rng.choice(
                    ["search", "email", "display"], visitors, p=[0.8, 0.18, 0.02]
                ),
                "converted": rng.random(visitors) < 0.03,
            }
        )

    reports = [measure_drift(draw(200), draw(50), false_alarm=0.1, seed=i) for i in range(150)]
    alarms = sum(bool(report.alarms) for report in reports)
    assert 1 <= alarms <= 0.1 * len(reports) + 2 * 3.7, "15 are expected, give or take 3.7"


def test_frames_without_common_features_are_refused(parts):
    training, _ = parts
    with pytest.raises(DataError, match="nothing to compare"):
        measure_drift(training, pd.DataFrame({"domain_userid": [], "anchor_ts": []}))


def test_times_may_be_aware(parts):
    training, served = parts
    aware = served.assign(anchor_ts=served["anchor_ts"].dt.tz_localize("UTC"))
    assert measure_drift(training, aware).visitors == served["domain_userid"].nunique()
