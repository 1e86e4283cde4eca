"""Check the "Your turn" exercises of the notebooks.

An attempt that is still ``None`` or ``...`` prints a first hint, a wrong one prints what is
wrong, and neither stops the notebook. The solutions are in ``notebooks/solutions``.

>>> break_even(0.5, value=100, cost=5)
Not yet: at 0.5 the average gain is +47.50; it should be 0.
False
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, SupportsFloat
from uuid import uuid4

import numpy as np
import pyarrow as pa
from snowplow_signals import Attribute, StreamAttributeGroup

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.anchors import Anchors
from prospect_lib.attributes import SNOWPLOW, prospect_group
from prospect_lib.errors import one_line
from prospect_lib.evaluation.baselines import CEILING, RULE
from prospect_lib.evaluation.evaluate import MODEL, Evaluation
from prospect_lib.evaluation.metrics import score_rows
from prospect_lib.evaluation.threshold import Threshold
from prospect_lib.model.splits import Split
from prospect_lib.server.app import Server, create_app
from prospect_lib.settings import Settings
from prospect_lib.teaching.visitor import scripted_visit
from prospect_lib.training_set.extract import TrainingSet
from prospect_lib.warehouse import Warehouse

BEYOND_NOISE = 0.005  # of ROC-AUC, above the one rule
_Arguments = ParamSpec("_Arguments")
_Check = Callable[Concatenate[Any, _Arguments], str]


class NotYetError(Exception):
    """An attempt is not right yet; the message is a hint."""


def exercise(
    hint: str,
) -> Callable[[_Check[_Arguments]], Callable[Concatenate[Any, _Arguments], bool]]:
    """Make an exercise of a check, which returns praise or raises ``NotYetError``.

    The exercise prints the praise or a hint, and returns whether the attempt is right. It
    raises nothing, so the notebook goes on: any other error of the check is part of the hint.

    Args:
        hint: printed for an attempt that is still ``None`` or ``...``.

    >>> @exercise("add the two numbers.")
    ... def sum_of_two_and_three(attempt: int) -> str:
    ...     if attempt != 5:
    ...         raise NotYetError(f"{attempt} is not the sum.")
    ...     return "Two and three are five."
    >>> sum_of_two_and_three(6)
    Not yet: 6 is not the sum.
    False
    """

    def decorate(check: _Check[_Arguments]) -> Callable[Concatenate[Any, _Arguments], bool]:
        @functools.wraps(check)
        def checked(attempt: Any, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> bool:
            if attempt is None or attempt is ...:
                print(f"Not yet: {hint}")
                return False
            if isinstance(attempt, type):
                print(f"Not yet: {attempt.__name__} is a class; make one of it: {hint}")
                return False
            try:
                print(f"Right. {check(attempt, *args, **kwargs)}")
            except NotYetError as wrong:
                print(f"Not yet: {wrong}")
            except Exception as error:  # noqa: BLE001 - of code that a learner is still writing
                print(f"Not yet: {hint} (It raised {type(error).__name__}: {one_line(error)})")
            else:
                return True
            return False

        return checked

    return decorate


def _number(attempt: Any) -> float:
    """Return an attempt as a number, whatever library it is of."""
    if isinstance(attempt, (str, bool)) or not isinstance(attempt, SupportsFloat):
        raise NotYetError(f"{attempt!r} is {type(attempt).__name__}, a number is expected.")
    return float(attempt)


@exercise("values={'NAME': 'anything'}, with a name that the line Warehouse above lists.")
def only_snowflake(attempt: Settings) -> str:
    """00: settings whose warehouse is Snowflake while Signals stays local."""
    if attempt.signals_backend != "local":
        raise NotYetError("Signals is not local any more. Leave out the names that start with SP_.")
    if attempt.warehouse_backend != "snowflake":
        raise NotYetError("the warehouse is still DuckDB. describe() lists the names to set.")
    return "One name selects the backend; the doctor then lists the names still missing."


@exercise("acting gains p × value from those who convert and costs (1 − p) × cost for the others.")
def break_even(attempt: float, *, value: float, cost: float) -> str:
    """00: the score at which acting starts to pay."""
    attempt = _number(attempt)
    if not 0 < attempt < 1:
        raise NotYetError(f"{attempt:g} is not a score; a score lies between 0 and 1.")
    gain = attempt * value - (1 - attempt) * cost
    if abs(gain) > 0.01 * cost:
        raise NotYetError(f"at {attempt:g} the average gain is {gain:+.2f}; it should be 0.")
    return f"Above {attempt:.3f} acting pays, below it does not. Notebook 03 does the same."


@exercise("count the page views in the seven days before the new moment.")
def window_moves(attempt: int, events: list[dict[str, Any]], at: datetime) -> str:
    """01: the number of page views of the last seven days at another moment."""
    expected = attribute_values(prospect_group, events, at)["num_page_views_l7d"]
    if _number(attempt) != expected:
        raise NotYetError(
            f"not {attempt}. Write down the day of each view, and the days in the window."
        )
    return f"{expected}: no new event, and yet another value. A window moves with time."


@exercise("copy num_pricing_views_l7d: Attribute(name=…, type=…, events=[…], aggregation=…, …).")
def customers_views(attempt: Attribute) -> str:
    """01: an attribute that counts views of the customers page over seven days."""
    now = datetime(2026, 2, 1, tzinfo=UTC)
    views = [_event(now - timedelta(days=d), "customers") for d in (0, 2, 6.5)]
    _expect(attempt, views, now, (3,), "three views of /customers in the last week")
    others = [_event(now, "pricing"), _event(now, "customers", name="page_ping")]
    _expect(attempt, views + others, now, (3,), "those three, a view of /pricing and a page ping")
    old = [_event(now - timedelta(days=7.5), "customers")]
    _expect(attempt, views + old, now, (3,), "those three, and one of more than seven days ago")
    return f"{attempt.name} counts the right views, and is None for a visitor without any."


@exercise("which aggregation keeps the earliest value? AtomicProperty(name=…) names the column.")
def first_page(attempt: Attribute) -> str:
    """01: an attribute with the address of the first page viewed in thirty days."""
    now = datetime(2026, 2, 1, tzinfo=UTC)
    views = [_event(now - timedelta(days=d), page) for d, page in ((29, "blog"), (1, "pricing"))]
    blog = ("https://site/blog", "/blog")
    _expect(attempt, views, now, blog, "/blog 29 days ago and /pricing yesterday")
    ping = _event(now - timedelta(days=29.5), "home", name="page_ping")
    _expect(attempt, [ping, *views], now, blog, "the same after a page ping of /home")
    old = _event(now - timedelta(days=30.5), "videos")
    _expect(attempt, [old, *views], now, blog, "the same after /videos, more than a month ago")
    return f"{attempt.name} keeps the page where a visit began, for thirty days."


def _event(at: datetime, page: str, *, name: str = "page_view") -> dict[str, Any]:
    return {
        "derived_tstamp": at,
        "event_vendor": SNOWPLOW,
        "event_name": name,
        "event_version": "1-0-0",
        "page_url": f"https://site/{page}",
        "page_urlscheme": "https",
        "page_urlhost": "site",
        "page_urlpath": f"/{page}",
        "page_title": page.capitalize(),
    }


def _expect(
    attribute: Any, events: list[dict[str, Any]], at: datetime, expected: Sequence[Any], case: str
) -> None:
    if not isinstance(attribute, Attribute):
        raise NotYetError(f"{type(attribute).__name__} is not an Attribute of snowplow_signals.")
    if attribute.period is not None and attribute.period < timedelta(hours=1):
        seconds = attribute.period.total_seconds()
        raise NotYetError(f"a plain number counts seconds, here {seconds:g}: timedelta(days=…).")
    value = attribute_values(_group_of(attribute), events, at)[attribute.name]
    if value not in expected:
        raise NotYetError(f"with {case} it is {value!r}, not {expected[0]!r}.")


def _group_of(attribute: Attribute) -> StreamAttributeGroup:
    parts = {name: getattr(prospect_group, name) for name in ("attribute_key", "owner")}
    return StreamAttributeGroup(name="exercise", version=1, attributes=[attribute], **parts)


@exercise("replace(anchor_rule, horizon=timedelta(…)) changes how far the label looks.")
def longer_question(attempt: Anchors, chosen: Anchors, warehouse: Warehouse) -> str:
    """02: the anchors of the notebook, with a label that looks a day ahead."""
    if attempt.horizon != timedelta(hours=24):
        raise NotYetError(f"its horizon is {attempt.horizon}; the question is 24 hours long.")
    if replace(attempt, horizon=chosen.horizon) != chosen:
        raise NotYetError("something else than the horizon changed too.")
    rows, share = _count_and_share(chosen, warehouse)
    fewer, more = _count_and_share(attempt, warehouse)
    return (
        f"{more:.1%} of the rows are positive instead of {share:.1%}; {rows - fewer:,} rows of the "
        "last day are left out because their label is not known yet."
    )


def _count_and_share(anchors: Anchors, warehouse: Warehouse) -> tuple[int, float]:
    """Return the number of anchors, and the share with a positive label."""
    sql = anchors.sql(
        events=warehouse.events, dialect=warehouse.dialect, columns=warehouse.columns()
    )
    labels = warehouse.query(sql)["label"].to_pylist()
    return len(labels), sum(map(bool, labels)) / max(1, len(labels))


@exercise("extract(warehouse, group_of([my_attribute]), anchor_rule). No SQL is needed.")
def own_column(attempt: TrainingSet, attribute: Attribute, events: Any, at: datetime) -> str:
    """02: a training set with the learner's attribute, checked at one visitor's moment."""
    if len(set(attempt.table["domain_userid"].to_pylist())) < 2:
        raise NotYetError("it has rows of one visitor; without anchors of your own it has all.")
    if attribute.name not in attempt.table.column_names:
        raise NotYetError(f"no column {attribute.name}: {attempt.table.column_names[3:]}.")
    visitor = events[0]["domain_userid"]
    served = attribute_values(_group_of(attribute), events, at)
    rows = attempt.table.select(["domain_userid", "anchor_ts", attribute.name]).to_pylist()
    values = [
        row[attribute.name]
        for row in rows
        if (row["domain_userid"], row["anchor_ts"]) == (visitor, at)
    ]
    if values != list(served.values()):
        raise NotYetError(f"at our visitor's moment it is {values}, served was {served}.")
    return f"{attribute.name} is a column, and {values[0]} at our visitor's moment, as served."


@exercise("Anchors(every=timedelta(seconds=10), per_session=…) scores as a waiting page does.")
def every_ten_seconds(attempt: Anchors, warehouse: Warehouse) -> str:
    """02: anchors of a page that asks for a score every ten seconds, at most 20 per visit."""
    if attempt.every != timedelta(seconds=10) or attempt.per_session != 20:
        raise NotYetError(
            f"it scores every {attempt.every} and at most {attempt.per_session} times per visit; "
            "the page asks every 10 seconds, and 20 are to be kept."
        )
    rows, share = _count_and_share(attempt, warehouse)
    return f"{rows:,} rows, {share:.1%} positive: a visitor who stays longer has more rows."


@exercise(
    "choose_threshold() takes value and cost, or capacity: visitors that can be called per day."
)
def for_five_calls(attempt: Threshold) -> str:
    """03: the threshold of a team that can call five visitors per day."""
    if not isinstance(attempt, Threshold):
        raise NotYetError(f"{type(attempt).__name__} is not what choose_threshold returns.")
    if attempt.per_day > 5.5:
        raise NotYetError(
            f"{attempt.per_day:.1f} visitors per day reach that score: too many calls."
        )
    if attempt.per_day < 3:
        raise NotYetError(f"only {attempt.per_day:.1f} visitors per day: the team would be idle.")
    return (
        f"They act from {attempt.score:.3f} on; {attempt.precision:.0%} of those moments convert."
    )


@exercise("a list or array with a number per row of honest.test; larger means more likely.")
def better_rule(attempt: Sequence[float], split: Split, evaluation: Evaluation) -> str:
    """03: scores by hand that rank later visitors better than counting pricing views."""
    scores, rows = np.asarray(attempt, float).ravel(), evaluation.rows[MODEL]
    if len(scores) != split.test.num_rows:
        raise NotYetError(f"{len(scores)} scores for {split.test.num_rows} rows of honest.test.")
    if missing := int(np.isnan(scores).sum()):
        raise NotYetError(f"{missing} scores are missing: fillna(0) says that nothing is zero.")
    auc = score_rows(rows.label, scores, rows.weight).roc_auc()
    metrics = {name: m["roc_auc"] for name, m in evaluation.metrics.items()}
    rule, model = metrics[RULE].value, metrics[MODEL]
    if auc > max(model.high, metrics.get(CEILING, model).value):
        raise NotYetError(
            f"ROC-AUC {auc:.3f}, the model has {model.value:.3f}: too good to be true. Is the "
            "label, or what follows from it, in the rule?"
        )
    if auc < rule + BEYOND_NOISE:
        raise NotYetError(
            f"ROC-AUC {auc:.3f}; the one rule has {rule:.3f}. Add a feature that the importance "
            "plot ranks high."
        )
    return f"ROC-AUC {auc:.3f} by hand; the one rule has {rule:.3f}, the model {model.value:.3f}."


@exercise("until is a time, such as datetime(2026, 1, 31, tzinfo=UTC): a week before the last row.")
def as_of_a_past_week(attempt: TrainingSet, rows: TrainingSet) -> str:
    """03: the training set as it would have been a week earlier."""
    then, now = (max(t["anchor_ts"].to_pylist()) for t in (attempt.table, rows.table))
    if now - then < timedelta(days=6):
        raise NotYetError(f"its last row is of {then:%d %B}, the data's of {now:%d %B}.")
    if now - then > timedelta(days=10):
        raise NotYetError(f"its last row is of {then:%d %B}, much more than a week earlier.")
    anchors, known = _anchors(attempt.table), _anchors(rows.table)
    if not known >= anchors:
        raise NotYetError("some of its rows are not in today's training set. Same data?")
    until_then = sum(at <= then for _, at in known)
    if len(anchors) < 0.9 * until_then:
        raise NotYetError(
            f"{len(anchors):,} rows, but there were {until_then:,} by then: all of them belong in."
        )
    return f"{attempt.table.num_rows:,} rows, each the same as today: the past does not change."


def _anchors(table: pa.Table) -> set[tuple[str, datetime]]:
    visitors, times = (table[name].to_pylist() for name in ("domain_userid", "anchor_ts"))
    return set(zip(visitors, times, strict=True))


class _FixedAttributes:
    """A source of attributes that knows one visitor, without Signals."""

    def __init__(self, pricing_views: int) -> None:
        self.values = {"num_page_views_l7d": 4, "num_pricing_views_l7d": pricing_views}

    def read(self, _identifier: str) -> dict[str, Any]:
        return dict.fromkeys(a.name for a in prospect_group.attributes) | self.values


def _served(scorer: object) -> list[dict[str, Any]]:
    """Return what a server that scores with ``scorer`` answers of two different visitors."""
    answers: list[dict[str, Any]] = []
    for pricing_views in (2, 1):
        client = create_app(scorer, _FixedAttributes(pricing_views)).test_client()
        response = client.post("/predict", json={"domain_userid": str(uuid4())})
        answers.append(response.get_json())
        if response.status_code != 200:
            why = answers[-1].get("detail")
            raise NotYetError(f"the server answers {response.status_code}: {why}")
    return answers


@exercise("an object with score(attributes, at), which returns something with score, explanations.")
def always_half(attempt: object) -> str:
    """04: a scorer whose score is always 0.5."""
    for answer in _served(attempt):
        if answer["score"] != 0.5:
            raise NotYetError(f"the server answers {answer['score']}, for a visitor of its own.")
    decision = answer["decision"]
    return (
        f"0.5, and the decision is {decision['name']!r}, act {decision['act']}: without a "
        "threshold there is no action."
    )


@exercise("choose log-odds for each reason, add them up, and score = 1 / (1 + exp(-sum)).")
def with_reasons(attempt: object) -> str:
    """04: a scorer whose reasons explain its score completely."""
    for answer in _served(attempt):
        reasons: Mapping[str, float] = answer["explanations"]
        if sum(share != 0 for share in reasons.values()) < 2:
            raise NotYetError(
                f"{len(reasons)} reasons; give at least two, by name, in log-odds other than 0."
            )
        if not 0 < answer["score"] < 1:
            raise NotYetError(f"a score of {answer['score']:g} has no log-odds: it is certainty.")
        total = sum(reasons.values()) + (answer["base_value"] or 0.0)
        margin = math.log(answer["score"] / (1 - answer["score"]))
        if abs(total - margin) > 1e-3:
            raise NotYetError(
                f"the reasons add up to {total:.3f}, the score's log-odds are {margin:.3f}."
            )
    return f"{len(reasons)} reasons, and together they are the score."


@exercise("a list of at most three steps, by the names printed above.")
def shortest_way(attempt: list[str], settings: Settings, server: Server, threshold: float) -> str:
    """04: at most three steps that take a new visitor over the threshold."""
    if isinstance(attempt, str) or not attempt:
        raise NotYetError(f"{attempt!r} is not a list of steps, such as ['looks at pricing'].")
    if len(attempt) > 3:
        raise NotYetError(f"{len(attempt)} steps; three are enough.")
    if settings.signals_backend != "local":
        raise NotYetError("only the local sandbox accepts simulated visitors.")
    scores = scripted_visit(settings, server, str(uuid4()), list(attempt))
    last = list(scores.values())[-1]
    if last < threshold:
        raise NotYetError(
            f"a new visitor ends at {last:.3f}, below {threshold:.3f}. Take the steps that raised "
            "the score most above."
        )
    return f"{len(attempt)} steps, from {scores['arrives']:.3f} to {last:.3f}."


def broken_tracker_sends(event: Mapping[str, Any]) -> bool:
    """05: whether a broken tracker still sends an event; which one does it lose?"""
    return bool(event["event_name"] != "focus_form")


@exercise("replay into a folder of its own, audit that log, and read the report's findings[0].")
def lost_event(attempt: str) -> str:
    """05: the name of the event that :func:`broken_tracker_sends` loses."""
    attempt = getattr(attempt, "name", attempt)  # of an Event
    names = {"page_view", "page_ping", "focus_form", "change_form", "submit_form", "play_event"}
    if attempt not in names:
        raise NotYetError(f"{attempt!r} is not an event of the website: {sorted(names)}.")
    if broken_tracker_sends({"event_name": attempt}):
        raise NotYetError(f"{attempt} arrived as usual. Which attribute is served too low?")
    return f"{attempt}: half of the events of filling in a form; change_form still arrived."


@exercise("served_anchors(…, since=…) is a table of anchors since a time; extract takes it.")
def as_it_is_served(attempt: TrainingSet, served: int) -> str:
    """05: a training set of exactly the moments that were scored."""
    if attempt.manifest["anchors"] == "" or not isinstance(attempt.manifest["anchors"], str):
        raise NotYetError("its anchors are placed by rules; take the served moments.")
    if attempt.table.num_rows > served:
        raise NotYetError(f"{attempt.table.num_rows:,} rows, but only {served:,} were served.")
    times = attempt.table["anchor_ts"].to_pylist()
    if len(times) < 2:
        raise NotYetError(f"{len(times)} rows; three days have more served moments.")
    if (days := (max(times) - min(times)) / timedelta(days=1)) > 3:
        raise NotYetError(f"its rows are of {days:.0f} days: served_anchors(…, since=…).")
    return f"{attempt.table.num_rows:,} rows: it learns from exactly the moments that are scored."
