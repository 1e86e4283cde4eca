"""Audit served scores: is each attribute value the one that training would have seen?

Every served moment is an anchor. The training set's compiler recomputes the attributes there
from the warehouse, and each value that differs gets a cause: see
:data:`prospect_lib.monitoring.causes.CAUSES`.

Example: ``audit(warehouse, read_served(home / "served", group), group).summary()``
-> ``"2,000 scores, 38,000 values: every value is the one that training sees."``
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.errors import counted
from prospect_lib.monitoring.causes import CAUSES, DEFINITION, EXPECTED_CAUSES, UNEXPLAINED
from prospect_lib.monitoring.keyed_events import served_events
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.search import Explanation, Search
from prospect_lib.monitoring.served_scores import check_moments, check_served
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.training_set.available import Available
from prospect_lib.warehouse import Warehouse

EXIT_CLEAN, EXIT_ATTENTION, EXIT_WRONG = 0, 12, 13
TOLERATED = 0.01  # share of scores that may have values from before a late or recent event
_EXAMPLES_PER_CAUSE = 5


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        scores: number of served scores that were compared.
        values: number of attribute values that were compared.
        since, until: when the first and the last of them were served (UTC, without zone).
        attributes: per attribute: ``mismatches``, ``rate`` and a count per cause.
        causes: per cause: number of scores with at least one mismatch of it.
        examples: a few mismatches per cause: ``cause``, the key, ``anchor_ts``, ``attribute``,
            ``served``, ``recomputed``.
        findings: what is wrong, one sentence each.
        explanations: each cause that was found, with how many values it explains.
        tolerated: share of scores that may have late events or values some seconds old.
    """

    scores: int
    values: int
    since: datetime
    until: datetime
    attributes: pd.DataFrame
    causes: Mapping[str, int]
    examples: pd.DataFrame
    findings: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    tolerated: float = TOLERATED

    @property
    def exit_code(self) -> int:
        """0: nothing to do; 12: more late or old values than tolerated; 13: wrong values."""
        if any(count for cause, count in self.causes.items() if cause not in EXPECTED_CAUSES):
            return EXIT_WRONG
        expected = max((self.causes.get(cause, 0) for cause in EXPECTED_CAUSES), default=0)
        return EXIT_ATTENTION if expected > self.tolerated * self.scores else EXIT_CLEAN

    def label(self, cause: str) -> str:
        """Return a cause with what went wrong, as pictures, tables and captions name it."""
        sentences = [e.sentence.rstrip(".") for e in self.explanations if e.cause == cause]
        return ": ".join([cause, "; ".join(sentences)]) if sentences else cause

    def summary(self) -> str:
        """Return the result in one line."""
        total = f"{counted(self.scores, 'score')}, {counted(self.values, 'value')}"
        wrong = int(self.attributes["mismatches"].sum())
        if not wrong:
            return f"{total}: every value is the one that training sees."
        counts = ", ".join(f"{cause} {count:,}" for cause, count in self.causes.items() if count)
        return f"{total}: {wrong:,} differ ({wrong / self.values:.2%}). Scores by cause: {counts}."


