"""``python -m prospect_lib audit``: is what was served right, did it come true, who comes now?

The command line, a scheduler and notebook 05 run this. It writes ``audit.html`` and ends
with a code: 0 nothing to do; 12 look at it (late or old values beyond what is tolerated, or
drift); 13 wrong values were served.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup, StreamAttributeGroup

from prospect_lib import signals
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ModelError
from prospect_lib.files import write_whole
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_path
from prospect_lib.monitoring.audit import CLEAN, TOLERATED, WATCH, AuditReport, audit
from prospect_lib.monitoring.backfill import Backfill, backfill
from prospect_lib.monitoring.drift import SCORE, CoolDown, DriftReport, drift
from prospect_lib.monitoring.outcomes import Outcomes, outcomes
from prospect_lib.monitoring.served_scores import read, read_features
from prospect_lib.reports.audit_report import audit_html
from prospect_lib.settings import Settings
from prospect_lib.warehouse import Warehouse, open_warehouse
from prospect_lib.warehouse.tables import write_temporary

PAGE = "audit.html"


@dataclass(frozen=True)
class Watch:
    """What to look at.

    Attributes:
        since: no score is earlier (aware); ``None`` is the beginning of the log.
        until: the first moment left out.
        tolerated: share of scores that may meet late events or values some seconds old.
        published: compare with the group that Signals has now; ``None`` does without.
        known_since: from when on Signals counts; by default the published backfill date.
        out: the folder of the page, by default ``audit`` in PROSPECT_HOME.
    """

    since: datetime | None = None
    until: datetime | None = None
    tolerated: float = TOLERATED
    published: AttributeGroup | None = None
    known_since: datetime | None = None
    out: Path | None = None
    group: StreamAttributeGroup = field(default_factory=lambda: prospect_group)


@dataclass(frozen=True)
class Found:
    """All that one run found; what cannot be known yet is ``None``."""

    report: AuditReport
    outcomes: Outcomes | None
    drift: DriftReport | None
    due: tuple[str, ...]
    backfill: Backfill | None
    page: Path

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 12 look at it, 13 wrong values were served."""
        return max(self.report.exit_code, WATCH if self.due else CLEAN)

    def told(self) -> list[str]:
        """What was found, for people, and in the last line for a scheduler."""
        parts = (self.outcomes, self.drift, self.backfill)
        advice = self.drift.advice() if self.drift and self.due else []
        counts = {kind: count for kind, count in self.report.kinds.items() if count}
        facts = {
            "exit_code": self.exit_code,
            "scores": self.report.scores,
            "mismatches": int(self.report.attributes["mismatches"].sum()),
            "kinds": counts,
            "drift": list(self.due),
        }
        return [
            self.report.summary(),
            *self.report.findings,
            *(part.summary() for part in parts if part is not None),
            *advice,
            f"See {self.page}",
            json.dumps(facts),
        ]


def run(settings: Settings, watch: Watch, *, say: Callable[[str], None] = print) -> Found:
    """Audit the log of served scores, look at outcomes and drift, write the page.

    Raises:
        DataError: nothing was served, or there are no events.
    """
    folder, group = settings.home / "served", watch.group
    served = read(folder, group, since=watch.since, until=watch.until)
    published = watch.published or _published(settings, group)
    since = watch.known_since or getattr(published, "backfill_since_tstamp", None)
    since = since and (since if since.tzinfo else since.replace(tzinfo=UTC))
    warehouse = open_warehouse(settings)
    try:
        report = audit(
            warehouse, served, group,
            published=published, known_since=since, tolerated=watch.tolerated,
        )  # fmt: skip
        model = _promoted(settings)
        moved = _drift(warehouse, folder, watch, model) if model else None
        calm = CoolDown(settings.home / "audit" / "alarms.json")
        due = calm.due(moved, datetime.now(UTC)) if moved else []
        past = since and backfill(warehouse, served, since, group=group, model=model)
        found = Found(
            report, _outcomes(warehouse, served, group), moved, tuple(due), past or None,
            (watch.out or settings.home / "audit") / PAGE,
        )  # fmt: skip
    finally:
        warehouse.close()
    write_whole(found.page, audit_html(found.report, found.outcomes, found.drift, past))
    for line in found.told():
        say(line)
    return found


def _published(settings: Settings, group: AttributeGroup) -> AttributeGroup | None:
    """The group as Signals has it; ``None`` where Signals cannot be asked."""
    try:
        found = signals.connect(settings).get_attribute_group(group.name, group.version)
    except Exception:  # noqa: BLE001 - the SDK raises whatever HTTP gives
        return None
    fields = {"attributes": found.attributes or [], "ttl": found.ttl}
    since = {"backfill_since_tstamp": getattr(found, "backfill_since_tstamp", None)}
    return group.model_copy(update={**fields, **since})


def _promoted(settings: Settings) -> ProspectModel | None:
    try:
        return ProspectModel.load(promoted_path(settings.home / "models"))
    except (OSError, ModelError):
        return None


def _outcomes(warehouse: Warehouse, served: pa.Table, group: AttributeGroup) -> Outcomes | None:
    try:
        return outcomes(warehouse, served, key=group.attribute_key.name or "domain_userid")
    except DataError:
        return None


def _drift(
    warehouse: Warehouse, folder: Path, watch: Watch, model: ProspectModel
) -> DriftReport | None:
    """Served features against the rows the model was trained on, built again by their SQL."""
    about = model.manifest["training_set"]
    if about is None:
        return None
    features = model.features
    served = read_features(folder, features, since=watch.since, until=watch.until).to_pandas()
    rows = warehouse.query(f"SELECT * FROM ({about['sql']}) AS t")
    table = rows.to_pandas().assign(**{SCORE: model.predict(rows)})
    table["anchor_ts"] = pd.to_datetime(table["anchor_ts"], utc=True)
    served["anchor_ts"] = pd.to_datetime(served["anchor_ts"], utc=True)
    table = table[table["anchor_ts"] <= pd.Timestamp(about["until"]).tz_convert("UTC")]
    return drift(table, served)


def train_on_served(
    warehouse: Warehouse,
    settings: Settings,
    group: AttributeGroup,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """Make the served moments with a known outcome a relation of anchors.

    ``extract(warehouse, group, anchors=train_on_served(warehouse, settings, group))`` is
    then a training set of exactly the moments that get scored.

    Returns:
        The relation's name: key, ``anchor_ts``, ``label``.
    Raises:
        DataError: nothing was served, or no outcome is known yet.
    """
    key = group.attribute_key.name or "domain_userid"
    served = read(settings.home / "served", group, since=since, until=until)
    found = outcomes(warehouse, served, key=key).rows
    found = found.drop_duplicates(["domain_userid", "anchor_ts"])
    table = {
        key: pa.array(found["domain_userid"], pa.string()),
        "anchor_ts": pa.array(found["anchor_ts"].to_numpy("datetime64[us]")),
        "label": pa.array(found["label"].to_numpy(bool)),
    }
    return write_temporary(warehouse, "served_moments", pa.table(table))
