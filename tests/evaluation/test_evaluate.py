"""The evaluation of a model and its baselines."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from snowplow_signals import user_id

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.evaluation.baselines import CEILING, LOGISTIC, PRIOR, RULE
from prospect_lib.evaluation.comparison import compare
from prospect_lib.evaluation.evaluate import (
    LONGEST_GAP,
    MODEL,
    evaluate,
    evaluate_forward,
    evaluate_model,
)
from prospect_lib.evaluation.threshold import choose_threshold
from prospect_lib.model.splits import honest_split, random_split
from prospect_lib.model.training import Recipe
from prospect_lib.problem import prospect_problem
from tests.support.synthetic import FAST, START, training_table

DAY = timedelta(days=1)
SLOW = prospect_problem.with_anchors(Anchors(horizon=DAY))
QUICK = {"recipe": Recipe(FAST, rounds=40), "calibrate": False, "resamples": 50}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=1500)


@pytest.fixture(scope="module")
def evaluation(table):
    return evaluate(honest_split(table), **QUICK)[1]


def replaced(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_true_probability_model_rule_and_prior_rank_in_this_order(evaluation):
    loss = {name: interval["log_loss"].value for name, interval in evaluation.metrics.items()}
    assert set(loss) == {MODEL, PRIOR, RULE, LOGISTIC, CEILING}
    assert loss[CEILING] < loss[MODEL] < loss[RULE] < loss[PRIOR]
    assert 0.7 < evaluation.share_of_ceiling < 1


def test_the_prior_ranks_no_better_than_chance(evaluation):
    assert evaluation.metrics[PRIOR]["roc_auc"].value == 0.5
    assert evaluation.metrics[PRIOR]["brier_skill"].value == pytest.approx(0, abs=0.02)


def test_the_summary_names_every_model_and_the_split(evaluation):
    text = evaluation.summary()
    assert "that the model has not seen" in text
    for name in evaluation.metrics:
        assert f"\n{name} " in text
    assert "best observable log-loss gain" in text


def test_the_summary_tells_what_happened_from_what_is_weighted(table, evaluation):
    test = honest_split(table).test
    happened = f"({pc.mean(test['label'].cast('int8')).as_py():.1%} positive;"
    weighted = f"Weighted, {evaluation.about['test_positive_rate']:.1%} are positive."
    assert happened[1:5] != weighted[10:14]
    assert happened in evaluation.summary() and weighted in evaluation.summary()
    assert "Weighted" not in evaluate(random_split(table), **QUICK)[1].summary()


def test_the_manifest_gets_the_figures(table):
    model, evaluation = evaluate(honest_split(table), **QUICK)
    saved = model.manifest["metrics"]
    assert saved[MODEL]["roc_auc"]["value"] == evaluation.auc
    assert saved["split"]["shared_visitors"] == 0


def test_a_shuffled_label_cannot_be_predicted(table):
    """A leak from the label into the features would show here."""
    label = np.random.default_rng(0).permutation(np.array(table["label"]))
    _, evaluation = evaluate(honest_split(replaced(table, "label", pa.array(label))), **QUICK)
    interval = evaluation.metrics[MODEL]["roc_auc"]
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.12


def test_a_feature_from_the_future_beats_the_true_probability(table):
    """The ceiling detects leaks: no model that only sees the past can exceed it."""
    leaky = replaced(table, "num_media_events_l30d", table["label"].cast(pa.int64()))
    _, evaluation = evaluate(honest_split(leaky), **QUICK)
    assert evaluation.share_of_ceiling > 1.5


def test_a_visitor_on_both_sides_flatters_the_model():
    """Visitors have habits, so a random split promises more than new visitors deliver."""
    table = training_table(visitors=300, views=20, signal=0.0, base=-1.0)
    visitor = table["domain_userid"].combine_chunks().dictionary_encode().indices.to_numpy()
    rng = np.random.default_rng(1)
    habit = rng.random(300) < 0.3
    label = rng.random(table.num_rows) < np.where(habit[visitor], 0.7, 0.1)
    known = replaced(table, "label", pa.array(label))
    known = replaced(known, "num_page_pings_l30d", pa.array(visitor.astype(np.int64)))
    deep = {**QUICK, "recipe": Recipe(params={"max_depth": 10, "eta": 0.3}, rounds=60)}
    random_rows = evaluate(random_split(known), **deep)[1]
    honest = evaluate(honest_split(known), **deep)[1]
    assert random_rows.about["shared_visitors"] > 250
    assert "also in training" in random_rows.summary()
    assert random_rows.auc > 0.66 > 0.58 > honest.auc


def test_rows_with_an_unobserved_horizon_are_in_neither_side(table):
    """Rows whose outcome was open at the cut are in neither side."""
    horizon = timedelta(days=2)
    split = honest_split(table, horizon=horizon)
    times = pa.concat_tables([split.train, split.test])["anchor_ts"]
    gap = pc.and_(
        pc.greater_equal(times, pa.scalar(split.cut - horizon)),
        pc.less(times, pa.scalar(split.cut)),
    )
    assert not pc.any(gap).as_py()
    assert pc.any(pc.greater_equal(split.train["anchor_ts"], pa.scalar(split.cut - 2 * horizon)))


def test_a_sample_without_truth_has_no_ceiling(table):
    _, evaluation = evaluate(honest_split(table.drop_columns(["best_observable"])), **QUICK)
    assert evaluation.share_of_ceiling is None
    assert CEILING not in evaluation.metrics


def test_the_rule_is_about_the_first_number_that_never_lowers_the_score(evaluation):
    assert evaluation.about["rule"] == "num_pricing_views_l7d"
    assert (
        "The one rule: the share of goals in training, by num_pricing_views_l7d."
        in evaluation.summary()
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_without_such_a_number_the_rule_is_about_the_one_that_ranks_best(table, sign):
    noise = np.random.default_rng(3).normal(0, 0.5, table.num_rows)
    telling = pa.array(sign * (table["label"].to_numpy(zero_copy_only=False) + noise))
    rows = replaced(table, "num_sessions_l7d", telling)
    recipe = Recipe(FAST, rounds=5, never_lower=())
    _, evaluation = evaluate(honest_split(rows), **{**QUICK, "recipe": recipe})
    assert evaluation.about["rule"] == "num_sessions_l7d"
    assert evaluation.metrics[RULE]["roc_auc"].value > 0.8


def test_any_key_trains_and_is_evaluated(table):
    by_user = table.rename_columns({"domain_userid": "user_id"})
    group = prospect_group.model_copy(update={"attribute_key": user_id})
    problem = replace(prospect_problem, group=group)
    model, evaluation = evaluate(honest_split(by_user), problem=problem, **QUICK)
    expected, usual = evaluate(honest_split(table), **QUICK)
    assert model.manifest["key"] == "user_id"
    assert model.manifest["recipe"]["rounds"] == expected.manifest["recipe"]["rounds"]
    assert evaluation.about["test_visitors"] == usual.about["test_visitors"]
    with pytest.raises(DataError, match="key is user_id, but the problem scores one domain_userid"):
        evaluate(honest_split(by_user), **QUICK)


def test_one_late_row_does_not_lengthen_the_test_period(table):
    split = honest_split(table)
    times = split.test["anchor_ts"].to_pylist()
    last = times.index(max(times))
    times[last] += timedelta(days=2000)
    late = replace(split, test=replaced(split.test, "anchor_ts", pa.array(times)))
    usual, longer = (evaluate(s, **QUICK)[1].days for s in (split, late))
    assert usual == pytest.approx((START + 40 * DAY - split.cut) / DAY, 0.1)
    assert usual < longer < usual + LONGEST_GAP + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: evaluate(t), "split is a Table, expected a Split, such as honest_split"),
        (
            lambda t: evaluate_model(t, honest_split(t)),
            "model is a Table, expected a ProspectModel",
        ),
        (lambda t: honest_split(t.to_pylist()), "the training set is a list, expected an Arrow"),
        (lambda t: honest_split(t, cut="2026-03-01"), "cut is a str, expected a datetime"),
        (lambda t: compare(None, None, t), "champion is a NoneType, expected a ProspectModel"),
        (lambda _: choose_threshold((1, 2)), "evaluation is a tuple, expected the Evaluation"),
        (lambda t: evaluate(honest_split(t), problem=SLOW), "known after 1 day, 0:00:00: give hon"),
        (lambda t: evaluate(honest_split(t.slice(0, 90))), "too little for .* at least"),
    ],
)
def test_arguments_that_cannot_be_evaluated_are_refused_in_one_line(table, call, message):
    with pytest.raises(DataError, match=message) as refusal:
        call(table)
    assert "\n" not in str(refusal.value)


def test_the_forward_splits_have_the_gap_of_the_problem(table):
    steps = evaluate_forward(table, splits=2, problem=SLOW, **QUICK)
    assert [step.about["horizon_seconds"] for step in steps] == [86400, 86400]
