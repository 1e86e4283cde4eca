"""Models for the tests of the prediction server."""

import pytest

from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from tests.support.synthetic import training_table


def trained(rounds: int, seed: int = 0) -> ProspectModel:
    table = training_table(visitors=300, seed=seed)
    return ProspectModel.fit(table, recipe=Recipe(rounds=rounds), calibrate=False)


@pytest.fixture(scope="session")
def model() -> ProspectModel:
    return trained(rounds=20)


@pytest.fixture(scope="session")
def challenger() -> ProspectModel:
    return trained(rounds=10, seed=1)
