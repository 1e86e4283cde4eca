"""Audit what was served: is each value the one that training would have seen?

Every served moment is an anchor. The training set's compiler rebuilds the attributes there
from the warehouse, and each value that differs gets a kind: see ``KINDS``.

Example: ``audit(warehouse, read(home / "served", group), group).summary()``
-> ``"2,000 scores, 38,000 values: all are what training sees."``
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.monitoring.clock import common_shift, moments_of_events
from prospect_lib.monitoring.recompute import Rebuilt
from prospect_lib.monitoring.suspects import missing_events
from prospect_lib.sql.dialects import literal
from prospect_lib.warehouse import Warehouse

LATE, FRESH, DEFINITION = "late events", "freshness", "definition"
HISTORY, CLOCK, UNEXPLAINED = "not backfilled", "clock", "unexplained"
#: Each kind of mismatch, and what to do about it.
KINDS = {
    LATE: "Events happened before the score and arrived after it. Trackers that send later, or a "
    "busy collector: nothing to do unless the share grows; then train on what had arrived.",
    FRESH: "Signals, or the server's memory, was some seconds behind. Ask a moment later after an "
    "event, or lower Options(fresh_seconds=).",
    DEFINITION: "The attributes were defined otherwise when they were served. Publish the group "
    "again, or train a model on the definition that is served.",
    HISTORY: "These visitors had a history that Signals could not know. Publish the group with "
    "backfill_since_tstamp, or train on events since the publishing only.",
    CLOCK: "The scoring moment is wrong by the same amount again and again. Set the server's clock "
    "(NTP), and score in UTC.",
    UNEXPLAINED: "No known cause. Look at the examples: events that one side never saw, or a bug.",
}
EXPECTED = (LATE, FRESH)
CLEAN, WATCH, WRONG = 0, 12, 13
TOLERATED = 0.01  # share of scores that may meet late events or old values
FRESHNESS = tuple(timedelta(seconds=s) for s in (-60, -30, -10, -5, -2, -1, -0.3, 0.3, 1, 2))
_BEHIND, _AHEAD = -FRESHNESS[0], FRESHNESS[-1]  # further off, it is the clock
_EXAMINED, _ENOUGH = 400, 5  # rows a wrong clock is looked for in; rows it takes to say so


@dataclass(frozen=True)
class AuditReport:
    """What the audit found.

    Attributes:
        scores: how many served scores were compared.
        values: how many attribute values that were.
        since, until: the first and the last of them (UTC).
        attributes: by attribute: ``mismatches``, ``rate``, and a count for each kind.
        kinds: scores with at least one mismatch of the kind.
        examples: a few mismatches a kind: visitor, moment, attribute, served, rebuilt.
        findings: what is wrong, in words.
        clock: how far the scoring moments are off, where they are.
    """

    scores: int
    values: int
    since: datetime
    until: datetime
    attributes: pd.DataFrame
    kinds: Mapping[str, int]
    examples: pd.DataFrame
    findings: tuple[str, ...] = ()
    clock: timedelta | None = None
    tolerated: float = TOLERATED
    mismatches: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    @property
    def exit_code(self) -> int:
        """0: nothing to do; 12: more late or old values than tolerated; 13: wrong values."""
        if any(count for kind, count in self.kinds.items() if kind not in EXPECTED):
            return WRONG
        expected = max((self.kinds.get(kind, 0) for kind in EXPECTED), default=0)
        return WATCH if expected > self.tolerated * self.scores else CLEAN

    def summary(self) -> str:
        """The outcome in one line, for people."""
        head = f"{self.scores:,} scores, {self.values:,} values"
        wrong = int(self.attributes["mismatches"].sum())
        if not wrong:
            return f"{head}: all are what training sees."
        counts = ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.items() if count)
        return f"{head}: {wrong:,} differ ({wrong / self.values:.2%}). Scores by cause: {counts}."


def audit(
    warehouse: Warehouse,
    served: pa.Table,
    group: AttributeGroup = prospect_group,
    *,
    published: AttributeGroup | None = None,
    known_since: datetime | None = None,
    tolerated: float = TOLERATED,
) -> AuditReport:
    """Rebuild what was served and say what differs, and why.

    Args:
        served: as :func:`prospect_lib.monitoring.served_scores.read` gives it for the same group.
        published: the group as Signals has it now; attributes defined otherwise are named.
        known_since: since when Signals counts (aware): its publishing or backfill date.
        tolerated: share of scores that may meet late events or values some seconds old.
    Raises:
        DefinitionError: an attribute cannot be compiled.
        ServiceError: the warehouse refuses a statement.
    """
    rebuilt = Rebuilt(warehouse, group, served)
    try:
        changed = changed_attributes(group, published) if published else []
        _by_definition(rebuilt, changed)
        _by_arrival(rebuilt)
        _by_freshness(rebuilt)
        if known_since is not None:
            _by_history(rebuilt, known_since)
        clock = _by_clock(rebuilt)
        rebuilt.explain(UNEXPLAINED, "TRUE")
        return _report(rebuilt, changed, clock, tolerated)
    finally:
        rebuilt.close()


def changed_attributes(group: AttributeGroup, other: AttributeGroup) -> list[str]:
    """Attributes of ``group`` that ``other`` defines otherwise, or not at all."""
    theirs = {a.name: _alone(group, a) for a in other.attributes or []}
    mine = {a.name: _alone(group, a) for a in group.attributes or []}
    return [name for name, definition in mine.items() if theirs.get(name) != definition]


def _alone(group: AttributeGroup, attribute: Attribute) -> str:
    return group_hash(group.model_copy(update={"attributes": [attribute]}))


def _by_definition(rebuilt: Rebuilt, changed: list[str]) -> None:
    places = [str(rebuilt.names.index(name)) for name in changed]
    if places:
        rebuilt.explain(DEFINITION, f"place IN ({', '.join(places)})")
    other = f"group_hash <> '{group_hash(rebuilt.group)}'"
    rebuilt.explain(DEFINITION, f"served_row IN (SELECT served_row FROM was WHERE {other})")
    for place, name in enumerate(rebuilt.names):
        lacking = f"SELECT served_row FROM was WHERE list_contains(lacks, {literal(name)})"
        rebuilt.explain(DEFINITION, f"place = {place} AND served_row IN ({lacking})")


def _by_arrival(rebuilt: Rebuilt) -> None:
    rows = rebuilt.open_rows()
    late = rebuilt.known_then(rows) if rows.num_rows else rows
    if late.num_rows:
        rebuilt.rebuild_known("known", late)
        rebuilt.explain_equal(LATE, "known")


def _by_freshness(rebuilt: Rebuilt) -> None:
    rebuilt.explain(FRESH, "served_row IN (SELECT served_row FROM was WHERE stale)")
    rows = rebuilt.open_rows()
    if rows.num_rows:
        rebuilt.now("moved", rows, shifts=FRESHNESS)
        equal = f"SELECT served_row FROM ({rebuilt.equal_rows('moved')})"
        rebuilt.explain(FRESH, f"served_row IN ({equal})")
    if (rows := rebuilt.open_rows()).num_rows:  # of a moment between those, then
        rebuilt.place("moved", moments_of_events(rebuilt, rows, _BEHIND))
        equal, most = rebuilt.equal_rows("moved"), _AHEAD // timedelta(microseconds=1)
        rebuilt.explain(
            FRESH, f"served_row IN (SELECT served_row FROM ({equal}) WHERE shift <= {most})"
        )


def _by_history(rebuilt: Rebuilt, since: datetime) -> None:
    rows = rebuilt.open_rows()
    if rows.num_rows:
        rebuilt.rebuild_since("known", rows, since)
        rebuilt.explain_equal(HISTORY, "known")


def _by_clock(rebuilt: Rebuilt) -> timedelta | None:
    """One shift that makes most of the unexplained rows right, if there is one."""
    rows = rebuilt.open_rows(limit=_EXAMINED)
    if rows.num_rows < _ENOUGH:
        return None
    shift, share = common_shift(rebuilt, rows)
    if share < 0.5:
        return None
    rebuilt.now("moved", rebuilt.open_rows(), shifts=(shift,))
    equal = f"SELECT served_row FROM ({rebuilt.equal_rows('moved')})"
    rebuilt.explain(CLOCK, f"served_row IN ({equal})")
    return -shift


def _report(
    rebuilt: Rebuilt, changed: list[str], clock: timedelta | None, tolerated: float
) -> AuditReport:
    found = rebuilt.frame(
        "SELECT m.*, w.domain_userid, w.anchor_ts FROM mismatches AS m JOIN was AS w "
        "USING (served_row) ORDER BY served_row, place"
    )
    found["attribute"] = [rebuilt.names[place] for place in found["place"]]
    scores = rebuilt.table.num_rows
    table = pd.crosstab(found["attribute"], found["kind"]) if len(found) else pd.DataFrame()
    table = table.reindex(index=rebuilt.names, columns=list(KINDS), fill_value=0).astype(int)
    table.insert(0, "mismatches", table.sum(axis=1))
    table.insert(1, "rate", table["mismatches"] / scores)
    kinds = found.groupby("kind")["served_row"].nunique()
    shown = ["kind", "domain_userid", "anchor_ts", "attribute", "served", "rebuilt"]
    window = pc.min_max(rebuilt.table["anchor_ts"]).as_py()
    return AuditReport(
        scores=scores,
        values=scores * len(rebuilt.names),
        since=window["min"],
        until=window["max"],
        attributes=table,
        kinds={kind: int(kinds.get(kind, 0)) for kind in KINDS},
        examples=found.groupby("kind").head(5)[shown].sort_values("kind", ignore_index=True),
        findings=_findings(rebuilt, found, changed, clock),
        clock=clock,
        tolerated=tolerated,
        mismatches=found,
    )


def _findings(
    rebuilt: Rebuilt, found: pd.DataFrame, changed: list[str], clock: timedelta | None
) -> tuple[str, ...]:
    said = []
    if changed:
        said.append(f"Changed definition: Signals defines {', '.join(changed)} otherwise.")
    elif names := sorted(set(found.loc[found["kind"] == DEFINITION, "attribute"])):
        said.append(f"Changed definition: {', '.join(names)} were served under another one.")
    if clock is not None:
        way = "ahead" if clock > timedelta() else "behind"
        said.append(f"Wrong clock: the scoring moments are about {_length(clock)} {way}.")
    said += missing_events(rebuilt.group, found[found["kind"] == UNEXPLAINED])
    return tuple(said)


def _length(time: timedelta) -> str:
    seconds = round(abs(time).total_seconds())
    return f"{seconds} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
