"""Does acting help? Intervals and sample sizes, and an effect that was planted and is found."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prospect_lib import plots
from prospect_lib.errors import DataError
from prospect_lib.monitoring.effect import Arm, Effect, measure_effect, sessions_needed
from prospect_lib.monitoring.outcomes import measure_outcomes
from prospect_lib.teaching import experiment


def rows_of(*rows: tuple[str, str, bool, bool], share: float = 0.5) -> pd.DataFrame:
    """Outcomes of scores that chose their sessions: visitor, session, held out, goal."""
    frame = pd.DataFrame(rows, columns=["domain_userid", "served_session", "held_out", "label"])
    return frame.assign(act=~frame["held_out"], holdout_share=share)


def of(rows: pd.DataFrame) -> Effect:
    measured = measure_effect(rows, "domain_userid")
    assert measured is not None
    return measured


@pytest.mark.parametrize(
    ("acted", "held_out", "low", "high"),
    # Newcombe (1998), table II, method 10: examples (a), (b), (e) and (h)
    [
        (Arm(70, 56), Arm(80, 48), 0.0524, 0.3339),
        (Arm(10, 9), Arm(10, 3), 0.1705, 0.8090),
        (Arm(56, 5), Arm(29, 0), -0.0381, 0.1926),
        (Arm(10, 10), Arm(10, 0), 0.6075, 1.0),
    ],
)
def test_the_interval_is_that_of_the_published_examples(acted, held_out, low, high):
    interval = Effect(acted, held_out, 0.5).difference
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_a_session_counts_once_from_its_first_chosen_score():
    ignored = rows_of(("d", "s4", False, True)).assign(act=False)  # not chosen
    rows = pd.concat(
        [rows_of(("a", "s1", True, True), ("a", "s1", True, False), ("b", "s2", False, False),
                 ("b", "s3", False, True), ("b", "s3", False, False)), ignored]
    )  # fmt: skip
    effect = of(rows)
    assert (effect.held_out, effect.acted) == (Arm(1, 1), Arm(2, 1))
    assert "2 acted on (50.0% reached the goal), 1 held out (100.0%" in effect.summary()


def test_sessions_under_another_share_of_the_holdout_are_left_out():
    before = rows_of(("a", "s1", False, True), ("b", "s2", False, True), share=0.0)
    other = rows_of(("c", "s3", False, True), share=0.2)
    latest = rows_of(("d", "s4", False, False), ("e", "s5", True, True))
    effect = of(pd.concat([before, other, latest]))
    assert (effect.acted, effect.held_out, effect.share) == (Arm(1, 0), Arm(1, 1), 0.5)
    assert effect.other_shares == 1 and "1 with another share" in effect.summary()
    assert measure_effect(before, "domain_userid") is None, "there was no holdout"


def test_equal_sessions_of_one_visitor_count_as_one():
    rng = np.random.default_rng(0)
    goals = rng.random(400) < 0.3
    once = [(f"v{n}", f"s{n}", n % 2 == 0, bool(goal)) for n, goal in enumerate(goals)]
    five = [(who, f"{session}-{n}", *rest) for who, session, *rest in once for n in range(5)]
    single, repeated = of(rows_of(*once)), of(rows_of(*five))
    assert single.design_effect == pytest.approx(1, rel=0.01)
    assert repeated.design_effect == pytest.approx(5, rel=0.01)
    assert f"{repeated.difference:.3f}" == f"{single.difference:.3f}"
    assert repeated.sessions_needed() == pytest.approx(5 * single.sessions_needed(), rel=0.01)


@pytest.mark.parametrize(
    ("acted", "held_out", "verdict"),
    [
        (Arm(1000, 150), Arm(1000, 100), "acting helps, beyond noise."),
        (Arm(1000, 100), Arm(1000, 150), "acting harms, beyond noise."),
        (Arm(900, 100), Arm(100, 10), "An effect of 5 points shows in 3,993 chosen sessions"),
        (Arm(10, 0), Arm(10, 10), "acting harms"),
        (Arm(1, 0), Arm(1, 1), "not known yet."),
        (Arm(1, 0), Arm(0, 0), "no session that was held out has a known outcome"),
        (Arm(0, 0), Arm(5, 1), "no session that was acted on has a known outcome"),
    ],
)
def test_the_verdict_says_what_is_known_and_what_it_would_take(acted, held_out, verdict):
    assert verdict in Effect(acted, held_out, 0.1).summary()


@pytest.mark.parametrize("held_out", [Arm(100, 10), Arm(0, 0)])
def test_the_picture_has_labelled_axes_with_and_without_a_holdout(held_out):
    picture = plots.effect(Effect(Arm(900, 150), held_out, 0.1))
    left, right = picture.axes
    assert (left.get_ylabel(), right.get_ylabel()) == (
        "reached the goal", "difference (percentage points)",
    )  # fmt: skip
    assert [label.get_text() for label in left.get_xticklabels()] == ["acted on", "held out"]
    assert picture.png()[:4] == b"\x89PNG"


@pytest.mark.parametrize("holdout", [0.1, 0.2, 0.5])
@pytest.mark.parametrize(("rate", "effect"), [(0.04, 0.05), (0.2, 0.05), (0.2, -0.05)])
def test_as_many_sessions_as_needed_find_the_effect_in_four_of_five_worlds(rate, effect, holdout):
    sessions = sessions_needed(rate, effect, holdout=holdout)
    rng, held = np.random.default_rng(0), round(sessions * holdout)
    goals = zip(
        rng.binomial(sessions - held, rate + effect, 1000), rng.binomial(held, rate, 1000),
        strict=True,
    )  # fmt: skip
    intervals = [
        Effect(Arm(sessions - held, int(acted)), Arm(held, int(left)), holdout).difference
        for acted, left in goals
    ]
    beyond = [i.low > 0 if effect > 0 else i.high < 0 for i in intervals]
    assert 0.77 <= np.mean(beyond) <= 0.84


def test_the_sample_sizes_of_the_documentation_are_computed():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+)% \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert len(table) == 3
    for rate, *sizes in table:
        assert [int(size.replace(",", "")) for size in sizes] == [
            sessions_needed(int(rate) / 100, 0.05, holdout=share) for share in (0.1, 0.2, 0.5)
        ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"base_rate": 0.98}, "an effect of 0.05: expected two rates"),
        ({"base_rate": float("nan")}, "a goal rate of nan"),
        ({"base_rate": 0.1, "effect": 0}, "that differ"),
        ({"base_rate": 0.1, "holdout": 0}, "holdout=0, power=0.8"),
        ({"base_rate": 0.1, "power": 1}, "power=1"),
    ],
)
def test_sample_sizes_that_do_not_exist_are_refused(arguments, named):
    with pytest.raises(DataError, match=named):
        sessions_needed(**arguments)


def test_a_planted_effect_is_found_and_none_is_found_where_there_is_none():
    """Ten worlds of some 2,000 chosen sessions, half of them held out.

    On average 3.7% send the form by themselves: five points are then found in 99.6% of the
    worlds, and an interval of 95% includes zero in nine of ten worlds or more with 91%.
    """
    beyond_zero = {0.0: 0, 0.05: 0}
    for seed in range(10):
        for planted in beyond_zero:
            warehouse, served = experiment(effect=planted, seed=seed)
            effect = measure_outcomes(warehouse, served).effect()
            warehouse.close()
            assert effect is not None and effect.acted.sessions + effect.held_out.sessions > 1900
            difference = effect.difference
            beyond_zero[planted] += difference.low > 0 or difference.high < 0
    assert beyond_zero[0.05] >= 8
    assert beyond_zero[0.0] <= 1
