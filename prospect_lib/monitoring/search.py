"""Find what went wrong: test every hypothesis, name the one that explains most, and go on.

A hypothesis is tested by recomputing values as they would be if it were true. It must explain
values that differ, and must not break values that agree. All are tested on a small sample of
served rows, the best of them on a larger one, and the winner on all. What it explains is removed;
the next one is tested on top of it, so that several independent faults are found.

Example: ``Search(recomputation).run()`` ->
``[Explanation("event type", "Signals did not count events page_ping.", 412)]``
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.monitoring.causes import (
    CAUSES,
    DEFINITION,
    EXPECTED_CAUSES,
    FRESHNESS,
    UNEXPLAINED,
)
from prospect_lib.monitoring.counterfactuals import (
    MOST_BROKEN,
    Counterfactuals,
    Sample,
    Tested,
    best_moments,
)
from prospect_lib.monitoring.facts import Facts, facts_of
from prospect_lib.monitoring.hypotheses import Hypothesis, hypotheses
from prospect_lib.monitoring.keyed_events import KEY
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.served_scores import ROW
from prospect_lib.sql.dialects import dialect_of

_SMALL, _LARGE = (24, 24), (300, 300)  # rows of a sample: with open mismatches, and others
_SHORTLIST, _MOST_FAULTS = 6, 8
_ENOUGH = 0.98  # of what is open: nothing better needs to be tested


@dataclass(frozen=True)
class Explanation:
    """A cause, what went wrong, and how many values it explains."""

    cause: str
    sentence: str
    values: int


class Search:
    """The search for the causes of a recomputation's mismatches.

    Args:
        recomputation: whose mismatches get their causes.
        known_since: when Signals began to count.
        published: attributes that Signals defines differently, by name.
        group: all that was served, of which the recomputation may have a part.
    """

    def __init__(
        self,
        recomputation: Recomputation,
        group: AttributeGroup,
        *,
        known_since: datetime | None = None,
        published: Mapping[str, Attribute] | None = None,
        changed: Sequence[str] = (),
    ) -> None:
        self.recomputation, self.group = recomputation, group
        self.known_since, self.published, self.changed = known_since, published or {}, changed
        self.world = Counterfactuals(recomputation)
        self.rejected = set[str]()

    def run(self) -> list[Explanation]:
        """Give a cause to every mismatch; return what was found, in that order."""
        explanations = list[Explanation]()
        if not self._count_open():
            return []
        self._explain_not_served(explanations)
        while self._count_open() and len(explanations) + len(self.rejected) < _MOST_FAULTS:
            tested = self._best()
            self.recomputation.drop_temporary()
            if tested is None:
                break
            h = tested.hypothesis
            if count := self._apply(h):
                explanations.append(Explanation(h.cause, h.sentence, count))
            else:
                self.rejected.add(h.sentence)
            self.recomputation.drop_temporary()
        self._explain_by_log(explanations)
        self.recomputation.explain(UNEXPLAINED)
        return _merged(explanations)

    # --- what the log itself says ------------------------------------------------------------

    def _explain_not_served(self, explanations: list[Explanation]) -> None:
        rows = "SELECT served_row FROM served AS s WHERE list_contains(not_served, attribute)"
        condition = f"EXISTS ({rows} AND s.served_row = mismatches.served_row)"
        self._explain(explanations, DEFINITION, condition, "{} were not served at all.")

    def _explain_by_log(self, explanations: list[Explanation]) -> None:
        local = dialect_of("duckdb")
        rows = "served_row IN (SELECT served_row FROM served WHERE {})"
        other = rows.format(f"group_hash <> {local.text(group_hash(self.group))}")
        names = ", ".join(map(local.text, self.changed)) or "NULL"
        condition = f"{other} OR attribute IN ({names})"
        self._explain(
            explanations, DEFINITION, condition, "{} were served under a different definition."
        )
        self._explain(
            explanations, FRESHNESS, rows.format("stale"), "{} were stale in the server's cache."
        )

    def _explain(
        self, explanations: list[Explanation], cause: str, condition: str, sentence: str
    ) -> None:
        names = self.recomputation.frame(
            f"SELECT DISTINCT attribute FROM mismatches WHERE cause IS NULL AND ({condition}) "
            "ORDER BY attribute"
        )["attribute"]
        if count := self.recomputation.explain(cause, condition):
            explanations.append(Explanation(cause, sentence.format(", ".join(names)), count))

    # --- one round ---------------------------------------------------------------------------

    def _best(self) -> Tested | None:
        sample = self.world.sample(*_SMALL)
        facts = self._facts(sample)
        every = [h for h in hypotheses(facts) if h.sentence not in self.rejected]
        expected = [h for h in every if h.cause in EXPECTED_CAUSES]
        others = [h for h in every if h.cause not in EXPECTED_CAUSES]
        tested = self.world.test(expected, sample)
        enough = _ENOUGH * sample.open_values.sum()
        stages: list[Callable[[], list[Hypothesis]]] = [
            lambda: [h for h in others if not h.attributes],
            lambda: self.world.moved(sample),
            lambda: [h for h in others if h.attributes],
        ]
        for candidates in stages:
            if max((t.score for t in tested), default=0.0) < enough:
                tested += self.world.test(candidates(), sample)
        tested = [t for t in tested if t.is_accepted or (t.score > 0 and not sample.is_everything)]
        tested = sorted(tested, key=lambda t: -t.score)[:_SHORTLIST]
        if not sample.is_everything and tested:
            shortlist = [t.hypothesis for t in tested]
            tested = self.world.test(shortlist, self.world.sample(*_LARGE))
        accepted = [t for t in tested if t.is_accepted]
        order = list(CAUSES)
        return min(
            accepted,
            key=lambda t: (-round(t.score, 6), order.index(t.hypothesis.cause)),
            default=None,
        )

    def _facts(self, sample: Sample) -> Facts:
        self._write_without_events()
        facts = facts_of(
            self.recomputation, self.world.stored, sample.events, sample.open["visitor"]
        )
        return replace(facts, known_since=self.known_since, published=self.published)

    def _write_without_events(self) -> None:
        """Write the open rows of visitors without an event into ``served_without_events``."""
        recomputation = self.recomputation
        anchors = recomputation.write(self.world.anchors(self.world.open_rows()))
        key = self.world.sql.identifier(recomputation.key)
        known = f"SELECT e.{KEY} FROM ({self.world.stored}) AS e WHERE e.{KEY} IS NOT NULL"
        rows = recomputation.warehouse.query(
            f"SELECT a.{ROW} AS served_row FROM {anchors} AS a WHERE a.{key} NOT IN ({known})"
        )
        recomputation.register("served_without_events", rows.to_pandas())

    # --- the winner --------------------------------------------------------------------------

    def _apply(self, h: Hypothesis) -> int:
        """Give its cause to what a hypothesis explains in all rows; return how many values."""
        if h.evidence:
            return self.recomputation.explain(h.cause, h.evidence)
        if h.by_row:
            return self._apply_by_row(h)
        recomputation = self.recomputation
        rows = self.world.moved_rows(h, self.world.rows)
        events = h.events.replace("{events}", f"({self.world.events})")
        definitions = self.world.definitions | dict(h.attributes)
        group = self.world.changed_group(h.attributes)
        recomputation.recompute("cases", self.world.anchors(rows), f"({events})", group)
        recomputation.judge("cases")
        total = recomputation.frame(
            "SELECT SUM(CAST(explained AS INT)) AS explained, SUM(CAST(broken AS INT)) AS broken "
            "FROM verdicts"
        ).iloc[0]
        if total["broken"] > 2 * MOST_BROKEN * total["explained"]:
            return 0
        count = self._assign(h.cause)
        if count:
            recomputation.run("DROP TABLE current")
            recomputation.run("ALTER TABLE cases RENAME TO current")
            self.world.rows, self.world.events, self.world.definitions = rows, events, definitions
        return count

    def _apply_by_row(self, h: Hypothesis) -> int:
        recomputation, rows = self.recomputation, self.world.open_rows()
        events = recomputation.write_events(self.world.events, self.world.anchors(rows))
        if h.within:
            self.world.recompute_near(rows, events, *h.within)
        else:
            rows = rows.assign(open=True, weight=1.0)
            self.world.recompute_cases({0: h}, Sample(rows, events, pd.Series()))
        best = best_moments(self.world.by_moment())[["served_row", "anchor_ts"]]
        recomputation.register("best", best)
        count = self._assign(h.cause, "SEMI JOIN best USING (served_row, anchor_ts)")
        if h.within:  # what follows is tested at these moments
            in_best = "served_row IN (SELECT served_row FROM best)"
            recomputation.run(f"DELETE FROM current WHERE {in_best}")
            recomputation.run(
                "INSERT INTO current SELECT DISTINCT * FROM cases "
                "SEMI JOIN best USING (served_row, anchor_ts)"
            )
            moved = self.world.rows["served_row"].map(best.set_index("served_row")["anchor_ts"])
            self.world.rows = self.world.rows.assign(
                anchor_ts=moved.fillna(self.world.rows["anchor_ts"])
            )
        return count

    def _assign(self, cause: str, join: str = "") -> int:
        explained = f"SELECT served_row, attribute FROM verdicts {join} WHERE explained"
        return self.recomputation.explain(
            cause,
            f"EXISTS (SELECT 1 FROM ({explained}) AS v WHERE v.served_row = mismatches.served_row "
            "AND v.attribute = mismatches.attribute)",
        )

    def _count_open(self) -> int:
        frame = self.recomputation.frame("SELECT COUNT(*) AS n FROM mismatches WHERE cause IS NULL")
        return int(frame["n"].iloc[0])


def _merged(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Return explanations with one sentence as one."""
    merged = dict[str, Explanation]()
    for e in explanations:
        values = e.values + (merged[e.sentence].values if e.sentence in merged else 0)
        merged[e.sentence] = replace(e, values=values)
    return list(merged.values())
