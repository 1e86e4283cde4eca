"""Past visits scored again as if they were live: a log of served scores without the waiting.

On the simulated history every hour has passed, so outcomes are known at once; and a fault can
be planted in what Signals sees, to watch the audit find it.

Example: ``replay(warehouse, model, folder, since)`` -> 2,400, and ``folder`` has the log.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.server.attribute_cache import LiveProfiles
from prospect_lib.server.predictor import Loaded, Predictor
from prospect_lib.server.served_log import ServedLog
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set import SITE_ANCHORS
from prospect_lib.warehouse import Warehouse

Event = dict[str, Any]


class Past:
    """Attributes as a Signals that saw certain events would have had them at ``at``."""

    def __init__(
        self, group: AttributeGroup, events: list[Event], seen: Callable[[Event], bool]
    ) -> None:
        self._group = group
        self._events: dict[str, list[Event]] = {}
        self.at = datetime.max.replace(tzinfo=UTC)
        for event in events:
            if seen(event):
                self._events.setdefault(event["domain_userid"], []).append(event)

    def read(self, identifier: str) -> dict[str, Any]:
        """The attributes of one visitor at ``at``."""
        return attribute_values(self._group, self._events.get(identifier, []), self.at)


def replay(
    warehouse: Warehouse,
    model: ProspectModel,
    folder: Path,
    since: datetime,
    *,
    group: AttributeGroup = prospect_group,
    seen: Callable[[Event], bool] = lambda _event: True,
) -> int:
    """Write the log of the scores that the website would have asked for since a moment.

    Args:
        folder: of the log, like ``served`` in PROSPECT_HOME.
        since: aware; visitors who came later are scored at each of their moments.
        seen: which events Signals got; plant a fault here.
    Returns:
        How many scores were written.
    """
    placed = SITE_ANCHORS.sql(events=warehouse.events, dialect=warehouse.dialect)
    start = dialect_of(warehouse.dialect).literal(since)
    anchors = warehouse.query(f"SELECT * FROM ({placed}) AS a WHERE anchor_ts >= {start}")
    theirs = f"SELECT domain_userid FROM ({placed}) AS a WHERE anchor_ts >= {start}"
    events = warehouse.query(
        f"SELECT * FROM {warehouse.events} WHERE domain_userid IN ({theirs})"
    ).to_pylist()
    past, log = Past(group, events, seen), ServedLog(folder, keep_days=3650)
    live = LiveProfiles(past, fresh_seconds=0, stale_seconds=0)
    loaded, head = Loaded.of(model), b'"group_hash":"%s",' % group_hash(group).encode()
    predictor = Predictor(lambda: loaded, live, explain=False)
    for row in anchors.to_pylist():
        past.at = row["anchor_ts"].replace(tzinfo=UTC)
        answer = predictor.predict(row["domain_userid"], past.at).model_dump_json().encode()
        visitor = row["domain_userid"].encode()
        log.append(b'{"domain_userid":"%s",%s%s' % (visitor, head, answer[1:]), past.at)
    log.close()
    return int(anchors.num_rows)
