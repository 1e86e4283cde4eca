"""One row through XGBoost's C interface: the same numbers as by its public functions."""

import threading

import numpy as np
import pytest
import xgboost as xgb

from prospect_lib.errors import ModelError
from prospect_lib.model.one_row import OneRow
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from tests.support.synthetic import training_table


@pytest.fixture(scope="module")
def table():
    return training_table(visitors=200)


@pytest.fixture(scope="module")
def model(table) -> ProspectModel:
    return ProspectModel.fit(table, recipe=Recipe(rounds=15), calibrate=False)


@pytest.fixture(scope="module")
def rows(model, table):
    return model.encoder.matrix(table.slice(0, 200))


@pytest.mark.parametrize("private", [True, False], ids=["C interface", "public functions"])
def test_the_same_numbers_to_the_last_bit(model, table, rows, private, monkeypatch):
    if not private:
        monkeypatch.delattr(xgb.core, "_LIB")
    one = OneRow(model.booster, model.encoder.types)
    monkeypatch.undo()
    margins = [one.margin(row[None]) for row in rows]
    assert margins == model.margins(table)[:200].tolist()
    reasons = [one.contributions(row[None]) for row in rows]
    assert np.array_equal(reasons, model.contributions(table)[:200])


def test_threads_do_not_see_each_others_rows(model, rows):
    one = OneRow(model.booster, model.encoder.types)
    expected = [(one.margin(row[None]), one.contributions(row[None])) for row in rows]
    wrong: list[int] = []

    def ask(first: int) -> None:
        for i in range(first, 200, 4):
            found = (one.margin(rows[i][None]), one.contributions(rows[i][None]))
            if found != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_row_of_another_width_is_an_error(model, rows):
    one = OneRow(model.booster, model.encoder.types)
    with pytest.raises(ModelError, match="XGBoost cannot score the row"):
        one.margin(np.ascontiguousarray(rows[:1, :3]))
    with pytest.raises(ModelError, match="XGBoost cannot score the row"):
        one.contributions(np.ascontiguousarray(rows[:1, :3]))


def test_what_is_no_row_is_refused(model, rows):
    one = OneRow(model.booster, model.encoder.types)
    for wrong in (rows[0], rows[:1].astype(float), rows[:1, ::2]):
        with pytest.raises(ModelError, match="expected float32"):
            one.margin(wrong)
