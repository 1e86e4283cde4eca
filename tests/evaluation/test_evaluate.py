from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prospect_lib.evaluation.evaluate import CEILING, LOGISTIC, MODEL, PRIOR, RULE, evaluate
from prospect_lib.model.splits import honest_split, random_split
from prospect_lib.model.training import Recipe
from tests.support.synthetic import FAST, training_table

QUICK = {"recipe": Recipe(FAST, rounds=40), "calibrate": False, "resamples": 50}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=1500)


@pytest.fixture(scope="module")
def found(table):
    return evaluate(honest_split(table), **QUICK)[1]


def replaced(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_the_order_of_the_models_is_as_it_must_be(found):
    loss = {name: interval["log_loss"].value for name, interval in found.metrics.items()}
    assert set(loss) == {MODEL, PRIOR, RULE, LOGISTIC, CEILING}
    assert loss[CEILING] < loss[MODEL] < loss[RULE] < loss[PRIOR]
    assert 0.7 < found.share_of_ceiling < 1


def test_the_prior_is_what_a_coin_would_do(found):
    assert found.metrics[PRIOR]["roc_auc"].value == 0.5
    assert found.metrics[PRIOR]["brier_skill"].value == pytest.approx(0, abs=0.02)


def test_the_summary_names_every_model_and_the_split(found):
    text = found.summary()
    assert "that the model has not seen" in text
    for name in found.metrics:
        assert f"\n{name} " in text
    assert "achievable log-loss gain" in text


def test_the_manifest_gets_the_figures(table):
    model, found = evaluate(honest_split(table), **QUICK)
    saved = model.manifest["metrics"]
    assert saved[MODEL]["roc_auc"]["value"] == found.auc
    assert saved["split"]["shared_visitors"] == 0


def test_a_shuffled_label_cannot_be_predicted(table):
    """Were there any way from the label into the features, this would find it."""
    label = np.random.default_rng(0).permutation(np.array(table["label"]))
    _, found = evaluate(honest_split(replaced(table, "label", pa.array(label))), **QUICK)
    interval = found.metrics[MODEL]["roc_auc"]
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.12


def test_a_feature_from_the_future_shows_as_a_score_too_good_to_be_true(table):
    """What the ceiling is for: no model that sees only the past can pass it."""
    leaky = replaced(table, "num_media_events_l30d", table["label"].cast(pa.int64()))
    _, found = evaluate(honest_split(leaky), **QUICK)
    assert found.share_of_ceiling > 1.5


def test_a_visitor_on_both_sides_flatters_the_model():
    """Visitors with habits of their own: random rows look better than they will be."""
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


def test_an_unobserved_horizon_stays_out_of_training(table):
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
    _, found = evaluate(honest_split(table.drop_columns(["p_true"])), **QUICK)
    assert found.share_of_ceiling is None
    assert CEILING not in found.metrics