def audit(
    warehouse: Warehouse,
    served: pa.Table,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    *,
    published: AttributeGroup | None = None,
    known_since: datetime | None = None,
    tolerated: float = TOLERATED,
) -> AuditReport:
    """Recompute what was served and report what differs and why.

    Args:
        warehouse: holds the events.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
        problem: whose scores were served, or its attribute group.
        published: the group as Signals has it now; attributes that it defines differently
            are reported.
        known_since: when Signals began to count (aware): the publishing or backfill date.
        tolerated: share of scores that may have late events or values some seconds old.
    Raises:
        DefinitionError: an attribute cannot be compiled.
        DataError: ``served`` are scores of another key.
        ServiceError: the warehouse refuses a statement.
    """
    problem = problem_of(problem)
    group, key = problem.group, check_served(warehouse, served, problem.group)
    check_moments(known_since=known_since)
    available = Available.of(problem, warehouse.columns())
    with (
        served_events(warehouse, served, problem) as events,
        Recomputation(events, available.group, served) as recomputation,
    ):
        recomputation.compare()
        changed = changed_attributes(group, published) if published else []
        by_name = {a.name: a for a in published.attributes or []} if published else {}
        search = Search(
            recomputation,
            group,
            known_since=known_since,
            published={str(n): by_name[n] for n in changed if n in by_name},
            changed=changed,
        )
        explanations = search.run()
        mismatches = recomputation.frame(
            f'SELECT m.*, s."{key}", s.anchor_ts FROM mismatches AS m '
            "JOIN served AS s USING (served_row) ORDER BY served_row, attribute"
        )
    names = [attribute.name for attribute in available.group.attributes or []]
    scores = served.num_rows
    counts = mismatches.groupby("cause")["served_row"].nunique()
    columns = ["cause", key, "anchor_ts", "attribute", "served", "recomputed"]
    examples = mismatches.groupby("cause").head(_EXAMPLES_PER_CAUSE)[columns]
    window = pc.min_max(served["anchor_ts"]).as_py()
    return AuditReport(
        scores=scores,
        values=scores * len(names),
        since=window["min"],
        until=window["max"],
        attributes=_by_attribute(mismatches, names, scores),
        causes={cause: int(counts.get(cause, 0)) for cause in CAUSES},
        examples=examples.sort_values("cause", ignore_index=True),
        findings=(
            *_findings(explanations, mismatches, changed, tolerated, scores),
            *available.notes(),
        ),
        explanations=tuple(explanations),
        tolerated=tolerated,
    )


def changed_attributes(group: AttributeGroup, other: AttributeGroup) -> list[str]:
    """Return names of attributes of ``group`` that ``other`` lacks or defines differently."""
    hashes = {attribute.name: _hash(group, attribute) for attribute in group.attributes or []}
    others = {attribute.name: _hash(group, attribute) for attribute in other.attributes or []}
    return [name for name, value in hashes.items() if others.get(name) != value]


def _hash(group: AttributeGroup, attribute: Attribute) -> str:
    return group_hash(group.model_copy(update={"attributes": [attribute]}))


def _by_attribute(mismatches: pd.DataFrame, names: list[str], scores: int) -> pd.DataFrame:
    table = pd.DataFrame()
    if len(mismatches):
        table = pd.crosstab(mismatches["attribute"], mismatches["cause"])
    table = table.reindex(index=names, columns=list(CAUSES), fill_value=0).astype(int)
    table.insert(0, "mismatches", table.sum(axis=1))
    table.insert(1, "rate", table["mismatches"] / scores)
    return table


def _findings(
    explanations: list[Explanation],
    mismatches: pd.DataFrame,
    changed: list[str],
    tolerated: float,
    scores: int,
) -> list[str]:
    """Return one sentence per explanation; expected causes only beyond what is tolerated."""
    findings, total = list[str](), len(mismatches)
    rows = mismatches.groupby("cause")["served_row"].nunique()
    if changed and not any(e.cause == DEFINITION for e in explanations):
        names = ", ".join(changed)
        findings.append(f"{DEFINITION.capitalize()}: Signals now defines {names} differently.")
    for e in explanations:
        if e.cause not in EXPECTED_CAUSES or rows[e.cause] > tolerated * scores:
            share = f"It explains {e.values:,} of {total:,} values that differ."
            findings.append(f"{e.cause.capitalize()}: {e.sentence} {share}")
    if left := int((mismatches["cause"] == UNEXPLAINED).sum()):
        findings.append(
            f"{UNEXPLAINED.capitalize()}: no cause explains {left:,} of {total:,} values that "
            "differ. Look at the examples."
        )
    return findings
