"""Each exercise: without an attempt, wrong in several ways, and solved."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from flask import Flask
from snowplow_signals import AtomicProperty, Attribute, Criteria, Criterion

from prospect_lib.anchors import SITE_ANCHORS, Anchors
from prospect_lib.attributes import FOCUS_FORM, MONTH, PAGE_PING, PAGE_VIEW, WEEK, prospect_group
from prospect_lib.evaluation.baselines import RULE
from prospect_lib.evaluation.evaluate import MODEL
from prospect_lib.evaluation.metrics import Interval, score_rows
from prospect_lib.evaluation.threshold import Threshold
from prospect_lib.sandbox.simulation import history
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from prospect_lib.teaching import exercises
from prospect_lib.teaching.visitor import followed_visitor, visitor_events
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

Printed = pytest.CaptureFixture[str]
AT = datetime(2026, 1, 19, tzinfo=UTC)
NO_SERVER = Server(Flask("not started"))
BY_PATH = Criteria(
    any=[Criterion.eq(property=AtomicProperty(name="page_urlpath"), value="/customers")]
)
CUSTOMERS = Criteria(
    all=[Criterion.like(property=AtomicProperty(name="page_url"), value="%customers%")]
)


def counter(**changes: Any) -> Attribute:
    fields = {"name": "own", "type": "int64", "aggregation": "counter", "period": WEEK}
    return Attribute(**{**fields, "events": [PAGE_VIEW], "criteria": CUSTOMERS, **changes})


def first(**changes: Any) -> Attribute:
    fields = {"name": "own", "type": "string", "aggregation": "first", "period": MONTH}
    page = AtomicProperty(name="page_url")
    return Attribute(**{**fields, "events": [PAGE_VIEW], "property": page, **changes})


def threshold(per_day: float) -> Threshold:
    return Threshold(0.4, "", precision=0.5, recall=0.2, share=0.1, per_day=per_day)


def row(day: int) -> SimpleNamespace:
    return SimpleNamespace(table=table(day).table.slice(day - 1))


def table(days: int) -> SimpleNamespace:
    times = [AT + timedelta(days=day) for day in range(days)]
    return SimpleNamespace(
        table=pa.table({"domain_userid": ["v"] * days, "anchor_ts": pa.array(times)})
    )


LABELS = pa.table({"label": [False, False, True, True, False, True]})
SPLIT = SimpleNamespace(test=LABELS)
OUTCOMES = LABELS["label"].to_numpy(zero_copy_only=False).astype(float)
EVALUATION = SimpleNamespace(
    metrics={
        n: {"roc_auc": Interval(v, v - 0.05, v + 0.05)} for n, v in ((RULE, 0.6), (MODEL, 0.8))
    },
    rows={MODEL: score_rows(OUTCOMES, OUTCOMES)},
)
GOOD = [0, 2, 1, 2, 0, 2]
VIEWS = [exercises._event(AT - timedelta(days=d), "home") for d in (1, 3, 9)]


class Half:
    def score(self, _attributes: dict[str, Any], _at: datetime) -> SimpleNamespace:
        return SimpleNamespace(score=0.5, explanations={})


class HalfOfFour:
    """Right for a visitor with two views of pricing."""

    def score(self, attributes: dict[str, Any], _at: datetime) -> SimpleNamespace:
        return SimpleNamespace(score=attributes["num_pricing_views_l7d"] / 4, explanations={})


class Reasoned:
    def __init__(self, **reasons: float) -> None:
        self.reasons = reasons

    def score(self, _attributes: dict[str, Any], _at: datetime) -> SimpleNamespace:
        return SimpleNamespace(score=1 / (1 + math.exp(-1.0)), explanations=self.reasons)


def with_values(**values: str) -> Settings:
    return Settings(Path(), values=values)


GAINS = {"value": 100.0, "cost": 5.0}
CASES: list[tuple[str, object, tuple[Any, ...], str]] = [
    ("only_snowflake", with_values(SF_USR="x"), (), "Right"),
    ("only_snowflake", with_values(), (), "still DuckDB"),
    ("only_snowflake", with_values(SF_USR="x", SP_API_KEY="x"), (), "not local any more"),
    ("window_moves", 2, (VIEWS, AT), "Right"),
    ("window_moves", np.int64(2), (VIEWS, AT), "Right"),
    ("window_moves", 2.0, (VIEWS, AT), "Right"),
    ("window_moves", 3, (VIEWS, AT), "not 3"),
    ("window_moves", "2", (VIEWS, AT), "is str, a number is expected"),
    ("customers_views", counter(), (), "Right"),
    ("customers_views", counter(criteria=None), (), "pricing"),
    ("customers_views", counter(criteria=BY_PATH), (), "Right"),
    ("customers_views", counter(period=MONTH), (), "more than seven days ago"),
    ("customers_views", counter(period=timedelta(days=8)), (), "more than seven days ago"),
    ("customers_views", counter(period=timedelta(days=6)), (), "it is 2, not 3"),
    ("customers_views", counter(period=7), (), "counts seconds, here 7"),
    ("customers_views", Attribute, (), "is a class"),
    ("customers_views", counter(events=[PAGE_VIEW, PAGE_PING]), (), "ping"),
    ("customers_views", "a counter", (), "is not an Attribute"),
    ("first_page", first(), (), "Right"),
    ("first_page", first(property=AtomicProperty(name="page_urlpath")), (), "Right"),
    ("first_page", first(aggregation="last"), (), "yesterday"),
    ("first_page", first(period=timedelta(days=28)), (), "29 days ago"),
    ("first_page", first(property=AtomicProperty(name="page_title")), (), "it is 'Blog'"),
    ("first_page", first(events=[PAGE_VIEW, PAGE_PING]), (), "ping of /home"),
    ("first_page", first(period=None), (), "more than a month ago"),
    ("for_five_calls", threshold(4.8), (), "Right"),
    ("for_five_calls", threshold(12), (), "too many"),
    ("for_five_calls", threshold(1), (), "idle"),
    ("for_five_calls", 0.4, (), "float is not what choose_threshold returns"),
    ("better_rule", np.array(GOOD), (SPLIT, EVALUATION), "Right"),
    ("better_rule", pd.Series(GOOD, index=range(6, 12)), (SPLIT, EVALUATION), "Right"),
    ("better_rule", pd.DataFrame({"rule": GOOD}), (SPLIT, EVALUATION), "Right"),
    ("better_rule", LABELS["label"], (SPLIT, EVALUATION), "too good to be true"),
    ("better_rule", list(OUTCOMES * 0.1 + 1), (SPLIT, EVALUATION), "too good to be true"),
    ("better_rule", [1, 1, 1, 0, 0, 0], (SPLIT, EVALUATION), "the one rule has 0.600"),
    ("better_rule", [1, 0], (SPLIT, EVALUATION), "2 scores for 6 rows"),
    ("better_rule", [None, *GOOD[1:]], (SPLIT, EVALUATION), "1 scores are missing"),
    ("as_of_a_past_week", table(10), (table(18),), "Right"),
    ("as_of_a_past_week", table(16), (table(18),), "its last row is of"),
    ("as_of_a_past_week", table(3), (table(18),), "much more than a week"),
    ("as_of_a_past_week", row(10), (table(18),), "1 rows, but there were 10 by then"),
    ("always_half", Half(), (), "Right"),
    ("always_half", Half, (), "Half is a class"),
    ("always_half", HalfOfFour(), (), "the server answers 0.25"),
    ("always_half", Reasoned(a=1.0), (), "the server answers 0.7"),
    ("always_half", object(), (), "cannot score"),
    ("with_reasons", Reasoned(a=0.4, b=0.6), (), "Right"),
    ("with_reasons", Reasoned(a=1.0), (), "at least two"),
    ("with_reasons", Reasoned(a=1.0, b=0.0), (), "other than 0"),
    ("with_reasons", Reasoned(a=1.0, b=1.0), (), "add up to 2.000"),
    ("shortest_way", [], (with_values(), NO_SERVER, 0.5), "not a list of steps"),
    ("shortest_way", "a", (with_values(), NO_SERVER, 0.5), "not a list of steps"),
    ("shortest_way", ["a", "b", "c", "d"], (with_values(), NO_SERVER, 0.5), "three are enough"),
    (
        "shortest_way",
        ["a"],
        (with_values(SP_API_KEY="x"), NO_SERVER, 0.5),
        "only the local sandbox",
    ),
]


@pytest.mark.parametrize(("name", "attempt", "arguments", "hint"), CASES)
def test_an_attempt_gets_praise_or_its_hint(
    name: str, attempt: object, arguments: tuple[Any, ...], hint: str, capsys: Printed
) -> None:
    passed = getattr(exercises, name)(attempt, *arguments)
    printed = capsys.readouterr().out
    assert hint in printed
    assert printed.startswith("Right. " if passed else "Not yet: ")


@pytest.mark.parametrize("placeholder", [None, ...])
@pytest.mark.parametrize("name", sorted({case[0] for case in CASES} | {"break_even"}))
def test_an_exercise_without_an_attempt_prints_a_hint(
    name: str, placeholder: object, capsys: Printed
) -> None:
    assert getattr(exercises, name)(placeholder) is False
    printed = capsys.readouterr().out
    assert printed.startswith("Not yet: ") and len(printed) > 30


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (5 / 105, "Right"),
        (Fraction(5, 105), "Right"),
        (np.float32(5 / 105), "Right"),
        ("0.048", "a number is expected"),
        (True, "a number is expected"),
        (0.05, "gain is +0.25"),
        (0.2, "gain is +16"),
        (3, "not a score"),
    ],
)
def test_the_break_even_score(attempt: object, hint: str, capsys: Printed) -> None:
    exercises.break_even(attempt, **GAINS)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(("reached", "hint"), [(0.6, "Right"), (0.2, "below 0.500")])
def test_the_shortest_way_is_taken_by_a_new_visitor(
    reached: float, hint: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    scores = {"arrives": 0.1, "opens the demo form": reached}
    monkeypatch.setattr(
        exercises, "scripted_visit", lambda *arguments: calls.append(arguments) or scores
    )
    exercises.shortest_way(["opens the demo form"], with_values(), NO_SERVER, 0.5)
    assert hint in capsys.readouterr().out and calls[0][3] == ["opens the demo form"]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBWarehouse]:
    folder = tmp_path_factory.mktemp("exercises")
    history.write(folder, visitors=400, days=40, end=AT, seed=1)
    opened = DuckDBWarehouse.over_home(folder)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (None, "Not yet: replace"),
        (SITE_ANCHORS, "its horizon is 1:00:00"),
        (Anchors(horizon=timedelta(hours=24)), "something else"),
        (replace(SITE_ANCHORS, horizon=timedelta(hours=24)), "Right.*are positive instead of"),
    ],
)
def test_a_longer_horizon_for_the_label(
    warehouse: DuckDBWarehouse, capsys: Printed, attempt: Any, hint: str
) -> None:
    exercises.longer_question(attempt, SITE_ANCHORS, warehouse)
    assert re.search(hint, capsys.readouterr().out)


def test_a_column_of_the_learners_attribute(warehouse: DuckDBWarehouse, capsys: Printed) -> None:
    visitor = followed_visitor(warehouse)
    events = visitor_events(warehouse, visitor.identifier)
    views = counter(criteria=None)
    group = prospect_group.model_copy(update={"attributes": [views]})
    right = extract(warehouse, group, SITE_ANCHORS)
    assert exercises.own_column(right, views, events, visitor.at)
    stub = SimpleNamespace(table=right.table.slice(0, 1))
    assert not exercises.own_column(stub, views, events, visitor.at)
    assert "rows of one visitor" in capsys.readouterr().out
    other = counter(name="other")
    assert not exercises.own_column(right, other, events, visitor.at)
    assert "no column other" in capsys.readouterr().out
    shorter = counter(events=[PAGE_PING], period=timedelta(microseconds=1))
    assert not exercises.own_column(right, shorter, events, visitor.at)
    assert "served was" in capsys.readouterr().out


def test_anchors_every_ten_seconds(warehouse: DuckDBWarehouse, capsys: Printed) -> None:
    assert not exercises.every_ten_seconds(Anchors(), warehouse)
    anchors = Anchors(every=timedelta(seconds=10), per_session=20)
    assert exercises.every_ten_seconds(anchors, warehouse)
    assert "rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("attempt", "hint"),
    [
        (None, "Not yet: replay"),
        ("clicks", "is not an event of the website"),
        ("page_view", "arrived as usual"),
        ("focus_form", "Right"),
        (FOCUS_FORM, "Right"),
    ],
)
def test_the_lost_event(capsys: Printed, attempt: Any, hint: str) -> None:
    exercises.lost_event(attempt)
    assert hint in capsys.readouterr().out


def test_a_training_set_of_served_moments(warehouse: DuckDBWarehouse, capsys: Printed) -> None:
    placed = extract(warehouse, prospect_group, SITE_ANCHORS)
    assert not exercises.as_it_is_served(placed, 10**6)
    for name, since in (("moments", AT - timedelta(days=3)), ("more", AT - timedelta(days=7))):
        warehouse.run(
            f"CREATE OR REPLACE TABLE {name} AS SELECT domain_userid, max(derived_tstamp) AS "
            f"anchor_ts FROM events WHERE derived_tstamp > '{since:%Y-%m-%d}' GROUP BY ALL"
        )
    served = extract(warehouse, prospect_group, "moments")
    assert not exercises.as_it_is_served(served, 3)
    assert exercises.as_it_is_served(served, served.table.num_rows)
    assert not exercises.as_it_is_served(extract(warehouse, prospect_group, "more"), 10**6)
    assert not exercises.as_it_is_served(replace(served, table=served.table.slice(0, 1)), 10**6)
    assert "were served" in capsys.readouterr().out
