"""Score past visits as if they were live, to have a log of served scores at once.

The horizon of past visits has passed, so their outcomes are known. Events that Signals
"did not receive" plant a fault for the audit to find.

Example: ``replay(warehouse, model, folder, since)`` -> 2,400 scores in the log of ``folder``
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.server.attribute_cache import AttributeCache
from prospect_lib.server.predictor import Loaded, Predictor
from prospect_lib.server.served_log import ServedLog
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set import SITE_ANCHORS
from prospect_lib.warehouse import Warehouse

AtomicEvent = dict[str, Any]


class PastAttributes:
    """A source of attributes as they were at the moment ``at``, which the caller sets.

    Args:
        group: the attributes to compute.
        events: of all visitors, with ``domain_userid``.
    """

    def __init__(self, group: AttributeGroup, events: list[AtomicEvent]) -> None:
        self._group = group
        self._events: dict[str, list[AtomicEvent]] = {}
        self.at = datetime.max.replace(tzinfo=UTC)
        for event in events:
            self._events.setdefault(event["domain_userid"], []).append(event)

    def read(self, identifier: str) -> dict[str, Any]:
        """Return the attributes of one visitor at ``at``."""
        return attribute_values(self._group, self._events.get(identifier, []), self.at)


def replay(
    warehouse: Warehouse,
    model: ProspectModel,
    folder: Path,
    since: datetime,
    *,
    group: AttributeGroup = prospect_group,
    received: Callable[[AtomicEvent], bool] = lambda _event: True,
) -> int:
    """Write the log of the scores that the website would have requested since a moment.

    Args:
        warehouse: holds the events.
        model: computes the scores.
        folder: of the log files, as ``served`` in PROSPECT_HOME.
        since: the first moment to score (aware).
        group: the attributes to serve.
        received: whether Signals received an event; the place to plant a fault.
    Returns:
        The number of scores written.

    Example::

        lost = lambda event: event["event_name"] != "page_ping"
        replay(warehouse, model, folder, since, received=lost)
    """
    start = dialect_of(warehouse.dialect).literal(since)
    placed = SITE_ANCHORS.sql(
        events=warehouse.events, dialect=warehouse.dialect, columns=warehouse.columns()
    )
    recent = f"FROM ({placed}) AS a WHERE anchor_ts >= {start}"
    anchors = warehouse.query(f"SELECT * {recent}").to_pylist()
    events = warehouse.query(
        f"SELECT * FROM {warehouse.events} WHERE domain_userid IN (SELECT domain_userid {recent})"
    ).to_pylist()
    source = PastAttributes(group, [event for event in events if received(event)])
    scorer = Loaded.of(model)
    attributes = AttributeCache(source, fresh_seconds=0, stale_seconds=0)
    predictor = Predictor(lambda: scorer, attributes, explain=False)
    log = ServedLog(folder, keep_days=3650)
    digest = group_hash(group)
    for anchor in anchors:
        source.at = anchor["anchor_ts"].replace(tzinfo=UTC)
        answer = predictor.predict(anchor["domain_userid"], source.at).model_dump_json().encode()
        keys = {"domain_userid": anchor["domain_userid"], "group_hash": digest}
        log.append(json.dumps(keys)[:-1].encode() + b"," + answer[1:], source.at)
    log.close()
    return len(anchors)
