"""The search for training parameters."""

import pytest

from prospect_lib.features import FEATURES
from prospect_lib.model.search import search
from prospect_lib.model.training import Recipe
from tests.support.synthetic import training_table


@pytest.fixture(scope="module")
def table():
    return training_table(visitors=500, views=5)


def test_a_bad_start_is_improved_and_the_result_is_reproducible(table):
    bad = Recipe(params={"max_depth": 10, "eta": 0.3, "min_child_weight": 0, "scale_pos_weight": 9})
    best, log = search(table, FEATURES, recipe=bad, tries=4, progress=False)
    assert len(log) == 4
    losses = [entry["log_loss"] for entry in log]
    assert best.params != bad.params
    assert losses[0] - min(losses) > 0.05
    again = search(table, FEATURES, recipe=bad, tries=4, progress=False)
    assert again == (best, log)


def test_the_search_stops_in_time_but_always_tries_the_start(table):
    best, log = search(table, FEATURES, tries=50, seconds=0.0, progress=False)
    assert len(log) == 1
    assert best.params == Recipe().params
    assert best.rounds == log[0]["rounds"]


def test_class_weights_that_hurt_log_loss_are_not_chosen(table):
    best, log = search(table, FEATURES, tries=4, progress=False)
    weighted = [entry["log_loss"] for entry in log if entry.get("scale_pos_weight", 1) > 1]
    assert weighted
    assert min(weighted) > min(entry["log_loss"] for entry in log)
    assert best.params.get("scale_pos_weight", 1) == 1
