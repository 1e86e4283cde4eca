"""How often the weekly job promotes a challenger that is no better, and one that is.

Two models score the test rows of simulated visitors of the demo website. A pair draws these
visitors with replacement, and swaps the two models' scores of each visitor at random: neither
side of the pair is better, and one in forty may be promoted. Pairs with another seed differ
little, pairs with deeper trees differ much. Without the swap, the pairs in which the challenger
is promoted tell what the test finds: a champion of half as many trees.

Usage: ``python benchmarks/promotion.py`` (a minute); writes ``benchmarks/results/promotion.json``.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import save

from prospect_lib.evaluation.metrics import ScoredRows, score_rows, visitor_draws
from prospect_lib.jobs.retrain import EXIT_PROMOTED, EXIT_WORSE, promotion_decision
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import labels
from prospect_lib.model.splits import Split, honest_split
from prospect_lib.model.training import Recipe
from prospect_lib.sandbox.simulation import history
from prospect_lib.training_set import SITE_ANCHORS
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

PAIRS, VISITORS, DAYS = 800, 8_000, 60
END = datetime(2026, 3, 1, tzinfo=UTC)
ROUNDS = 200
DEEP = Recipe({**Recipe().params, "max_depth": 7, "min_child_weight": 1}, rounds=ROUNDS)


def world() -> Split:
    """Build the demo's training set and split it honestly."""
    with tempfile.TemporaryDirectory() as name:
        history.write(Path(name), visitors=VISITORS, days=DAYS, end=END, seed=0)
        warehouse = DuckDBWarehouse.over_home(Path(name))
        rows = extract(warehouse, anchors=SITE_ANCHORS)
        warehouse.close()
    return honest_split(rows.table)


def decisions(split: Split, champion: Any, challenger: Any, *, swap: bool) -> dict[str, int]:
    """Count what the test says of the pairs.

    Args:
        split: its test rows are drawn from.
        champion: probability of each test row, shape (rows,).
        challenger: the same of the other model.
        swap: exchange the two at random, by visitor, so that neither is better.
    """
    rng = np.random.default_rng(0)
    visitor = split.test.column(0).combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(visitor, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(visitor[order])) + 1)
    label, scores = labels(split.test), np.stack([champion, challenger])
    counts = {"pairs": PAIRS, "promoted": 0, "worse": 0}
    for _ in range(PAIRS):
        drawn = [rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))]
        codes = np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])
        rows = np.concatenate(drawn)
        other = (
            (rng.random(len(drawn)) < 0.5)[codes].astype(int) if swap else np.zeros(len(rows), int)
        )
        old, new = (
            score_rows(label[rows], scores[side, rows], split.test_weight[rows])
            for side in (other, 1 - other)
        )
        code = decision(codes, old, new)
        counts["promoted"] += code == EXIT_PROMOTED
        counts["worse"] += code == EXIT_WORSE
    return counts


def decision(codes: Any, champion: ScoredRows, challenger: ScoredRows) -> int:
    """Return the exit code of the comparison, as the job decides it."""
    draws = visitor_draws(pa.chunked_array([codes]))
    return promotion_decision(draws.difference("log_loss", challenger, champion))[0]


def main() -> None:
    """Measure and save the results."""
    split = world()
    recipes = {
        "usual": Recipe(rounds=ROUNDS),
        "another seed": Recipe(rounds=ROUNDS, seed=1),
        "deeper trees": DEEP,
        "half the trees": Recipe(rounds=ROUNDS // 2),
    }
    scores = {
        name: ProspectModel.fit(split.train, recipe=recipe, calibrate=False).predict(split.test)
        for name, recipe in recipes.items()
    }
    results: dict[str, Any] = {
        f"equal, {name}": decisions(split, scores["usual"], scores[name], swap=True)
        for name in ("another seed", "deeper trees")
    }
    poor = "half the trees"
    results[f"better than {poor}"] = decisions(split, scores[poor], scores["usual"], swap=False)
    results["expected of equal pairs"] = PAIRS * 0.025
    save("promotion", results)


if __name__ == "__main__":
    main()
