"""Labels that one's own actions have changed: counted, and left out where a holdout stands in."""

from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest

from prospect_lib.monitoring.own_labels import (
    own_labels,
    own_labels_of_training,
    without_own_actions,
)
from prospect_lib.problem import prospect_problem

AT, MINUTE = datetime(2026, 3, 1, 12), timedelta(minutes=1)
COLUMNS = ["domain_userid", "served_session", "act", "held_out", "holdout_share", "label"]


def rows_of(*rows: tuple[str, str, bool, bool, float, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


ROWS = rows_of(
    ("early", "s0", True, False, 0.0, True),  # before there was a holdout
    ("acted", "s1", False, False, 0.25, True),  # not yet chosen
    ("acted", "s1", True, False, 0.25, True),
    ("acted", "s2", False, False, 0.25, True),
    ("held", "s3", False, False, 0.25, False),
    ("held", "s3", False, True, 0.25, True),
    ("cold", "s4", False, False, 0.25, False),
)


def test_sessions_held_out_stand_for_those_acted_on():
    rows = without_own_actions(ROWS, "domain_userid")
    weights = list(zip(rows["served_session"], rows["weight"], strict=True))
    assert weights == [("s2", 1.0), ("s3", 4.0), ("s3", 4.0), ("s4", 1.0)]
    without_holdout = ROWS[~ROWS["held_out"]]
    assert without_own_actions(without_holdout, "domain_userid").equals(without_holdout)


def test_the_weights_give_the_goal_rate_of_a_world_without_actions():
    """Of 40 sessions that are chosen, 10 are held out; acting doubles the goals of the others."""
    held = [("v", f"h{n}", False, True, 0.25, n < 2) for n in range(10)]
    acted = [("v", f"a{n}", True, False, 0.25, n < 12) for n in range(30)]
    others = [("v", f"o{n}", False, False, 0.25, n < 1) for n in range(60)]
    rows = without_own_actions(rows_of(*held, *acted, *others), "domain_userid")
    assert rows["weight"].sum() == 100
    assert (rows["weight"] * rows["label"]).sum() == 0.2 * 40 + 1


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (ROWS, r"^3 of 5 positive labels \(60%\).*actions\. Train with --served: sessions held"),
        (ROWS.iloc[:3], r"^3 of 3 .*actions\. Serve with --holdout 0\.1 for some weeks\. Train wi"),
        (ROWS.iloc[3:], "^$"),
    ],
)
def test_goals_in_sessions_that_were_acted_on_are_counted(rows, warning):
    assert pd.Series([own_labels(rows, "domain_userid")]).str.contains(warning).all()


def test_training_rows_within_the_horizon_of_an_action_are_counted():
    moments = {"before": -59, "after": 59, "too early": -61, "too late": 61, "another": 0}
    table = pa.table(
        {
            "domain_userid": ["b" if name == "another" else "a" for name in moments],
            "anchor_ts": pa.array(
                [AT + m * MINUTE for m in moments.values()], pa.timestamp("us", "UTC")
            ),
            "label": [True] * len(moments),
        }
    )
    served = pa.table(
        {
            "domain_userid": ["a", "b"],
            "anchor_ts": pa.array([AT, AT], pa.timestamp("us")),
            "act": [True, False],
            "held_out": [False, False],
        }
    )
    warning = own_labels_of_training(table, served, prospect_problem)
    assert warning.startswith("2 of 5 positive labels (40%)")
    many = pa.concat_tables([table.slice(0, 1), *[table.slice(4)] * 100])
    assert own_labels_of_training(many, served, prospect_problem) == "", "below 1%"
