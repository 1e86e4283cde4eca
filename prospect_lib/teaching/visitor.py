"""Follow one visitor from notebook to notebook.

The visitor came back to the website after half a day to six days, and submitted a form within
the hour, for the first time. The notebooks ask for a score at one moment of that visit.

Example: ``followed_visitor(warehouse)`` -> ``FollowedVisitor("7f0c…", datetime(2026, 11, 20, …))``
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import requests

from prospect_lib.aggregation.keys import key_property
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.plots.style import BLUE, Picture, percent, picture
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.sandbox.simulation import traffic
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.events_part import EventsPart, anchors_sql
from prospect_lib.warehouse import Warehouse


@dataclass(frozen=True)
class FollowedVisitor:
    """The visitor of the notebooks, and the moment ``at`` (aware, UTC) of the score."""

    identifier: str
    at: datetime


def followed_visitor(
    warehouse: Warehouse, problem: ScoringProblem = prospect_problem
) -> FollowedVisitor:
    """Return the returning visitor with the most anchors; the same for the same events.

    Their form is their first one. A short window may have no such visitor: then it is one with a
    form, or without one.

    Raises:
        DataError: there are no anchors in the window.
    """
    key = problem.key
    problem = problem.with_anchors(replace(problem.anchors, until_goal=True))
    part = EventsPart.of(warehouse, problem.group, problem.anchors)
    with part.read(warehouse) as events:
        anchors = events.query(anchors_sql(events, problem)).to_pandas()
    pause = anchors.groupby(key)["anchor_ts"].diff()
    returning = anchors[anchors["label"] & pause.between("12h", "6d")]
    if returning.empty:
        returning = anchors[anchors["label"]] if anchors["label"].any() else anchors
    if returning.empty:
        window = f"since={problem.anchors.since} and until={problem.anchors.until}"
        raise DataError(
            f"{warehouse.events}: no anchors with a known label between {window}. Choose another "
            "window."
        )
    visitor = returning[key].value_counts(sort=False).idxmax()
    at = returning.loc[returning[key] == visitor, "anchor_ts"].iloc[-1]
    return FollowedVisitor(str(visitor), at.to_pydatetime().replace(tzinfo=UTC))


def visitor_events(
    warehouse: Warehouse, identifier: str, problem: ScoringProblem = prospect_problem
) -> list[dict[str, Any]]:
    """Return the events of one visitor, earliest first, with aware times.

    With a window of the problem's anchors, only what its rows need, and only those columns.
    """
    sql, group = dialect_of(warehouse.dialect), problem.group
    part = EventsPart.of(warehouse, group, problem.anchors, visitors=sql.text(identifier))
    key = property_sql(key_property(group), sql)
    with part.read(warehouse) as events:
        rows = events.query(
            f"SELECT * FROM {events.events} WHERE {key} = {sql.text(identifier)} "
            "ORDER BY derived_tstamp, event_name"
        ).to_pylist()
    return [row | {"derived_tstamp": row["derived_tstamp"].replace(tzinfo=UTC)} for row in rows]


def scripted_visit(
    settings: Settings, server: Server, domain_userid: str, steps: list[str] | None = None
) -> dict[str, float]:
    """Let a visitor visit the demo website now, and score them before and after each step.

    Args:
        settings: name the sandbox whose collector receives the events.
        server: the prediction server.
        domain_userid: the visitor.
        steps: names of steps of ``traffic.scripted_visitor``; all by default.
    Returns:
        The score (0..1) per step; the first step is ``"arrives"``.
    Raises:
        DataError: a step is unknown.
        ServiceError: the collector or the prediction server refused a request.

    Example::

        scripted_visit(settings, server, str(uuid4()), ["looks at pricing"])
    """
    sandbox_url = settings.sandbox_url
    visit = dict(
        traffic.scripted_visitor(domain_userid, str(uuid4()), sandbox_url, start=datetime.now(UTC))
    )
    steps = list(visit) if steps is None else steps
    if unknown := [step for step in steps if step not in visit]:
        raise DataError(f"steps {unknown}: expected some of {list(visit)}.")
    scores = {"arrives": _score(server, domain_userid)}
    for step in steps:
        traffic.send(sandbox_url, traffic.happening_now(visit[step]))
        scores[step] = _score(server, domain_userid)
    return scores


def steps_picture(scores: Mapping[str, float]) -> Picture:
    """Plot the score after each step of a visit, from top to bottom."""
    with picture(height=1.0 + 0.27 * len(scores)) as (figure, axes):
        axes.plot(list(scores.values()), range(len(scores)), "o-", color=BLUE, lw=2)
        axes.set_yticks(range(len(scores)), list(scores))
        axes.invert_yaxis()
        axes.set(title="The score after each step of a visit", xlabel="score", xlim=(0, None))
        percent(axes.xaxis)
        figure.alt = "The score after each step of a visit, from top to bottom: " + (
            ", ".join(f"{step} {score:.1%}" for step, score in scores.items()) + "."
        )
    return figure


def _score(server: Server, domain_userid: str) -> float:
    body = {"domain_userid": domain_userid}
    answer = requests.post(f"{server.url}/predict", json=body, headers=server.headers, timeout=10)
    if answer.status_code != 200:
        raise ServiceError(f"{server.url} answered {answer.status_code}: {answer.text[:300]}")
    return float(answer.json()["score"])
