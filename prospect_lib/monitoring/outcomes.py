"""What became of the visitors that were scored: is the model still right, live?

A served score is a promise about the hour that follows. Where that hour has passed, the
events say whether it was kept; where it has not, the score is left out (censored). An
invitation that works makes its own score come true: compare with visitors not acted on.

Example: ``outcomes(warehouse, served).by("day")`` -> scores, forms, mean score, rate, ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.attributes import SUBMIT_FORM
from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, visitor_draws
from prospect_lib.monitoring.served_scores import moments
from prospect_lib.sql.conditions import matches
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.anchors import HOUR
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import drop_table, write_temporary

SEGMENTS = ("latest_device_class", "first_mkt_medium_l30d", "first_refr_medium_l30d")


@dataclass(frozen=True)
class Outcomes:
    """Served scores whose hour has passed, and what followed.

    Attributes:
        rows: one a score: ``domain_userid``, ``anchor_ts``, ``day``, ``score``, ``act``,
            ``label`` (a goal followed within the horizon), and the segments.
        censored: how many scores were left out, as their outcome is not known yet.
        horizon: how far the promise reaches.
    """

    rows: pd.DataFrame
    censored: int
    horizon: timedelta

    def by(self, column: str) -> pd.DataFrame:
        """For each day or segment: scores, goals, what was promised and what came, and the
        precision of acting: the share of acted-on moments that a goal followed."""
        rows = self.rows.assign(**{column: self.rows[column].fillna("none")})
        groups = rows.groupby(column)
        acted = rows[rows["act"]].groupby(column)["label"]
        table = {
            "scores": groups.size(),
            "goals": groups["label"].sum(),
            "promised": groups["score"].mean(),
            "came": groups["label"].mean(),
            "acted": acted.size(),
            "precision": acted.mean(),
        }
        return pd.DataFrame(table).fillna({"acted": 0}).astype({"acted": int, "goals": int})

    def calibration(self, resamples: int = 200) -> Interval:
        """Goals that came for each that was promised, with its interval over visitors: 1 is
        what was promised, 0.5 half of it."""
        promised, came = self.rows["score"].to_numpy(), self.rows["label"].to_numpy(float)
        names = pa.chunked_array([pa.array(self.rows["domain_userid"], pa.string())])
        draws = [
            float(w @ came) / max(float(w @ promised), 1e-12)
            for w in visitor_draws(names, resamples=resamples)
        ]
        return Interval.of(float(came.sum() / promised.sum()), draws)

    def summary(self) -> str:
        """The outcome in two lines, for people."""
        found, goals = self.calibration(), int(self.rows["label"].sum())
        acted = self.rows[self.rows["act"]]
        precision = f"{acted['label'].mean():.1%}" if len(acted) else "not known"
        return (
            f"{len(self.rows):,} scores with a known outcome ({self.censored:,} not yet), "
            f"{goals:,} followed by the goal: {found:.2f} times what was promised.\n"
            f"Acted on {len(acted):,}; precision {precision}. {verdict(found)}"
        )


def verdict(calibration: Interval) -> str:
    """What the live calibration says to do."""
    if calibration.low > 1 or calibration.high < 1:
        more = "more" if calibration.value > 1 else "less"
        return (
            f"{more.capitalize()} came than was promised, beyond noise: look at the audit first, "
            "then train again on recent weeks."
        )
    return "What was promised came, as far as so many visitors can tell."


def outcomes(
    warehouse: Warehouse,
    served: pa.Table,
    *,
    goal: Sequence[Event] = (SUBMIT_FORM,),
    horizon: timedelta = HOUR,
    until: datetime | None = None,
    key: str = "domain_userid",
) -> Outcomes:
    """Join served scores with what happened in (t, t + horizon].

    Args:
        served: as :func:`prospect_lib.monitoring.served_scores.read` gives it.
        until: until when the events are complete (UTC, naive); by default the last event.
    Raises:
        DataError: no score is old enough for its outcome to be known.
    """
    goals = _goals(warehouse, served, goal, horizon, key)
    end = until or _last(warehouse)
    segments = [name for name in SEGMENTS if name in served.column_names]
    columns = ["served_row", "domain_userid", "anchor_ts", "score", "act", *segments]
    rows = served.select(columns).to_pandas()
    rows["act"] = rows["act"].fillna(False).astype(bool)
    rows["label"] = rows["served_row"].isin(goals)
    rows["day"] = rows["anchor_ts"].dt.strftime("%Y-%m-%d")
    known = rows["anchor_ts"] + horizon <= end
    if not known.any():
        raise DataError(
            f"no outcome is known yet: the events end at {end:%Y-%m-%d %H:%M} UTC, less than "
            f"{horizon} after the first of the {len(rows)} scores. Come back later."
        )
    return Outcomes(rows[known].reset_index(drop=True), int((~known).sum()), horizon)


def _goals(
    warehouse: Warehouse, served: pa.Table, goal: Sequence[Event], horizon: timedelta, key: str
) -> "pd.Series[int]":
    """The served rows that a goal followed in time."""
    sql = dialect_of(warehouse.dialect)
    name = write_temporary(warehouse, "outcome_moments", moments(served, key))
    counter = Attribute(name="goal", type="int64", events=list(goal), aggregation="counter")
    found = warehouse.query(
        f"SELECT DISTINCT m.served_row FROM (SELECT {key}, CAST(derived_tstamp AS TIMESTAMP) AS ts "
        f"FROM {warehouse.events} WHERE {matches(counter, sql) or 'TRUE'}) AS g JOIN {name} AS m "
        f"ON g.{key} = m.{key} AND g.ts > m.anchor_ts "
        f"AND g.ts <= m.anchor_ts + {sql.interval(horizon)}"
    )
    drop_table(warehouse, "outcome_moments")
    return found["served_row"].to_pandas().astype("int64")


def _last(warehouse: Warehouse) -> datetime:
    statement = f"SELECT MAX(CAST(derived_tstamp AS TIMESTAMP)) AS ts FROM {warehouse.events}"
    found: datetime = warehouse.query(statement)["ts"][0].as_py()
    return found
