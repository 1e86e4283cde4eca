"""How close the model comes to the true probability, on simulated visitors.

The simulator knows every visitor's hidden intent and the page being read, and so the true
probability of a form: no model can beat its log loss. The share is that of the log-loss
gain from the base rate to the true probability. Two questions:

* the demo's 8,000 visitors, three seeds: the model and its baselines, with the interval
  over visitors, and what the recipe's step size does;
* a larger world, always the same test visitors: what more training visitors bring, and
  where that levels off. Attributes hide intent and page, so it levels off below 100%.

Usage: ``python benchmarks/ceiling.py`` (two minutes). Figures go to
``benchmarks/results/ceiling.json``.
"""

import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from prospect_lib.evaluation.evaluate import (
    CEILING,
    LOGISTIC,
    MODEL,
    PRIOR,
    RULE,
    Evaluation,
    evaluate,
)
from prospect_lib.evaluation.metrics import Interval, gain_share, visitor_draws
from prospect_lib.model.splits import Split, honest_split, visitor_fractions
from prospect_lib.model.training import Recipe
from prospect_lib.sandbox.simulation import history
from prospect_lib.training_set import SITE_ANCHORS
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

SEEDS, DEMO, LARGE, DAYS = (0, 1, 2), 8_000, 40_000, 60
END = datetime(2026, 3, 1, tzinfo=UTC)
PARTS = (0.1, 0.2, 0.5, 1.0)
RESULTS = Path(__file__).parent / "results" / "ceiling.json"


def world(visitors: int, seed: int) -> Split:
    """The demo's training set for this many visitors, split honestly."""
    with tempfile.TemporaryDirectory() as name:
        history.write(Path(name), visitors=visitors, days=DAYS, end=END, seed=seed)
        warehouse = DuckDBWarehouse.over_home(Path(name))
        rows = extract(warehouse, anchors=SITE_ANCHORS, truth=Path(name) / "truth")
        warehouse.close()
    return honest_split(rows.table)


def shares(found: Evaluation, split: Split) -> dict[str, str]:
    """Share of the achievable gain of the model and its baselines, with 95% intervals."""
    draws = visitor_draws(split.test["domain_userid"], resamples=200)
    weights = [times * split.test_weight for times in draws]
    return {
        name: f"{Interval.of(share(found, name), [share(found, name, w) for w in weights]):.2f}"
        for name in (MODEL, LOGISTIC, RULE)
    }


def share(found: Evaluation, name: str, weight: np.ndarray | None = None) -> float:
    """One of them, under these weights or the rows' own."""
    return gain_share(*(found.rows[who].metrics(weight) for who in (PRIOR, name, CEILING)))


def one_seed(seed: int) -> dict[str, object]:
    """The demo's world of one seed, with the default recipe and with larger steps."""
    split = world(DEMO, seed)
    start = time.perf_counter()
    model, found = evaluate(split, resamples=2)
    seconds = time.perf_counter() - start
    faster = Recipe({**Recipe().params, "eta": 0.05})
    _, larger_steps = evaluate(split, resamples=2, recipe=faster)
    return {
        "train_rows": split.train.num_rows,
        "train_visitors": found.about["train_visitors"],
        "test_visitors": found.about["test_visitors"],
        "trees": model.manifest["recipe"]["rounds"],
        "roc_auc": round(found.auc, 4),
        "roc_auc_of_the_truth": round(found.metrics[CEILING]["roc_auc"].value, 4),
        "share": shares(found, split),
        "share_with_eta_0.05": round(share(larger_steps, MODEL), 3),
        "seconds_to_train_and_judge": round(seconds, 1),
    }


def learning_curve() -> list[dict[str, object]]:
    """More and more training visitors, one test."""
    whole = world(LARGE, seed=7)
    drawn = visitor_fractions(whole.train["domain_userid"], "learning curve")
    steps = []
    for part in PARTS:
        split = replace(whole, train=whole.train.filter(pa.array(drawn < part)))
        _, found = evaluate(split, resamples=2)
        steps.append(
            {
                "train_visitors": found.about["train_visitors"],
                "train_rows": split.train.num_rows,
                "test_visitors": found.about["test_visitors"],
                "share": {name: round(share(found, name), 3) for name in (MODEL, LOGISTIC, RULE)},
            }
        )
        print(steps[-1], flush=True)
    return steps


def main() -> None:
    """Measure and keep the figures."""
    seeds = {}
    for seed in SEEDS:
        seeds[str(seed)] = one_seed(seed)
        print(seed, seeds[str(seed)], flush=True)
    kept = {"seeds": seeds, "more_visitors": learning_curve()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
