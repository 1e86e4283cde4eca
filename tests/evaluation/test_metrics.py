"""Metrics and their intervals over visitors."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as sk

from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, gain_share, score_rows, visitor_draws
from prospect_lib.model.calibration import logit, sigmoid


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(4, 200), st.booleans())
def test_metrics_agree_with_scikit_learn(seed, rows, ties):
    rng = np.random.default_rng(seed)
    label = np.append([0.0, 1.0], rng.integers(0, 2, rows - 2))
    score = rng.integers(1, 6, rows) / 7 if ties else rng.uniform(0.01, 0.99, rows)
    weight = rng.integers(1, 4, rows) * rng.random(rows)
    metrics = score_rows(label, score, weight).metrics()
    expected = {
        "roc_auc": sk.roc_auc_score(label, score, sample_weight=weight),
        "pr_auc": sk.average_precision_score(label, score, sample_weight=weight),
        "log_loss": sk.log_loss(label, score, sample_weight=weight),
        "brier": sk.brier_score_loss(label, score, sample_weight=weight),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_weight_zero_is_the_same_as_absent():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 100).astype(float), rng.random(100)
    weight = (np.arange(100) % 3 > 0).astype(float)
    kept = weight > 0
    assert score_rows(label, score, weight).metrics() == pytest.approx(
        score_rows(label[kept], score[kept]).metrics()
    )


def test_metrics_of_a_perfect_model_and_of_the_base_rate():
    label = np.repeat([0.0, 1.0], [90, 10])
    perfect = score_rows(label, label * 0.98 + 0.01).metrics()
    assert (perfect["roc_auc"], perfect["pr_auc"]) == (1.0, 1.0)
    assert perfect["lift_top_10"] == pytest.approx(10)
    base = score_rows(label, np.full(100, 0.1)).metrics()
    assert (base["roc_auc"], base["lift_top_10"]) == (0.5, pytest.approx(1.0))
    assert (base["pr_auc"], base["brier_skill"]) == (pytest.approx(0.1), pytest.approx(0))


def test_reliability_bins_hold_equal_weight_and_the_true_rates():
    rng = np.random.default_rng(1)
    score = rng.random(20_000)
    bins = score_rows((rng.random(20_000) < score).astype(float), score).reliability()
    assert [b["weight"] for b in bins] == pytest.approx([2000] * 10, abs=2)
    assert all(abs(b["rate"] - b["score"]) < 0.04 for b in bins)


def test_intervals_are_wider_if_the_rows_come_from_fewer_visitors():
    """One visitor's rows repeat each other, which a bootstrap of rows would miss."""
    rng = np.random.default_rng(2)
    label, score = np.repeat(rng.integers(0, 2, 60), 20).astype(float), rng.random(1200)
    rows = score_rows(label, score)
    by_visitor = visitor_draws(pa.chunked_array([np.repeat(np.arange(60), 20)])).intervals(rows)
    by_row = visitor_draws(pa.chunked_array([np.arange(1200)])).intervals(rows)
    width = [i["log_loss"].high - i["log_loss"].low for i in (by_visitor, by_row)]
    assert width[0] > 0
    rate = [i["brier_skill"].high - i["brier_skill"].low for i in (by_visitor, by_row)]
    assert rate[0] > 1.5 * rate[1]


def test_95_percent_intervals_hold_the_true_value_about_95_times_in_100():
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        label = (rng.random(300) < 0.3).astype(float)
        rows = score_rows(label, np.full(300, 0.2))
        metrics = visitor_draws(pa.chunked_array([np.arange(300)]), resamples=100).intervals(rows)
        inside += metrics["brier"].low <= 0.3 * 0.64 + 0.7 * 0.04 <= metrics["brier"].high
    assert 86 <= inside <= 100


def test_the_difference_of_a_model_with_itself_is_zero():
    rng = np.random.default_rng(0)
    rows = score_rows(rng.integers(0, 2, 50).astype(float), rng.random(50))
    draws = visitor_draws(pa.chunked_array([np.arange(50)]))
    assert draws.difference("log_loss", rows, rows) == Interval(0, 0, 0)


def equal_pair(rng, visitors=60):
    """Return rows that two models score equally well: each visitor's scores are swapped at random.

    A third of the visitors count more, as held-out ones do, and few reach the goal.
    """
    visitor = np.repeat(np.arange(visitors), rng.geometric(0.15, visitors))
    margin = rng.normal(-3, 1.3, visitors)[visitor]
    label = (rng.random(len(visitor)) < sigmoid(margin)).astype(float)
    label[:2] = 0, 1
    scores = sigmoid(margin + rng.normal(0, 0.3, (2, visitors))[:, visitor])
    weight = np.where(rng.random(visitors) < 0.3, 1 / 0.3, 1.0)[visitor]
    pair = tuple(score_rows(label, score, weight) for score in scores)
    return (*pair, visitor_draws(pa.chunked_array([visitor])))


def test_equal_models_seem_better_no_more_often_than_nominally():
    """Of 1,000 equal pairs 25 are expected beyond each end; a percentile bootstrap had 53."""
    rng = np.random.default_rng(0)
    better = worse = 0
    for _ in range(1000):
        one, other, draws = equal_pair(rng)
        interval = draws.difference("log_loss", one, other)
        better, worse = better + (interval.high < 0), worse + (interval.low > 0)
    assert max(better, worse) <= binom.ppf(0.999, 1000, 0.025)
    assert min(better, worse) >= 5  # not so careful that nothing is ever found


def test_a_better_model_is_found():
    one, other, draws = equal_pair(np.random.default_rng(1), visitors=2000)
    spoilt = replace(other, score=sigmoid(logit(other.score) * 0.7))
    interval = draws.difference("log_loss", one, spoilt)
    assert interval.high < 0
    expected = one.metrics()["log_loss"] - spoilt.metrics()["log_loss"]
    assert interval.value == pytest.approx(expected)


def test_rows_without_weight_do_not_count_as_visitors():
    one, other, draws = equal_pair(np.random.default_rng(2))
    doubled = visitor_draws(pa.chunked_array([np.concatenate([draws.codes, draws.codes + 60])]))
    more = [
        score_rows(*(np.tile(values, 2) for values in (rows.label, rows.score)),
                   np.concatenate([rows.weight, 0 * rows.weight]))
        for rows in (one, other)
    ]  # fmt: skip
    expected = draws.difference("log_loss", one, other)
    assert doubled.difference("log_loss", *more) == expected


def test_the_share_of_the_possible_gain():
    prior, model, best = ({"log_loss": x} for x in (0.5, 0.3, 0.25))
    assert gain_share(prior, model, best) == pytest.approx(0.8)


def test_rows_with_one_outcome_cannot_be_evaluated():
    with pytest.raises(DataError, match="1 kinds of outcome"):
        score_rows(np.zeros(5), np.zeros(5))
