"""The public tutorial's model on its own data, under its own split and under honest ones.

The recipe (current version of Snowplow's tutorial): every event before a visitor's first form
is a row, with three page-view counts from the events strictly before it. The label is whether
a form follows within the hour. The model is one logistic regression with balanced classes,
tested on one random split of 80 to 20.
Its figures on the published sample: accuracy 0.72, F1 0.38, ROC-AUC 0.71. Its query has no
ORDER BY, so the order of the rows, and with it the split, differs from run to run.

Measured here, always on the same sample:

* ``published``: that recipe, over several orders of the rows;
* ``new visitors``: the same rows and model, no visitor on both sides;
* ``new visitors, later``: in addition, trained on the past and tested on later rows;
* ``as served``: trained as published, tested as a server scores, counting the current event;
* ``learnt as served``: counting the current event in training as well;
* ``ours``: this project's rows (the current event counts, unknown outcomes are left out) and
  model, under a random split and under the honest one.

Usage: ``python benchmarks/published_sample.py [sample_events.csv.gz]`` (downloaded into
PROSPECT_HOME if no file is given). Results: ``benchmarks/results/published_sample.json``.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, train_test_split

from prospect_lib.evaluation.baselines import PRIOR
from prospect_lib.evaluation.evaluate import MODEL, evaluate
from prospect_lib.model.splits import Split, honest_split, random_split
from prospect_lib.problem import sample_problem
from prospect_lib.settings import Settings
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.sample import sample_events

ORDERS, FOLDS, SEED = 20, 5, 42
STRICT = ["views_before", "pricing_before", "customers_before"]
INCLUSIVE = ["views_until", "pricing_until", "customers_until"]

_BEFORE = "RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING"
_UNTIL = "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
_AHEAD = "RANGE BETWEEN INTERVAL 1 MICROSECOND FOLLOWING AND INTERVAL 1 HOUR FOLLOWING"
_COUNTED = {
    "views": "event_name = 'page_view'",
    "pricing": "event_name = 'page_view' AND page_url LIKE '%pricing%'",
    "customers": "event_name = 'page_view' AND page_url LIKE '%customers%'",
}


def published_rows(warehouse: DuckDBWarehouse) -> pa.Table:
    """Return the recipe's rows in a stable order, with counts before and up to each event."""
    line = "PARTITION BY domain_userid ORDER BY derived_tstamp"
    counts = [
        f"COUNT(*) FILTER (WHERE {kind}) OVER ({line} {frame}) AS {name}_{when}"
        for name, kind in _COUNTED.items()
        for when, frame in (("before", _BEFORE), ("until", _UNTIL))
    ]
    form = "event_name = 'submit_form'"
    return warehouse.query(
        f"""
        WITH site AS (
          SELECT * FROM {warehouse.events}
          WHERE app_id = 'website' AND domain_userid IS NOT NULL
            AND event_name IN ('page_view', 'submit_form')
        ), labelled AS (
          SELECT domain_userid, derived_tstamp, event_name, {", ".join(counts)},
            COUNT(*) FILTER (WHERE {form}) OVER ({line} {_AHEAD}) > 0 AS label,
            MIN(derived_tstamp) FILTER (WHERE {form}) OVER (PARTITION BY domain_userid) AS form_at
          FROM site
        )
        SELECT DISTINCT * EXCLUDE (form_at) FROM labelled
        WHERE form_at IS NULL OR derived_tstamp < form_at
        ORDER BY ALL
        """
    )


def logistic(
    train: Any, test: Any, learnt: list[str] = STRICT, served: list[str] = STRICT
) -> tuple[float, ...]:
    """Return accuracy, F1, ROC-AUC and log loss of the recipe's model.

    Args:
        train: rows to train on.
        test: rows to test on.
        learnt: the counts to train on.
        served: the counts to test on.
    """
    model = LogisticRegression(random_state=SEED, class_weight="balanced")
    model.fit(train[learnt].to_numpy(), train["label"])
    counts = test[served].to_numpy()
    score = model.predict_proba(counts)[:, 1]
    predicted = model.predict(counts)
    return (
        accuracy_score(test["label"], predicted),
        f1_score(test["label"], predicted),
        roc_auc_score(test["label"], score),
        log_loss(test["label"], score),
    )


