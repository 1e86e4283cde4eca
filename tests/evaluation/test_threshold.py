"""The threshold from costs or from a capacity."""

from dataclasses import replace

import numpy as np
import pytest

from prospect_lib.errors import DataError
from prospect_lib.evaluation.evaluate import MODEL, evaluate
from prospect_lib.evaluation.threshold import FOLDS, choose_threshold, evaluate_threshold, gains
from prospect_lib.model.splits import honest_split, visitor_folds
from prospect_lib.model.training import Recipe
from tests.support.synthetic import training_table


@pytest.fixture(scope="module")
def evaluation():
    split = honest_split(training_table(visitors=2500))
    return evaluate(split, recipe=Recipe(rounds=60), calibrate=False, resamples=10)[1]


def test_costs_put_the_threshold_where_a_calibrated_score_pays(evaluation):
    chosen = choose_threshold(evaluation, value=9, cost=1)
    assert chosen.score == pytest.approx(0.1)
    thresholds, gain = gains(evaluation.rows[MODEL], 9, 1)
    at = gain[np.searchsorted(-thresholds, -chosen.score, side="right") - 1]
    assert at > 0.95 * gain.max()  # the formula is nearly the best of all thresholds here
    assert "value 9" in chosen.reason


def test_a_higher_cost_means_fewer_and_more_precise_actions(evaluation):
    bold, careful = (choose_threshold(evaluation, value=10, cost=cost) for cost in (1, 10))
    assert careful.score > bold.score
    assert careful.share < bold.share
    assert careful.precision > bold.precision
    assert careful.recall < bold.recall


@pytest.mark.parametrize("capacity", [1, 5, 20])
def test_a_capacity_is_used_but_not_exceeded(evaluation, capacity):
    score = choose_threshold(evaluation, capacity=capacity).score
    assert 0.6 * capacity < evaluate_threshold(evaluation, score, "").per_day <= capacity


def test_the_visitors_that_choose_a_threshold_do_not_report_it(evaluation):
    """One tenth's scores are raised above all others: no tenth is acted on as it would choose."""
    rows, tenth = evaluation.rows[MODEL], visitor_folds(evaluation.visitors, FOLDS) == 0
    raised = replace(rows, score=np.where(tenth, 0.5 + rows.score / 2, rows.score / 2))
    chosen = choose_threshold(replace(evaluation, rows={MODEL: raised}), capacity=3)
    everyone = evaluate_threshold(evaluation, 0.5, "", applied=np.where(tenth, 0.0, 1.0))
    assert chosen.per_day == pytest.approx(everyone.per_day)
    assert everyone.per_day > 6
    assert chosen.score > 0.5


def test_the_figures_of_a_capacity_are_about_right_for_other_visitors(evaluation):
    chosen = choose_threshold(evaluation, capacity=20)
    assert chosen.per_day == pytest.approx(20, rel=0.2)
    assert chosen.precision == pytest.approx(
        evaluate_threshold(evaluation, chosen.score, "").precision, abs=0.05
    )


def test_a_capacity_beyond_everyone_acts_on_everyone(evaluation):
    chosen = choose_threshold(evaluation, capacity=10**6)
    everybody = evaluate_threshold(evaluation, 0.0, "").per_day
    # each tenth of the visitors acts on what the others chose, whose lowest score may be higher
    assert chosen.per_day == pytest.approx(everybody, rel=0.01)
    assert chosen.recall > 0.99  # a visitor needs only one action per day


def test_a_capacity_too_small_for_anyone_acts_on_nobody(evaluation):
    assert choose_threshold(evaluation, capacity=1e-9).per_day == 0


def test_the_expected_precision_is_a_weighted_mean_of_the_test_rows(evaluation):
    rows = evaluation.rows[MODEL]
    acted = rows.score >= 0.2
    expected = np.average(rows.label[acted], weights=rows.weight[acted])
    assert evaluate_threshold(evaluation, 0.2, "").precision == pytest.approx(expected)


@pytest.mark.parametrize(
    "figures",
    [
        {"value": 0.0},
        {"cost": -1.0},
        {"capacity": float("nan")},
        {"capacity": 3.0, "cost": 1.0},
        {"value": "20"},
    ],
)
def test_invalid_figures_are_refused(evaluation, figures):
    with pytest.raises(DataError, match=r"expected a number above 0|not both"):
        choose_threshold(evaluation, **figures)
