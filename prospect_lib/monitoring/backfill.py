"""What Signals could not know: visitors with a history from before the publishing.

Example: ``backfill(warehouse, served, since)`` -> a ``Backfill``; ``summary()`` says it.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.attributes import prospect_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.monitoring.served_scores import moments
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set import features_sql
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import drop_table, write_temporary


@dataclass(frozen=True)
class Backfill:
    """How many served visitors came with a past, and what knowing it would change.

    Attributes:
        visitors: how many were served.
        with_history: of those, how many had events from before Signals began to count.
        scores: served scores of visitors with such a history.
        cold: of those, how many were answered as if nothing were known.
        change: mean absolute change of these scores (0..1) when the history is known;
            ``None`` without a model.
        decisions: how many decisions would be others.
    """

    since: datetime
    visitors: int
    with_history: int
    scores: int
    cold: int
    change: float | None = None
    decisions: int | None = None

    def summary(self) -> str:
        """What was found and what to do, for people."""
        if not self.with_history:
            return f"None of {self.visitors:,} visitors had a history that Signals did not know."
        share = self.with_history / self.visitors
        found = (
            f"{self.with_history:,} of {self.visitors:,} visitors ({share:.0%}) had a history from "
            f"before {self.since:%Y-%m-%d}; {self.cold:,} of their {self.scores:,} scores were "
            "cold starts."
        )
        if self.change is None:
            return found
        return (
            f"{found} Knowing it moves a score by {self.change:.3f} on average and changes "
            f"{self.decisions:,} decisions. Publish the group with backfill_since_tstamp to know "
            "it."
        )


def backfill(
    warehouse: Warehouse,
    served: pa.Table,
    since: datetime,
    *,
    group: AttributeGroup = prospect_group,
    model: ProspectModel | None = None,
) -> Backfill:
    """Compare what was known of served visitors with what the warehouse knows.

    Args:
        served: as :func:`prospect_lib.monitoring.served_scores.read` gives it.
        since: from when on Signals counts (aware): publishing or backfill date.
        model: scores them again with their whole history.
    """
    key = group.attribute_key.name or "domain_userid"
    name = write_temporary(warehouse, "backfill_moments", moments(served, key))
    at = dialect_of(warehouse.dialect).constant(since)
    found = warehouse.query(
        f"SELECT DISTINCT e.{key} AS visitor FROM {warehouse.events} AS e JOIN {name} AS m "
        f"ON e.{key} = m.{key} WHERE CAST(e.derived_tstamp AS TIMESTAMP) < {at}"
    )
    theirs = served.filter(pc.is_in(served["domain_userid"], found["visitor"].cast(pa.string())))
    change, decisions = None, None
    if model is not None and theirs.num_rows:
        write_temporary(warehouse, "backfill_moments", moments(theirs, key))
        change, decisions = _changed(warehouse, theirs, name, group, model)
    drop_table(warehouse, "backfill_moments")
    visitors = len(pc.unique(served["domain_userid"]))
    cold = int(pc.sum(theirs["cold_start"]).as_py() or 0)
    return Backfill(since, visitors, found.num_rows, theirs.num_rows, cold, change, decisions)


def _changed(
    warehouse: Warehouse, theirs: pa.Table, name: str, group: AttributeGroup, model: ProspectModel
) -> tuple[float, int]:
    sql = features_sql(group, events=warehouse.events, anchors=name, dialect=warehouse.dialect)
    rows = warehouse.query(sql).sort_by("served_row")
    served = theirs.sort_by("served_row")
    now, was = model.predict(rows), served["score"].to_numpy()
    threshold = np.array([t if t is not None else 2.0 for t in served["threshold"].to_pylist()])
    other = (now >= threshold) != (was >= threshold)
    return float(np.abs(now - was).mean()), int(other.sum())