def recipe(rows: pa.Table, orders: int = ORDERS) -> dict[str, Any]:
    """Measure the published recipe unchanged, under several orders of the same rows."""
    frame = rows.to_pandas()
    runs, shared = [], []
    for order in range(orders):
        shuffled = frame.sample(frac=1, random_state=order)
        train, test = train_test_split(
            shuffled, test_size=0.2, random_state=SEED, stratify=shuffled["label"]
        )
        runs.append(logistic(train, test))
        shared.append(test["domain_userid"].isin(train["domain_userid"]).mean())
    return {
        "rows": len(frame),
        "positive_rate": round(float(frame["label"].mean()), 4),
        "always_no_accuracy": round(1 - float(frame["label"].mean()), 4),
        "rows_all_zero_in_training": round(float((frame[STRICT] == 0).all(axis=1).mean()), 3),
        "test_rows_of_known_visitors": round(float(np.mean(shared)), 3),
        **_spread(runs),
    }


def by_visitor(
    rows: pa.Table, learnt: list[str] = STRICT, served: list[str] = STRICT
) -> dict[str, Any]:
    """Measure the recipe's rows and model with each visitor on one side."""
    frame = rows.to_pandas()
    folds = GroupKFold(FOLDS).split(frame, groups=frame["domain_userid"])
    runs = [logistic(frame.iloc[one], frame.iloc[two], learnt, served) for one, two in folds]
    return _spread(runs)


def later(rows: pa.Table) -> dict[str, Any]:
    """Measure the recipe's model on this project's honest split of the same rows."""
    times = rows["derived_tstamp"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    split = honest_split(rows.append_column("anchor_ts", times))
    measured = logistic(split.train.to_pandas(), split.test.to_pandas())
    return {"test_rows": split.test.num_rows, **_spread([measured])}


def ours(split: Split) -> dict[str, Any]:
    """Measure this project's model on its own rows, and the log loss of the base rate."""
    _, evaluation = evaluate(split, problem=sample_problem, resamples=200)
    metrics = evaluation.metrics[MODEL]
    return {
        "test_rows": split.test.num_rows,
        "visitors_on_both_sides": split.shared_visitors(),
        "roc_auc": f"{metrics['roc_auc']:.3f}",
        "log_loss": f"{metrics['log_loss']:.3f}",
        "log_loss_of_the_base_rate": f"{evaluation.metrics[PRIOR]['log_loss'].value:.3f}",
        "calibration_error": f"{metrics['calibration_error']:.3f}",
    }


def figures(path: Path, orders: int = ORDERS) -> dict[str, Any]:
    """Return all results, by name."""
    warehouse = DuckDBWarehouse.over_file(path)
    try:
        rows = published_rows(warehouse)
        table = extract(warehouse, sample_problem).table
    finally:
        warehouse.close()
    return {
        "published": recipe(rows, orders),
        "new visitors": by_visitor(rows),
        "new visitors, later": later(rows),
        "as served, new visitors": by_visitor(rows, served=INCLUSIVE),
        "learnt as served, new visitors": by_visitor(rows, INCLUSIVE, INCLUSIVE),
        "ours, random rows": ours(random_split(table)),
        "ours, honest": ours(honest_split(table)),
    }


def _spread(runs: list[tuple[float, ...]]) -> dict[str, Any]:
    """Return mean and, of several runs, range of each figure."""
    names = ("accuracy", "f1", "roc_auc", "log_loss")
    values = np.array(runs)
    means = {name: round(float(v), 3) for name, v in zip(names, values.mean(axis=0), strict=True)}
    if len(runs) == 1:
        return means
    low, high = (np.round(ends, 3).tolist() for ends in (values.min(axis=0), values.max(axis=0)))
    return {**means, "range": dict(zip(names, zip(low, high, strict=True), strict=True))}


def main() -> None:
    """Measure and save the results."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else sample_events(Settings.load().home)
    save("published_sample", figures(path))


if __name__ == "__main__":
    main()
