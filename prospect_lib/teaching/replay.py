"""Score past visits as if they were live, to have a log of served scores at once.

The horizon of past visits has passed, so their outcomes are known. Events that Signals
"did not receive" plant a fault for the audit to find.

Example: ``replay(warehouse, model, folder, since)`` -> 2,400 scores in the log of ``folder``
"""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.aggregation.keys import identifier, key_property
from prospect_lib.errors import DataError
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.server.attribute_cache import AttributeCache
from prospect_lib.server.predictor import Loaded, Predictor
from prospect_lib.server.served_log import ServedLog
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.events_part import EventsPart, anchors_sql
from prospect_lib.warehouse import Warehouse

AtomicEvent = dict[str, Any]


class PastAttributes:
    """A source of attributes as they were at the moment ``at``, which the caller sets.

    Args:
        group: the attributes to compute; its key says whose an event is.
        events: of all visitors.
    """

    def __init__(self, group: AttributeGroup, events: list[AtomicEvent]) -> None:
        self._group = group
        self._events: dict[str, list[AtomicEvent]] = {}
        self.at = datetime.max.replace(tzinfo=UTC)
        for event in events:
            if (visitor := identifier(group, event)) is not None:
                self._events.setdefault(visitor, []).append(event)

    def read(self, visitor: str) -> dict[str, Any]:
        """Return the attributes of one visitor at ``at``."""
        return attribute_values(self._group, self._events.get(visitor, []), self.at)


def replay(
    warehouse: Warehouse,
    model: ProspectModel,
    folder: Path,
    since: datetime,
    *,
    problem: ScoringProblem = prospect_problem,
    received: Callable[[AtomicEvent], bool] = lambda _event: True,
) -> int:
    """Write the log of the scores that the website would have requested since a moment.

    Args:
        warehouse: holds the events.
        model: computes the scores.
        folder: of the log files, as ``served`` in PROSPECT_HOME.
        since: the first moment to score (aware).
        problem: the attributes to serve, and the moments at which the website asks.
        received: whether Signals received an event; the place to plant a fault.
    Returns:
        The number of scores written.
    Raises:
        DataError: there is no moment to score since then.

    Example::

        lost = lambda event: event["event_name"] != "page_ping"
        replay(warehouse, model, folder, since, received=lost)
    """
    group, key, sql = problem.group, problem.key, dialect_of(warehouse.dialect)
    problem = problem.with_anchors(dataclasses.replace(problem.anchors, since=since))
    with EventsPart.of(warehouse, group, problem.anchors).read(warehouse) as part:
        placed = f"({anchors_sql(part, problem)}) AS a"
        anchors = part.query(f"SELECT * FROM {placed}").to_pylist()
        visitors = f"SELECT {sql.identifier(key)} FROM {placed}"
        events = part.query(
            f"SELECT * FROM {part.events} "
            f"WHERE {property_sql(key_property(group), sql)} IN ({visitors})"
        ).to_pylist()
    if not anchors:
        raise DataError(
            f"no moment to score since {since:%Y-%m-%d %H:%M} UTC: the events end before. Choose "
            "an earlier one; in notebook 05, more DAYS."
        )
    source = PastAttributes(group, [event for event in events if received(event)])
    scorer = Loaded.of(model)
    attributes = AttributeCache(source, fresh_seconds=0, stale_seconds=0)
    predictor = Predictor(lambda: scorer, attributes, key=key, explain=False)
    log = ServedLog(folder, keep_days=3650)
    digest = group_hash(group)
    for anchor in anchors:
        source.at = anchor["anchor_ts"].replace(tzinfo=UTC)
        answer = predictor.predict(anchor[key], source.at).model_dump_json().encode()
        keys = {key: anchor[key], "group": group.name, "group_hash": digest}
        log.append(json.dumps(keys)[:-1].encode() + b"," + answer[1:], source.at)
    log.close()
    return len(anchors)
