"""An experiment with a known answer: a holdout among simulated visitors who react to invitations.

Example: ``measure_outcomes(*experiment(effect=0.05)).effect().summary()``
"""

from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.sandbox.simulation.reactions import with_reactions
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.server.interventions import is_held_out
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse

_END, _DAYS = datetime(2026, 3, 1, tzinfo=UTC), 30
_COLUMNS = (
    "domain_userid", "domain_sessionid", "event_id", "event_vendor", "event_name", "event_version",
    "page_urlpath", "derived_tstamp", "collector_tstamp",
)  # fmt: skip


def experiment(
    *, effect: float = 0.0, holdout: float = 0.5, visitors: int = 3000, seed: int = 0
) -> tuple[Warehouse, pa.Table]:
    """Simulate a month in which all who look at the product are chosen, and most are invited.

    Args:
        effect: what an invitation adds to the share of sessions that send the form.
        holdout: share of sessions that are chosen and not invited.
        visitors: how many visit; 3,000 have some 2,100 sessions with the product.
        seed: of the simulation, of the reactions and of the holdout.
    Returns:
        A warehouse with the events, and the scores, both in the columns that
        ``measure_outcomes`` needs.
    """
    events = _month(visitors, seed)
    of_product = pc.equal(events["page_urlpath"], "/product")
    views = events.filter(pc.and_(pc.equal(events["event_name"], "page_view"), of_product))
    first = views.to_pandas().drop_duplicates("domain_sessionid")
    sessions = first["domain_sessionid"]
    held_out = np.array([is_held_out(session, holdout, f"invite {seed}") for session in sessions])
    served = pa.table(
        {
            "served_row": np.arange(len(first)),
            "domain_userid": pa.array(first["domain_userid"], pa.string()),
            "anchor_ts": pa.array(first["derived_tstamp"], pa.timestamp("us")),
            "score": np.full(len(first), 0.05),
            "act": ~held_out,
            "held_out": held_out,
            "holdout_share": np.full(len(first), holdout),
            "served_session": pa.array(sessions, pa.string()),
        }
    )
    happened = with_reactions(events, served.filter(served["act"]), effect=effect, seed=seed)
    return DuckDBWarehouse.over("SELECT * FROM stored", stored=happened.to_reader()), served


@lru_cache(maxsize=1)  # the same visitors with and without an effect
def _month(visitors: int, seed: int) -> pa.Table:
    return simulate(visitors, _DAYS, end=_END, seed=seed).events.select(_COLUMNS)
