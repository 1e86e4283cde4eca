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

from prospect_lib.attributes import prospect_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.monitoring.served_scores import anchors_of
from prospect_lib.sql.compiler import features_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import drop_table, write_temporary

_ANCHORS_TABLE = "backfill_anchors"


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
    group: AttributeGroup = prospect_group,
    model: ProspectModel | None = None,
) -> BackfillReport:
    """Compare what was known of served visitors with what the warehouse knows.

    Args:
        warehouse: holds the events.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
        since: when Signals began to count (aware): the publishing or backfill date.
        group: the attributes in ``served``.
        model: scores the visitors again with their whole history.
    """
    key = group.attribute_key.name or "domain_userid"
    anchors = write_temporary(warehouse, _ANCHORS_TABLE, anchors_of(served, key))
    start = dialect_of(warehouse.dialect).literal(since)
    earlier = warehouse.query(
        f"SELECT DISTINCT e.{key} AS visitor FROM {warehouse.events} AS e JOIN {anchors} AS a "
        f"ON e.{key} = a.{key} WHERE CAST(e.derived_tstamp AS TIMESTAMP) < {start}"
    )["visitor"].cast(pa.string())
    affected = served.filter(pc.is_in(served["domain_userid"], earlier))
    change, decisions = None, None
    if model is not None and affected.num_rows:
        anchors = write_temporary(warehouse, _ANCHORS_TABLE, anchors_of(affected, key))
        sql = features_sql(
            group, events=warehouse.events, anchors=anchors, dialect=warehouse.dialect
        )
        change, decisions = _change(warehouse.query(sql), affected, model)
    drop_table(warehouse, _ANCHORS_TABLE)
    return BackfillReport(
        since=since,
        visitors=len(pc.unique(served["domain_userid"])),
        with_history=len(earlier),
        scores=affected.num_rows,
        cold=int(pc.sum(affected["cold_start"]).as_py() or 0),
        change=change,
        decisions=decisions,
    )


def _change(features: pa.Table, served: pa.Table, model: ProspectModel) -> tuple[float, int]:
    """Return the mean absolute change of the scores, and how many decisions change."""
    new = model.predict(features.sort_by("served_row"))
    served = served.sort_by("served_row")
    old = served["score"].to_numpy()
    never = 2.0  # no score reaches the threshold of a score that was served without one
    thresholds = [never if t is None else t for t in served["threshold"].to_pylist()]
    changed = (new >= np.array(thresholds)) != (old >= np.array(thresholds))
    return float(np.abs(new - old).mean()), int(changed.sum())
