"""Calibration curves."""

import numpy as np
import pytest

from prospect_lib.errors import ModelError
from prospect_lib.evaluation.metrics import score_rows
from prospect_lib.model.calibration import Calibration, logit, sigmoid

RNG = np.random.default_rng(3)
TRUE = RNG.beta(1, 9, 20_000)
LABEL = (RNG.random(20_000) < TRUE).astype(float)
BOLD = sigmoid(2.0 * logit(TRUE) + 1.0)  # ranks well, but exaggerates
ONES = np.ones(20_000)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_corrects_an_exaggerating_score_and_keeps_the_order(method):
    curve = Calibration.fit(method, BOLD, LABEL, ONES)
    tuned = curve.apply(BOLD)
    before, after = (score_rows(LABEL, s).metrics() for s in (BOLD, tuned))
    assert before["calibration_error"] > 0.04 > 0.01 > after["calibration_error"]
    assert np.all(np.diff(tuned[np.argsort(BOLD)]) >= 0)
    assert Calibration.from_json(curve.to_json()) == curve


def test_identity_changes_nothing():
    np.testing.assert_array_equal(Calibration().apply(BOLD), BOLD)


def test_a_curve_that_would_reverse_the_ranking_is_not_chosen():
    assert Calibration.fit("sigmoid", 1 - BOLD, LABEL, ONES) == Calibration()


def test_an_isotonic_curve_never_predicts_0_or_1():
    curve = Calibration.fit("isotonic", np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.ones(2))
    assert 0 < curve.apply(np.array([0.0]))[0] < curve.apply(np.array([1.0]))[0] < 1


@pytest.mark.parametrize(
    "saved",
    [
        {"method": "magic", "x": [], "y": []},
        {"method": "sigmoid", "x": [], "y": []},
        {"method": "isotonic", "x": [0.1, 0.2], "y": [0.5, 0.4]},
    ],
)
def test_a_damaged_curve_is_refused(saved):
    with pytest.raises(ModelError, match="calibration"):
        Calibration.from_json(saved)
