"""Share of the best observable log-loss gain that a model reaches, on simulated visitors.

The *best observable* score is the exact filter over everything that the simulator's visitors
show (:mod:`prospect_lib.sandbox.simulation.best_observable`): no model can expect a lower log loss.
A share is that of the log-loss gain from the base rate to it. Two questions:

* the demo's 8,000 visitors, three seeds: the model on 23 attributes and on the tutorial's 19,
  logistic regression, and page pings alone, judged on the later rows of visitors held out and on
  all rows of ``FRESH`` other visitors, where chance matters less; and the model under a random
  split, which recognises visitors;
* ten times as many visitors, on the same fresh ones.

Usage: ``python benchmarks/ceiling.py`` (about five minutes on two cores). Results go to
``benchmarks/results/ceiling.json``.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from figures import save

from prospect_lib.evaluation.baselines import CEILING, LOGISTIC, PRIOR
from prospect_lib.evaluation.evaluate import MODEL, Evaluation, evaluate, evaluate_model
from prospect_lib.evaluation.metrics import Interval, gain_share, visitor_draws
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import Split, honest_split, random_split
from prospect_lib.problem import ScoringProblem, prospect_problem, tutorial_problem
from prospect_lib.sandbox.simulation import history
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

SEEDS, DEMO, LARGE, FRESH, DAYS = (0, 1, 2), 8_000, 80_000, 32_000, 60
END = datetime(2026, 3, 1, tzinfo=UTC)
PINGS = [f for f in tutorial_problem.features if f.name == "num_page_pings_l7d"]


def world(visitors: int, seed: int) -> pa.Table:
    """Return the training set of this many simulated visitors; it has the tutorial's features."""
    with tempfile.TemporaryDirectory() as name:
        history.write(Path(name), visitors=visitors, days=DAYS, end=END, seed=seed)
        warehouse = DuckDBWarehouse.over_home(Path(name))
        rows = extract(warehouse, prospect_problem, truth=Path(name) / "truth")
        warehouse.close()
    return rows.table


def share(evaluation: Evaluation, name: str, weight: np.ndarray | None = None) -> float:
    """Return the share of one model, under these weights or the rows' own."""
    names = (PRIOR, name, CEILING)
    return gain_share(*(evaluation.rows[each].metrics(weight) for each in names))


def with_interval(evaluation: Evaluation, split: Split) -> str:
    """Return the model's share with its 95% interval over visitors."""
    draws = visitor_draws(split.test["domain_userid"], resamples=200)
    values = [share(evaluation, MODEL, times * split.test_weight) for times in draws]
    return f"{Interval.of(share(evaluation, MODEL), values):.2f}"


def on_fresh(
    train: pa.Table, fresh: pa.Table, problem: ScoringProblem, *, calibrate: bool = True
) -> dict[str, object]:
    """Train on some rows, and judge on all rows of visitors of another world."""
    split = Split("fresh", train, fresh, np.ones(fresh.num_rows))
    model = ProspectModel.fit(train, problem=problem, calibrate=calibrate)
    evaluation = evaluate_model(model, split, resamples=2)
    pings = {"problem": problem, "features": PINGS, "calibrate": False}
    _, alone = evaluate(split, resamples=2, **pings)
    return {
        "train_visitors": evaluation.about["train_visitors"],
        "attributes": len(problem.group.attributes),
        "trees": model.manifest["recipe"]["rounds"],
        "share": {
            "model": round(share(evaluation, MODEL), 3),
            LOGISTIC: round(share(evaluation, LOGISTIC), 3),
            "page pings alone": round(share(alone, MODEL), 3),
        },
        "roc_auc": {
            "model": round(evaluation.auc, 3),
            "page pings alone": round(alone.auc, 3),
            CEILING: round(evaluation.metrics[CEILING]["roc_auc"].value, 3),
        },
    }


def one_seed(seed: int, fresh: pa.Table) -> dict[str, object]:
    """Measure the demo's world of one seed."""
    table = world(DEMO, seed)
    honest = honest_split(table)
    _, evaluation = evaluate(honest, problem=prospect_problem, resamples=2)
    _, flattering = evaluate(random_split(table), problem=prospect_problem, resamples=2)
    problems = (prospect_problem, tutorial_problem)
    return {
        "held_out_visitors": {
            "share": with_interval(evaluation, honest),
            "roc_auc": round(evaluation.auc, 3),
        },
        "random_split": {
            "share": round(share(flattering, MODEL), 3),
            "roc_auc": round(flattering.auc, 3),
        },
        "fresh_visitors": [on_fresh(honest.train, fresh, problem) for problem in problems],
        "all_rows_fresh_visitors": on_fresh(table, fresh, prospect_problem),
    }


def main() -> None:
    """Measure and save the results."""
    fresh = world(FRESH, seed=1000)
    seeds = {}
    for seed in SEEDS:
        seeds[str(seed)] = one_seed(seed, fresh)
        print(seed, json.dumps(seeds[str(seed)]), flush=True)
    large = on_fresh(world(LARGE, seed=7), fresh, prospect_problem, calibrate=False)
    print(json.dumps(large), flush=True)
    results = {"fresh_visitors": FRESH, "seeds": seeds, "large": large}
    save("ceiling", results)


if __name__ == "__main__":
    main()
