"""Measure what Signals could not know: events from before it began to count.

Signals counts from the publishing of a group, or from ``backfill_since_tstamp`` if that is
set.

Example: ``print(measure_backfill(warehouse, served, since).summary())``
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events, served_events
from prospect_lib.monitoring.served_scores import ROW, anchors_of, check_moments, check_served
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.sql.compiler import features_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.available import Available
from prospect_lib.training_set.partitions import with_feature_types
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import temporary_table


@dataclass(frozen=True)
class BackfillReport:
    """How many served visitors have earlier events, and what knowing them would change.

    Attributes:
        since: when Signals began to count (aware).
        visitors: number of visitors that were served.
        with_history: number of those with events before ``since``.
        scores: number of served scores of visitors with such a history.
        cold: number of those that were cold starts: nothing was known of the visitor.
        change: mean absolute change of these scores (0..1) if the history is known;
            ``None`` without a model.
        decisions: number of decisions that would be different; ``None`` without a model.
    """

    since: datetime
    visitors: int
    with_history: int
    scores: int
    cold: int
    change: float | None = None
    decisions: int | None = None

    def summary(self) -> str:
        """Return the result, and what to do, in one to three sentences."""
        if not self.with_history:
            return f"None of {self.visitors:,} visitors has a history that Signals did not know."
        share = self.with_history / self.visitors
        counts = (
            f"{self.with_history:,} of {self.visitors:,} visitors ({share:.0%}) have a history "
            f"from before {self.since:%Y-%m-%d}; {self.cold:,} of their {self.scores:,} scores "
            "were cold starts."
        )
        if self.change is None:
            return counts
        return (
            f"{counts} With that history a score changes by {self.change:.3f} on average, and "
            f"{self.decisions:,} decisions change. To include it, publish the group with "
            "backfill_since_tstamp."
        )


def measure_backfill(
    warehouse: Warehouse,
    served: pa.Table,
    since: datetime,
    *,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    model: ProspectModel | None = None,
) -> BackfillReport:
    """Compare what was known of served visitors with what the warehouse knows.

    Args:
        warehouse: holds the events.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
        since: when Signals began to count (aware): the publishing or backfill date.
        problem: whose scores were served, or its attribute group.
        model: scores the visitors again with their whole history.
    Raises:
        DataError: ``served`` are scores of another key.
    """
    problem = problem_of(problem)
    check_moments(since=since)
    key = check_served(warehouse, served, problem.group)
    with served_events(warehouse, served, problem) as events:
        earlier = _visitors_before(events, served, since, problem)
        affected = served.filter(pc.is_in(served[key], earlier))
        change, decisions = None, None
        if model is not None and affected.num_rows:
            features = _features(events, affected, problem, model)
            change, decisions = _change(features, affected, model)
    return BackfillReport(
        since=since,
        visitors=len(pc.unique(served[key])),
        with_history=len(earlier),
        scores=affected.num_rows,
        cold=int(pc.sum(affected["cold_start"]).as_py() or 0),
        change=change,
        decisions=decisions,
    )


def _visitors_before(
    warehouse: Warehouse, served: pa.Table, since: datetime, problem: ScoringProblem
) -> pa.ChunkedArray:
    """Return the served visitors with an event before ``since``, as far back as events are read."""
    key, sql = problem.key, dialect_of(warehouse.dialect)
    with temporary_table(warehouse, "served", anchors_of(served, key)) as anchors:
        earlier = warehouse.query(
            f"SELECT DISTINCT e.{KEY} AS visitor "
            f"FROM {keyed_events(warehouse, problem.group)} AS e "
            f"JOIN {anchors} AS a ON e.{KEY} = a.{sql.identifier(key)} "
            f"WHERE e.{HAPPENED} < {sql.literal(since)}"
        )
    return earlier["visitor"].cast(pa.string())


def _features(
    warehouse: Warehouse, served: pa.Table, problem: ScoringProblem, model: ProspectModel
) -> pa.Table:
    """Return the features at served moments, from the whole history, in their order."""
    with temporary_table(warehouse, "served", anchors_of(served, problem.key)) as anchors:
        statement = features_sql(
            Available.of(problem, warehouse.columns()).group,
            events=warehouse.events,
            anchors=anchors,
            dialect=warehouse.dialect,
            features=model.features,
        )
        features = warehouse.query(statement).sort_by(ROW)
    return with_feature_types(features, problem.key, model.features)


def _change(features: pa.Table, served: pa.Table, model: ProspectModel) -> tuple[float, int]:
    """Return the mean absolute change of the scores, and how many decisions change.

    The features are in the order of the served rows.
    """
    new = model.predict(features)
    served = served.sort_by("served_row")
    old = served["score"].to_numpy()
    never = 2.0  # no score reaches the threshold of a score that was served without one
    thresholds = [never if t is None else t for t in served["threshold"].to_pylist()]
    changed = (new >= np.array(thresholds)) != (old >= np.array(thresholds))
    return float(np.abs(new - old).mean()), int(changed.sum())
