"""Share of the achievable log-loss gain that the model reaches, on simulated visitors.

The simulator knows each visitor's hidden intent and current page, and therefore the true
probability of a form. No model can have a lower log loss. The share is that of the log-loss
gain from the base rate to the true probability. Two questions:

* the demo's 8,000 visitors, three seeds: the model and its baselines, with the interval
  over visitors, and the effect of the recipe's step size;
* a larger world with the same test visitors each time: the effect of more training visitors,
  and where it levels off. Attributes do not show intent and page, so that is below 100%.

Usage: ``python benchmarks/ceiling.py`` (two minutes). Results go to
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

from prospect_lib.evaluation.baselines import CEILING, LOGISTIC, PRIOR, RULE
from prospect_lib.evaluation.evaluate import MODEL, Evaluation, evaluate
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
    """Build the demo's training set for this many visitors and split it honestly."""
    with tempfile.TemporaryDirectory() as name:
        history.write(Path(name), visitors=visitors, days=DAYS, end=END, seed=seed)
        warehouse = DuckDBWarehouse.over_home(Path(name))
        rows = extract(warehouse, anchors=SITE_ANCHORS, truth=Path(name) / "truth")
        warehouse.close()
    return honest_split(rows.table)


def shares(evaluation: Evaluation, split: Split) -> dict[str, str]:
    """Return the shares of the model and its baselines, with 95% intervals."""
    draws = visitor_draws(split.test["domain_userid"], resamples=200)
    weights = [times * split.test_weight for times in draws]
    return {name: f"{_interval(evaluation, name, weights):.2f}" for name in (MODEL, LOGISTIC, RULE)}


def _interval(evaluation: Evaluation, name: str, weights: list[np.ndarray]) -> Interval:
    draws = [share(evaluation, name, weight) for weight in weights]
    return Interval.of(share(evaluation, name), draws)


def share(evaluation: Evaluation, name: str, weight: np.ndarray | None = None) -> float:
    """Return the share of one model, under these weights or the rows' own."""
    names = (PRIOR, name, CEILING)
    return gain_share(*(evaluation.rows[each].metrics(weight) for each in names))


def one_seed(seed: int) -> dict[str, object]:
    """Measure the demo's world of one seed, with the default recipe and with larger steps."""
    split = world(DEMO, seed)
    start = time.perf_counter()
    model, evaluation = evaluate(split, resamples=2)
    seconds = time.perf_counter() - start
    faster = Recipe({**Recipe().params, "eta": 0.05})
    _, larger_steps = evaluate(split, resamples=2, recipe=faster)
    return {
        "train_rows": split.train.num_rows,
        "train_visitors": evaluation.about["train_visitors"],
        "test_visitors": evaluation.about["test_visitors"],
        "trees": model.manifest["recipe"]["rounds"],
        "roc_auc": round(evaluation.auc, 4),
        "roc_auc_of_the_truth": round(evaluation.metrics[CEILING]["roc_auc"].value, 4),
        "share": shares(evaluation, split),
        "share_with_eta_0.05": round(share(larger_steps, MODEL), 3),
        "seconds_to_train_and_judge": round(seconds, 1),
    }


def learning_curve() -> list[dict[str, object]]:
    """Measure with more and more training visitors, on the same test rows."""
    whole = world(LARGE, seed=7)
    drawn = visitor_fractions(whole.train["domain_userid"], "learning curve")
    steps = []
    for part in PARTS:
        split = replace(whole, train=whole.train.filter(pa.array(drawn < part)))
        _, evaluation = evaluate(split, resamples=2)
        steps.append(
            {
                "train_visitors": evaluation.about["train_visitors"],
                "train_rows": split.train.num_rows,
                "test_visitors": evaluation.about["test_visitors"],
                "share": {
                    name: round(share(evaluation, name), 3) for name in (MODEL, LOGISTIC, RULE)
                },
            }
        )
        print(steps[-1], flush=True)
    return steps


def main() -> None:
    """Measure and save the results."""
    seeds = {}
    for seed in SEEDS:
        seeds[str(seed)] = one_seed(seed)
        print(seed, seeds[str(seed)], flush=True)
    results = {"seeds": seeds, "more_visitors": learning_curve()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
