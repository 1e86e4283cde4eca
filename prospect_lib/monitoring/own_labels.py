"""Labels that one's own actions have changed: a goal that followed an invitation.

A model that is trained on them learns whom it has invited. A holdout gives rows without actions:
the sessions held out stand for those acted on, by a weight of 1 over the holdout's share.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from prospect_lib.model.rows import labels, visitors_of
from prospect_lib.problem import ScoringProblem

_LEAST = 0.01  # share of the goals from which training reports them
_WITH_HOLDOUT = "Train with --served: sessions held out then stand for those acted on."
_WITHOUT_HOLDOUT = f"Serve with --holdout 0.1 for some weeks. {_WITH_HOLDOUT}"


def own_labels(rows: pd.DataFrame, key: str) -> str:
    """Return a warning if goals followed in sessions that were acted on, else ``""``.

    Args:
        rows: of outcomes: ``act``, ``held_out``, ``served_session``, ``label`` and the key.
        key: name of the attribute key.
    """
    goals = rows["label"].astype(bool)
    acted = rows["act"].groupby([rows[key], rows["served_session"]]).transform("any")
    return _warning(int((goals & acted).sum()), int(goals.sum()), bool(rows["held_out"].any()))


def own_labels_of_training(table: pa.Table, served: pa.Table, problem: ScoringProblem) -> str:
    """Return a warning if actions may have changed 1% of the goals of a training set, or more.

    An action may have changed a label if the visitor was acted on within the horizon before or
    after the row.

    Args:
        table: the training set.
        served: the scores, as :func:`~.served_scores.read_served` returns them.
        problem: its key and horizon decide.
    """
    key, horizon = problem.key, pd.Timedelta(problem.anchors.label_delay)
    visitors = visitors_of(table).to_pandas()
    goals = _moments(visitors, table["anchor_ts"])[labels(table) > 0]
    scores = _moments(served[key].to_pandas(), served["anchor_ts"])
    acted = scores[served["act"].to_numpy()].assign(acted=True)
    near = pd.merge_asof(
        goals.sort_values("at"), acted.sort_values("at"),
        on="at", by="visitor", direction="nearest", tolerance=horizon,
    )  # fmt: skip
    own, held_out = int(near["acted"].notna().sum()), bool(served["held_out"].to_numpy().any())
    return _warning(own, len(goals), held_out) if own >= _LEAST * len(goals) else ""


def without_own_actions(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the rows that no action has changed, with a ``weight``, if there was a holdout.

    Sessions acted on are left out; those held out count 1 / share times. Rows served without a
    holdout are left out too, because no session stands for those acted on.
    """
    if not rows["held_out"].any():
        return rows
    rows = rows[rows["holdout_share"] > 0]
    sessions = rows.groupby([key, "served_session"])
    acted, held = (sessions[name].transform("any") for name in ("act", "held_out"))
    return rows.assign(weight=np.where(held, 1 / rows["holdout_share"], 1.0))[~acted]


def _warning(own: int, goals: int, held_out: bool) -> str:
    if not own:
        return ""
    remedy = _WITH_HOLDOUT if held_out else _WITHOUT_HOLDOUT
    return (
        f"{own:,} of {goals:,} positive labels ({own / goals:.0%}) are of visits that were acted "
        f"on, and some may be due to that: a model trained on them learns your actions. {remedy}"
    )


def _moments(visitors: "pd.Series[str]", times: pa.ChunkedArray) -> pd.DataFrame:
    at = pd.to_datetime(times.to_pandas(), utc=True).astype("datetime64[us, UTC]")
    return pd.DataFrame({"visitor": visitors, "at": at})
