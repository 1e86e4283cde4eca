"""Compare served scores with what followed: is the model still right on live visitors?

A served score is the probability of a goal within the horizon. Where the horizon has passed,
the events tell whether the goal followed; where it has not, the score is left out (censored).
An intervention that works raises its own outcomes: compare visitors who were acted on with
those who were not.

Example: ``measure_outcomes(warehouse, served).by("day")`` -> scores, goals, predicted and
observed rate, ... per day
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup, Event
from snowplow_signals.models.model import Attribute

from prospect_lib.anchors import HOUR
from prospect_lib.attributes import SUBMIT_FORM
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, visitor_draws
from prospect_lib.monitoring.served_scores import anchors_of, read_served
from prospect_lib.sql.conditions import event_condition
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import drop_table, write_temporary

#: Attributes by which outcomes can be grouped, where they were served.
SEGMENTS = ("latest_device_class", "first_mkt_medium_l30d", "first_refr_medium_l30d")
_ANCHORS_TABLE = "outcome_anchors"


@dataclass(frozen=True)
class OutcomeReport:
    """Served scores whose horizon has passed, and what followed.

    Attributes:
        rows: one per score: ``domain_userid``, ``anchor_ts``, ``day``, ``score``, ``act``
            (the decision was to act), ``label`` (a goal followed within the horizon), and
            the segments.
        censored: number of scores left out because their outcome is not known yet.
        horizon: how far ahead the scores look.
    """

    rows: pd.DataFrame
    censored: int
    horizon: timedelta

    def by(self, column: str) -> pd.DataFrame:
        """Return outcomes per day or segment.

        Returns:
            ``scores``, ``goals``, ``predicted`` (mean score), ``observed`` (share followed
            by a goal), ``acted`` and ``precision`` (share of acted-on scores followed by a
            goal).
        """
        rows = self.rows.assign(**{column: self.rows[column].fillna("none")})
        groups = rows.groupby(column)
        acted = rows[rows["act"]].groupby(column)["label"]
        table = {
            "scores": groups.size(),
            "goals": groups["label"].sum(),
            "predicted": groups["score"].mean(),
            "observed": groups["label"].mean(),
            "acted": acted.size(),
            "precision": acted.mean(),
        }
        return pd.DataFrame(table).fillna({"acted": 0}).astype({"acted": int, "goals": int})

    def calibration(self, resamples: int = 200) -> Interval:
        """Return observed goals divided by predicted goals, with its interval over visitors.

        1 is as predicted; 0.5 is half of it.
        """
        predicted, observed = self.rows["score"].to_numpy(), self.rows["label"].to_numpy(float)
        visitors = pa.chunked_array([pa.array(self.rows["domain_userid"], pa.string())])
        draws = [
            float(weights @ observed) / max(float(weights @ predicted), 1e-12)
            for weights in visitor_draws(visitors, resamples=resamples)
        ]
        return Interval.of(float(observed.sum() / predicted.sum()), draws)

    def summary(self) -> str:
        """Return the result in two lines."""
        calibration, goals = self.calibration(), int(self.rows["label"].sum())
        acted = self.rows[self.rows["act"]]
        precision = f"{acted['label'].mean():.1%}" if len(acted) else "not known"
        return (
            f"{len(self.rows):,} scores with a known outcome ({self.censored:,} not yet), "
            f"{goals:,} followed by the goal: {calibration:.2f} times as many as predicted.\n"
            f"Acted on {len(acted):,}; precision {precision}. {calibration_verdict(calibration)}"
        )


def calibration_verdict(calibration: Interval) -> str:
    """Return one sentence: whether live calibration is off beyond noise, and what to do.

    >>> calibration_verdict(Interval(0.9, 0.7, 1.2))
    'As many goals as predicted, within the noise of so few visitors.'
    """
    if calibration.low > 1 or calibration.high < 1:
        direction = "More" if calibration.value > 1 else "Fewer"
        return (
            f"{direction} goals than predicted, beyond noise: run the audit first, then train "
            "again on recent weeks."
        )
    return "As many goals as predicted, within the noise of so few visitors."


def measure_outcomes(
    warehouse: Warehouse,
    served: pa.Table,
    *,
    goal: Sequence[Event] = (SUBMIT_FORM,),
    horizon: timedelta = HOUR,
    until: datetime | None = None,
    key: str = "domain_userid",
) -> OutcomeReport:
    """Join served scores with what happened in (t, t + horizon].

    Args:
        warehouse: holds the events.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
        goal: the events that count as the goal.
        horizon: how far ahead the scores look.
        until: when the events are complete (UTC, naive); by default the last event.
        key: name of the column that identifies a visitor.
    Raises:
        DataError: no score is old enough for its outcome to be known.
    """
    followed = _rows_followed_by(warehouse, served, goal, horizon, key)
    end = until or _last_event(warehouse)
    segments = [name for name in SEGMENTS if name in served.column_names]
    columns = ["served_row", "domain_userid", "anchor_ts", "score", "act", *segments]
    rows = served.select(columns).to_pandas()
    rows["act"] = rows["act"].fillna(False).astype(bool)
    rows["label"] = rows["served_row"].isin(followed)
    rows["day"] = rows["anchor_ts"].dt.strftime("%Y-%m-%d")
    known = rows["anchor_ts"] + horizon <= end
    if not known.any():
        raise DataError(
            f"no outcome is known yet: the events end at {end:%Y-%m-%d %H:%M} UTC, less than "
            f"{horizon} after the first of the {len(rows)} scores. Try again later."
        )
    return OutcomeReport(rows[known].reset_index(drop=True), int((~known).sum()), horizon)


def served_anchors(
    warehouse: Warehouse,
    folder: Path,
    group: AttributeGroup,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """Make the served moments with a known outcome a relation of labelled anchors.

    ``extract(warehouse, group, served_anchors(warehouse, folder, group))`` then returns a
    training set of exactly the moments that are scored.

    Args:
        warehouse: holds the events, and gets the relation as a temporary table.
        folder: of the log files, ``served`` in PROSPECT_HOME.
        group: names the column that identifies a visitor.
        since: the first moment to include (aware).
        until: the first moment to leave out (aware).
    Returns:
        The relation's name. Its columns are the key, ``anchor_ts`` and ``label``.
    Raises:
        DataError: nothing was served, or no outcome is known yet.
    """
    key = group.attribute_key.name or "domain_userid"
    served = read_served(folder, group, since=since, until=until)
    rows = measure_outcomes(warehouse, served, key=key).rows
    rows = rows.drop_duplicates(["domain_userid", "anchor_ts"])
    anchors = {
        key: pa.array(rows["domain_userid"], pa.string()),
        "anchor_ts": pa.array(rows["anchor_ts"].to_numpy("datetime64[us]")),
        "label": pa.array(rows["label"].to_numpy(bool)),
    }
    return write_temporary(warehouse, "served_anchors", pa.table(anchors))


def _rows_followed_by(
    warehouse: Warehouse, served: pa.Table, goal: Sequence[Event], horizon: timedelta, key: str
) -> "pd.Series[int]":
    """Return the ``served_row`` of the scores that a goal followed within the horizon."""
    sql = dialect_of(warehouse.dialect)
    anchors = write_temporary(warehouse, _ANCHORS_TABLE, anchors_of(served, key))
    counter = Attribute(name="goal", type="int64", events=list(goal), aggregation="counter")
    rows = warehouse.query(
        f"SELECT DISTINCT a.served_row FROM (SELECT {key}, CAST(derived_tstamp AS TIMESTAMP) AS ts "
        f"FROM {warehouse.events} WHERE {event_condition(counter, sql) or 'TRUE'}) AS g "
        f"JOIN {anchors} AS a ON g.{key} = a.{key} AND g.ts > a.anchor_ts "
        f"AND g.ts <= a.anchor_ts + {sql.interval(horizon)}"
    )
    drop_table(warehouse, _ANCHORS_TABLE)
    return rows["served_row"].to_pandas().astype("int64")


def _last_event(warehouse: Warehouse) -> datetime:
    statement = f"SELECT MAX(CAST(derived_tstamp AS TIMESTAMP)) AS ts FROM {warehouse.events}"
    last: datetime = warehouse.query(statement)["ts"][0].as_py()
    return last
