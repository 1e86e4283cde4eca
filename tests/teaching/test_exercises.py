"""Each exercise: without an attempt, wrong in several ways, and solved."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from flask import Flask
from snowplow_signals import AtomicProperty, Attribute, Criteria, Criterion

from prospect_lib.anchors import SITE_ANCHORS, Anchors
from prospect_lib.attributes import MONTH, PAGE_PING, PAGE_VIEW, WEEK, prospect_group
from prospect_lib.evaluation.baselines import RULE
from prospect_lib.evaluation.evaluate import MODEL
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


def table(days: int) -> SimpleNamespace:
    times = [AT + timedelta(days=day) for day in range(days)]
    return SimpleNamespace(
        table=pa.table({"domain_userid": ["v"] * days, "anchor_ts": pa.array(times)})
    )


LABELS = pa.table({"label": [False, False, True, True]})
SPLIT = SimpleNamespace(test=LABELS)
EVALUATION = SimpleNamespace(
    metrics={n: {"roc_auc": SimpleNamespace(value=v)} for n, v in ((RULE, 0.6), (MODEL, 0.8))}
)
VIEWS = [exercises._event(AT - timedelta(days=d), "home") for d in (1, 3, 9)]


class Half:
    def score(self, _attributes: dict[str, Any], _at: datetime) -> SimpleNamespace:
        return SimpleNamespace(score=0.5, explanations={})


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
    ("window_moves", 3, (VIEWS, AT), "not 3"),
    ("customers_views", counter(), (), "Right"),
    ("customers_views", counter(criteria=None), (), "pricing"),
    ("customers_views", counter(period=MONTH), (), "eight days ago"),
    ("customers_views", counter(events=[PAGE_VIEW, PAGE_PING]), (), "ping"),
    ("customers_views", "a counter", (), "is not an Attribute"),
    ("first_page", first(), (), "Right"),
    ("first_page", first(aggregation="last"), (), "yesterday"),
    ("first_page", first(events=[PAGE_VIEW, PAGE_PING]), (), "ping of /home"),
    ("first_page", first(period=None), (), "more than a month ago"),
    ("for_five_calls", threshold(4.8), (), "Right"),
    ("for_five_calls", threshold(12), (), "too many"),
    ("for_five_calls", threshold(1), (), "idle"),
    ("for_five_calls", 0.4, (), "AttributeError"),
    ("better_rule", np.array([0, 1, 0, 2]), (SPLIT, EVALUATION), "Right"),
    ("better_rule", [0, 1, 2, 3], (SPLIT, EVALUATION), "look for a leak"),
    ("better_rule", [3, 2, 1, 0], (SPLIT, EVALUATION), "the one rule has 0.600"),
    ("better_rule", [1, 0], (SPLIT, EVALUATION), "2 scores for 4 rows"),
    ("as_of_a_past_week", table(10), (table(18),), "Right"),
    ("as_of_a_past_week", table(16), (table(18),), "its last row is of"),
    ("always_half", Half(), (), "Right"),
    ("always_half", Reasoned(a=1.0), (), "the server answers 0.7"),
    ("always_half", object(), (), "cannot score"),
    ("with_reasons", Reasoned(a=0.4, b=0.6), (), "Right"),
    ("with_reasons", Reasoned(a=1.0), (), "at least two"),
    ("with_reasons", Reasoned(a=1.0, b=1.0), (), "add up to 2.000"),
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
    [(5 / 105, "Right"), (0.2, "gain is +16"), (3, "not a score"), ("a", "TypeError")],
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
        (None, "Not yet: print"),
        ("clicks", "is not an event of the website"),
        ("page_view", "arrived as usual"),
        ("focus_form", "Right"),
    ],
)
def test_the_lost_event(capsys: Printed, attempt: Any, hint: str) -> None:
    exercises.lost_event(attempt)
    assert hint in capsys.readouterr().out


def test_a_training_set_of_served_moments(warehouse: DuckDBWarehouse, capsys: Printed) -> None:
    placed = extract(warehouse, prospect_group, SITE_ANCHORS)
    assert not exercises.as_it_is_served(placed, 10**6)
    warehouse.run("CREATE OR REPLACE TABLE moments AS SELECT domain_userid, "
                  "max(derived_tstamp) AS anchor_ts FROM events GROUP BY ALL")  # fmt: skip
    served = extract(warehouse, prospect_group, "moments")
    assert not exercises.as_it_is_served(served, 3)
    assert exercises.as_it_is_served(served, served.table.num_rows)
    assert "were served" in capsys.readouterr().out
