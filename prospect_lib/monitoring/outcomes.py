"""Compare served scores with what followed: is the model still right on live visitors?

A served score is the probability of a goal within the horizon. Where the horizon has passed,
the events tell whether the goal followed; where it has not, the score is left out (censored).
An intervention that works raises its own outcomes, here and in the labels of the next training:
``OutcomeReport.effect`` compares with a holdout, and the summary warns.

Example: ``measure_outcomes(warehouse, served).by("day")`` -> scores, goals, predicted and
observed rate, ... per day
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup, Event

from prospect_lib.anchors import Horizon
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, visitor_draws
from prospect_lib.monitoring.effect import Effect, measure_effect
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events, served_events
from prospect_lib.monitoring.own_labels import own_labels, without_own_actions
from prospect_lib.monitoring.served_scores import (
    ROW,
    anchors_of,
    check_moments,
    check_served,
    read_served,
)
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.sql.clocks import wrong_clock_sql
from prospect_lib.sql.conditions import counts_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.available import refuse_missing_columns
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.clocks import end_of_data
from prospect_lib.warehouse.tables import temporary_table, write_temporary

_MOST_SEGMENTS, _MOST_VALUES = 4, 20  # attributes by which outcomes are grouped; values of each
_DECISION = ("act", "held_out", "holdout_share", "served_session")
_OWN_COLUMNS = (*_DECISION, "day", "label", "score")  # of an outcome's rows


@dataclass(frozen=True)
class OutcomeReport:
    """Served scores whose horizon has passed, and what followed.

    Attributes:
        rows: one per score: the key, ``anchor_ts``, ``day``, ``score``, ``act`` (the decision
            was to act), ``held_out`` (it would have been, without the holdout),
            ``holdout_share``, ``served_session``, ``label`` (a goal followed within the
            horizon), and the segments.
        censored: number of scores left out because their outcome is not known yet.
        horizon: how far ahead the scores look.
        key: name of the attribute key.
        segments: text attributes with a few values, by which outcomes can be grouped.
        after_goal: number of scores left out because the visitor had reached the goal before,
            if such moments are no training rows (``until_goal``).
    """

    rows: pd.DataFrame
    censored: int
    horizon: Horizon
    key: str
    segments: tuple[str, ...] = ()
    after_goal: int = 0

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
        visitors = pa.chunked_array([pa.array(self.rows[self.key], pa.string())])
        draws = [
            float(weights @ observed) / max(float(weights @ predicted), 1e-12)
            for weights in visitor_draws(visitors, resamples=resamples)
        ]
        return Interval.of(float(observed.sum() / predicted.sum()), draws)

    def effect(self) -> Effect | None:
        """Return what acting adds to the goal rate; ``None`` if there was no holdout."""
        return measure_effect(self.rows, self.key)

    def summary(self) -> str:
        """Return the result in two lines, and what is known of acting in up to three more."""
        calibration, goals = self.calibration(), int(self.rows["label"].sum())
        acted = self.rows[self.rows["act"]]
        precision = f"{acted['label'].mean():.1%}" if len(acted) else "not known"
        after_goal = f", {self.after_goal:,} after a goal" if self.after_goal else ""
        effect = self.effect()
        acting = [effect.summary() if effect else "", own_labels(self.rows, self.key)]
        lines = (
            f"{len(self.rows):,} scores with a known outcome ({self.censored:,} not yet"
            f"{after_goal}), {goals:,} followed by the goal: {calibration:.2f} times as many as "
            "predicted.\n"
            f"Acted on {len(acted):,}; precision {precision}. {calibration_verdict(calibration)}"
        )
        return "\n".join([lines, *filter(None, acting)])


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
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    *,
    until: datetime | None = None,
) -> OutcomeReport:
    """Join served scores with the goals in (t, t + horizon].

    Args:
        warehouse: holds the events.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
        problem: its goal, the goal's criteria and the horizon decide; a bare group has the
            default ones.
        until: when the events are complete (naive means UTC); by default the end of the data.
    Raises:
        DataError: no score is old enough for its outcome to be known, or ``served`` are scores
            of another key.
    """
    problem = problem_of(problem)
    key = check_served(warehouse, served, problem.group)
    check_moments(until=until)
    refuse_missing_columns(
        replace(problem.anchors, at=[Event()]), problem.group, warehouse.columns()
    )
    end = _naive(until or end_of_data(warehouse))
    segments = _segments(served, problem.group)
    columns = ["served_row", key, "anchor_ts", "score", *_DECISION, *segments]
    rows = served.select(columns).to_pandas()
    with (
        served_events(warehouse, served, problem) as events,
        temporary_table(events, "outcomes", anchors_of(served, key)) as anchors,
    ):
        goals = _Goals(events, anchors, problem)
        rows["label"] = rows["served_row"].isin(goals.following())
        known = goals.known_from(rows) <= end
        after_goal = rows["served_row"].isin(goals.earlier())
    if not (known & ~after_goal).any():
        when = f"{problem.horizon} after it"
        if isinstance(problem.horizon, str):
            when = f"once its session has had no event for {problem.anchors.session_timeout}"
        raise DataError(
            f"no outcome is known yet: the events end at {end:%Y-%m-%d %H:%M} UTC, and the outcome "
            f"of each of the {len(rows)} scores is known {when}. Try again later."
        )
    rows["day"] = rows["anchor_ts"].dt.strftime("%Y-%m-%d")
    return OutcomeReport(
        rows=rows[known & ~after_goal].reset_index(drop=True),
        censored=int((~known & ~after_goal).sum()),
        horizon=problem.horizon,
        key=key,
        segments=tuple(segments),
        after_goal=int(after_goal.sum()),
    )


def served_anchors(
    warehouse: Warehouse,
    folder: Path | str,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """Make the served moments with a known outcome a relation of labelled anchors.

    ``extract(warehouse, problem, served_anchors(warehouse, folder, problem))`` then returns a
    training set of exactly the moments that are scored.

    Args:
        warehouse: holds the events, and gets the relation as a temporary table.
        folder: of the log files, ``served`` in PROSPECT_HOME.
        problem: its key, goal and horizon decide; a bare group has the default ones.
        since: the first moment to include (aware).
        until: the first moment to leave out (aware).
    Returns:
        The relation's name. Its columns are the key, ``anchor_ts``, ``label`` and, if sessions
        were held out, ``weight``: they stand for those acted on, which are left out.
    Raises:
        DataError: nothing was served, or no outcome is known yet.
    """
    problem = problem_of(problem)
    key = problem.key
    served = read_served(folder, problem, since=since, until=until)
    outcomes = without_own_actions(measure_outcomes(warehouse, served, problem).rows, key)
    rows = outcomes.drop_duplicates([key, "anchor_ts"])
    anchors = {
        key: pa.array(rows[key], pa.string()),
        "anchor_ts": pa.array(rows["anchor_ts"].to_numpy("datetime64[us]")),
        "label": pa.array(rows["label"].to_numpy(bool)),
    }
    if "weight" in rows:
        anchors["weight"] = pa.array(rows["weight"].to_numpy(float))
    return write_temporary(warehouse, "served_anchors", pa.table(anchors))


class _Goals:
    """The goals of served visitors, whose moments are in the table ``anchors``."""

    def __init__(self, warehouse: Warehouse, anchors: str, problem: ScoringProblem) -> None:
        self._warehouse, self._anchors, self._problem = warehouse, anchors, problem
        self._sql = dialect_of(warehouse.dialect)
        wrong_clock = wrong_clock_sql(
            warehouse.columns(), warehouse.dialect, events=warehouse.events
        )
        self._right_clock = f"NOT COALESCE({wrong_clock}, FALSE)"

    def following(self) -> "pd.Series[int]":
        """Return the ``served_row`` of the scores that a goal followed within the horizon."""
        horizon = self._problem.horizon
        within = ""
        if not isinstance(horizon, str):
            within = f" AND g.{HAPPENED} <= a.anchor_ts + {self._sql.interval(horizon)}"
        return self._rows(f"g.{HAPPENED} > a.anchor_ts{within}")

    def earlier(self) -> "pd.Series[int]":
        """Return the ``served_row`` of scores after a goal, where those are no training rows."""
        if not self._problem.anchors.until_goal:
            return pd.Series(dtype="int64")
        return self._rows(f"g.{HAPPENED} <= a.anchor_ts")

    def known_from(self, rows: pd.DataFrame) -> "pd.Series[pd.Timestamp]":
        """Return from when the outcome of each score is known (UTC, without zone)."""
        horizon, key = self._problem.horizon, self._problem.key
        if not isinstance(horizon, str):
            return rows["anchor_ts"] + horizon
        last = self._warehouse.query(
            f"SELECT g.{KEY}, MAX(g.{HAPPENED}) AS last_ts "
            f"FROM {self._events(self._right_clock)} AS g "
            f"WHERE g.{KEY} IN (SELECT {self._sql.identifier(key)} FROM {self._anchors}) GROUP BY 1"
        ).to_pandas()
        ends = rows[key].map(last.set_index(KEY)["last_ts"])
        return (
            ends.where(ends > rows["anchor_ts"], rows["anchor_ts"])
            + self._problem.anchors.session_timeout
        )

    def _rows(self, condition: str) -> "pd.Series[int]":
        goal = counts_sql(self._problem.anchors.goal_attribute, self._sql)
        rows = self._warehouse.query(
            f"SELECT DISTINCT a.{ROW} FROM {self._events(f'{goal} AND {self._right_clock}')} AS g "
            f"JOIN {self._anchors} AS a ON g.{KEY} = a.{self._sql.identifier(self._problem.key)} "
            f"AND {condition}"
        )
        return rows[ROW].to_pandas().astype("int64")

    def _events(self, condition: str) -> str:
        return keyed_events(self._warehouse, self._problem.group, condition)


def _segments(served: pa.Table, group: AttributeGroup) -> list[str]:
    """Return the first text attributes that have a few values."""
    texts = [str(a.name) for a in group.attributes or [] if a.type == "string"]
    columns = [name for name in texts if name in served.column_names and name not in _OWN_COLUMNS]
    few = (name for name in columns if 1 < len(pc.unique(served[name])) <= _MOST_VALUES)
    return list(islice(few, _MOST_SEGMENTS))


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
