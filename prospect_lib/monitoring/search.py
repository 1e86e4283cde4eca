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
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup, AttributeKey
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.errors import DefinitionError, ServiceError
from prospect_lib.monitoring.causes import (
    CAUSES,
    DEFINITION,
    EXPECTED_CAUSES,
    FRESHNESS,
    HISTORY,
    UNEXPLAINED,
)
from prospect_lib.monitoring.facts import Facts, facts_of
from prospect_lib.monitoring.hypotheses import (
    LONGEST_FROZEN,
    Hypothesis,
    clock,
    frozen,
    hypotheses,
)
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.served_scores import CASE, ROW
from prospect_lib.sql.dialects import dialect_of

_CASE_KEY = "audit_case_key"  # identifies a visitor in one hypothesis
_SMALL, _LARGE = (24, 24), (300, 300)  # rows of a sample: with open mismatches, and others
_SHORTLIST, _MOST_FAULTS = 6, 8
_MOST_BROKEN = 0.05  # of what a hypothesis explains
_MIN_ROWS = 3  # fewer are no evidence of a cause that concerns all
_MIN_SHARE = 0.5  # of the open values of some attribute
_FLEXIBLE = 0.9  # the weight of a hypothesis that fits many worlds
_ENOUGH = 0.98  # of what is open: nothing better needs to be tested
_MAX_CLOCK_ERROR = timedelta(hours=14)  # the largest difference of a time zone from UTC
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Explanation:
    """A cause, what went wrong, and how many values it explains."""

    cause: str
    sentence: str
    values: int


@dataclass(frozen=True)
class _Sample:
    """Served rows with their weights, their visitors' events in a table, and how many values of
    each attribute are open."""

    rows: pd.DataFrame
    events: str
    open_values: "pd.Series[float]"

    @property
    def open(self) -> pd.DataFrame:
        return self.rows[self.rows["open"]]

    @property
    def is_everything(self) -> bool:
        return bool((self.rows["weight"] == 1).all())


@dataclass(frozen=True)
class _Tested:
    """How many values a hypothesis explains and breaks, in how many rows, and the largest share
    of an attribute's open values that it explains."""

    hypothesis: Hypothesis
    explained: float = 0.0
    broken: float = 0.0
    rows: float = 0.0
    share: float = 0.0

    @property
    def score(self) -> float:
        score = self.explained - self.broken
        return score * _FLEXIBLE if self.hypothesis.is_flexible else score

    @property
    def is_accepted(self) -> bool:
        if not self.explained or self.broken > _MOST_BROKEN * self.explained:
            return False
        if self.hypothesis.cause in (*EXPECTED_CAUSES, HISTORY, DEFINITION):
            return True
        return self.rows >= _MIN_ROWS and self.share >= _MIN_SHARE


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
        self.sql = dialect_of(recomputation.warehouse.dialect)
        served = recomputation.served.select(["served_row", recomputation.key, "anchor_ts"])
        self.rows = served.rename_columns(["served_row", "visitor", "anchor_ts"]).to_pandas()
        self.rows["anchor_ts"] = self.rows["anchor_ts"].astype("datetime64[us]")
        self.definitions = dict[str, Attribute]()
        warehouse = recomputation.warehouse
        self.stored = f"SELECT * FROM {keyed_events(warehouse, recomputation.group)} AS e"
        self.events = self.stored  # without what an earlier explanation removed
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

    def _best(self) -> _Tested | None:
        sample = self._sample(*_SMALL)
        facts = self._facts(sample)
        every = [h for h in hypotheses(facts) if h.sentence not in self.rejected]
        expected = [h for h in every if h.cause in EXPECTED_CAUSES]
        others = [h for h in every if h.cause not in EXPECTED_CAUSES]
        tested = self._test(expected, sample)
        enough = _ENOUGH * sample.open_values.sum()
        stages: list[Callable[[], list[Hypothesis]]] = [
            lambda: [h for h in others if not h.attributes],
            lambda: self._moved(sample),
            lambda: [h for h in others if h.attributes],
        ]
        for candidates in stages:
            if max((t.score for t in tested), default=0.0) < enough:
                tested += self._test(candidates(), sample)
        tested = [t for t in tested if t.is_accepted or (t.score > 0 and not sample.is_everything)]
        tested = sorted(tested, key=lambda t: -t.score)[:_SHORTLIST]
        if not sample.is_everything and tested:
            shortlist = [t.hypothesis for t in tested]
            tested = self._test(shortlist, self._sample(*_LARGE))
        accepted = [t for t in tested if t.is_accepted]
        order = list(CAUSES)
        return min(
            accepted,
            key=lambda t: (-round(t.score, 6), order.index(t.hypothesis.cause)),
            default=None,
        )

    def _sample(self, wrong: int, right: int) -> _Sample:
        """Return some rows with open mismatches and some others, in a random order."""
        wrong_rows = "served_row IN (SELECT served_row FROM mismatches WHERE cause IS NULL)"
        parts = []
        for condition, limit in ((wrong_rows, wrong), (f"NOT {wrong_rows}", right)):
            rows = self.recomputation.frame(
                f"SELECT served_row, COUNT(*) OVER () AS total FROM served WHERE {condition} "
                f"ORDER BY hash(served_row) LIMIT {limit}"
            )
            rows["weight"] = rows["total"] / max(len(rows), 1)
            parts.append(rows.assign(open=condition == wrong_rows))
        chosen = pd.concat(parts).merge(self.rows, on="served_row")
        events = self.recomputation.write_events(self.events, self._anchors(chosen))
        is_open = self.recomputation.frame(
            "SELECT served_row, attribute FROM mismatches WHERE cause IS NULL"
        )
        weights = chosen.set_index("served_row")["weight"]
        is_open["weight"] = is_open["served_row"].map(weights)
        return _Sample(chosen, events, is_open.groupby("attribute")["weight"].sum())

    def _facts(self, sample: _Sample) -> Facts:
        self._write_without_events()
        facts = facts_of(self.recomputation, self.stored, sample.events, sample.open["visitor"])
        return replace(facts, known_since=self.known_since, published=self.published)

    def _write_without_events(self) -> None:
        """Write the open rows of visitors without an event into ``served_without_events``."""
        recomputation = self.recomputation
        anchors = recomputation.write(self._anchors(self._open_rows()))
        key = self.sql.identifier(recomputation.key)
        known = f"SELECT e.{KEY} FROM ({self.stored}) AS e WHERE e.{KEY} IS NOT NULL"
        rows = recomputation.warehouse.query(
            f"SELECT a.{ROW} AS served_row FROM {anchors} AS a WHERE a.{key} NOT IN ({known})"
        )
        recomputation.register("served_without_events", rows.to_pandas())

    def _moved(self, sample: _Sample) -> list[Hypothesis]:
        """Return what other moments may explain: a wrong clock, and frozen values."""
        rows = sample.open
        self._recompute_near(rows, sample.events, -LONGEST_FROZEN, _MAX_CLOCK_ERROR)
        verdicts = self._by_moment().merge(rows, on="served_row", suffixes=("", "_of"))
        verdicts = verdicts.sort_values(["served_row", "anchor_ts"])
        moments = verdicts["anchor_ts"]
        after = moments.groupby(verdicts["served_row"]).shift(-1)
        after = after.fillna(verdicts["anchor_ts_of"] + _MAX_CLOCK_ERROR)
        best = verdicts.groupby("served_row")["explained"].transform("max")
        right = (verdicts["broken"] == 0) & (verdicts["explained"] > 0)
        right &= verdicts["explained"] == best
        if not right.any():
            return list(frozen(self.rows, [], self.sql))
        start, end, scored = (
            column[right].astype("int64").to_numpy()
            for column in (moments, after, verdicts["anchor_ts_of"])
        )
        candidates = list[Hypothesis]()
        is_near = start - scored >= -_MAX_CLOCK_ERROR // _MICROSECOND
        if is_near.any():
            low, high = _most_overlap((start - scored)[is_near], (end - scored)[is_near])
            minute = 60_000_000
            whole = -(-low // minute) * minute  # the first one that is as likely
            shifts = [whole] * (whole < high) + [low, (low + high) // 2]
            candidates += [clock(shift * _MICROSECOND) for shift in dict.fromkeys(shifts)]
        is_earlier, moments = start < scored, list[datetime]()
        if is_earlier.any():
            _, first_lost = _most_overlap(start[is_earlier], end[is_earlier])
            moments = [pd.Timestamp(first_lost - 1, unit="us").to_pydatetime()]
        return [*candidates, *frozen(self.rows, moments, self.sql)]

    # --- tests -------------------------------------------------------------------------------

    def _test(self, candidates: Sequence[Hypothesis], sample: _Sample) -> list[_Tested]:
        """Return how many values each hypothesis explains and breaks, scaled from the sample."""
        results = dict[int, _Tested]()
        changed, defined = dict[int, Hypothesis](), dict[int, Hypothesis]()
        for number, h in enumerate(candidates):
            if h.evidence:
                results[number] = self._count_evidence(h)
            elif h.within:
                self._recompute_near(sample.open, sample.events, *h.within)
                best = _best_moments(self._by_moment()).assign(attribute="")
                open_values = pd.Series({"": sample.open_values.sum()})
                results[number] = _weigh(h, best, replace(sample, open_values=open_values))
            else:
                (defined if h.attributes else changed)[number] = h
        if changed:
            self._recompute_cases(changed, sample)
            verdicts = self._verdicts()
            for number, h in changed.items():
                results[number] = _weigh(h, verdicts[verdicts[CASE] == number], sample)
        if defined:
            results |= self._test_definitions(defined, sample)
        return [results[number] for number in sorted(results)]

    def _count_evidence(self, h: Hypothesis) -> _Tested:
        counts = self.recomputation.frame(
            f"SELECT served_row, attribute, ({h.evidence}) AS explained FROM mismatches "
            "WHERE cause IS NULL"
        )
        explained = counts[counts["explained"].fillna(value=False).astype(bool)]
        share = explained["attribute"].value_counts() / counts["attribute"].value_counts()
        rows = explained["served_row"].nunique()
        return _Tested(h, float(len(explained)), 0.0, float(rows), float(share.fillna(0).max()))

    def _test_definitions(
        self, candidates: Mapping[int, Hypothesis], sample: _Sample
    ) -> dict[int, _Tested]:
        """Test other definitions; those that do not contradict each other share one case."""
        cases = list[dict[str, Attribute]]()
        case_of = dict[int, int]()
        for number, h in candidates.items():
            agrees = [all(c.get(n, a) == a for n, a in h.attributes.items()) for c in cases]
            case_of[number] = agrees.index(True) if True in agrees else len(cases)
            if case_of[number] == len(cases):
                cases.append({})
            cases[case_of[number]].update(h.attributes)
        groups = {place: self._group(case) for place, case in enumerate(cases)}
        recomputation = self.recomputation
        try:
            recomputation.recompute(
                "cases", self._anchors(sample.rows), sample.events, self._group({}), groups
            )
        except (DefinitionError, ServiceError):  # a definition that this warehouse cannot compute
            return {}
        recomputation.judge("cases")
        results, verdicts = {}, self._verdicts()
        for number, h in candidates.items():
            of_case = verdicts[verdicts[CASE] == case_of[number]]
            of_case = of_case[of_case["attribute"].isin(list(h.attributes))]
            results[number] = _weigh(h, of_case, sample)
        return results

    def _verdicts(self) -> pd.DataFrame:
        """Return what is explained or broken, per case, row and attribute."""
        return self.recomputation.frame(
            f"SELECT {CASE}, served_row, attribute, CAST(explained AS DOUBLE) AS explained, "
            "CAST(broken AS DOUBLE) AS broken FROM verdicts WHERE explained OR broken "
            "ORDER BY ALL"
        )

    def _by_moment(self) -> pd.DataFrame:
        """Return how many values are explained and broken, per row and moment."""
        frame = self.recomputation.frame(
            "SELECT served_row, anchor_ts, SUM(CAST(explained AS DOUBLE)) AS explained, "
            "SUM(CAST(broken AS DOUBLE)) AS broken FROM verdicts GROUP BY ALL ORDER BY ALL"
        )
        frame["anchor_ts"] = frame["anchor_ts"].astype("datetime64[us]")
        return frame

    def _recompute_cases(self, candidates: Mapping[int, Hypothesis], sample: _Sample) -> None:
        """Recompute a sample in every case at once: the case is part of the visitor's key."""
        recomputation, key = self.recomputation, self.sql.identifier(self.recomputation.key)
        case_key = self.sql.identifier(_CASE_KEY)
        plain = recomputation.write(self._anchors(sample.rows))
        anchors, selects = [], []
        for number, h in candidates.items():
            rows = self._moved_rows(h, sample.rows)
            changed = h.events.replace("{events}", sample.events)
            who = f"e.{KEY}"
            source = f"({changed}) AS e"
            if h.known:
                who = f"CAST(a.{ROW} AS VARCHAR)"
                source += (
                    f" JOIN {plain} AS a ON e.{KEY} = a.{key} AND e.{HAPPENED} <= a.anchor_ts "
                    f"WHERE {h.known}"
                )
                rows = rows.assign(visitor=rows["served_row"].astype(str))
            selects.append(f"SELECT e.*, '{number}:' || {who} AS {case_key} FROM {source}")
            is_nobody = rows["visitor"].isin(NOBODY)
            visitor = (f"{number}:" + rows["visitor"]).where(~is_nobody, "")
            anchors.append(rows.assign(visitor=visitor, case=number))
        events = f"({' UNION ALL '.join(selects)})"
        self._recompute(self._anchors(pd.concat(anchors), _CASE_KEY), events, _CASE_KEY)

    def _recompute(self, anchors: pa.Table, events: str, key: str = "") -> None:
        group = self._group({})
        if key:
            group = group.model_copy(update={"attribute_key": AttributeKey(name=key)})
        self.recomputation.recompute("cases", anchors, events, group)
        self.recomputation.judge("cases")

    def _recompute_near(
        self, rows: pd.DataFrame, events: str, low: timedelta, high: timedelta
    ) -> None:
        """Recompute rows at each event of their visitors from ``low`` to ``high`` after them, and
        at these bounds, as far as they are earlier."""
        key = self.sql.identifier(self.recomputation.key)
        anchors = self.recomputation.write(self._anchors(rows))
        times = self.recomputation.warehouse.query(
            f"SELECT DISTINCT a.{ROW} AS served_row, e.{HAPPENED} AS anchor_ts FROM {events} AS e "
            f"JOIN {anchors} AS a ON e.{KEY} = a.{key} WHERE e.{HAPPENED} BETWEEN "
            f"{self._later('a.anchor_ts', low)} AND {self._later('a.anchor_ts', high)}"
        ).to_pandas()
        times["served_row"] = times["served_row"].astype("int64")
        times["anchor_ts"] = times["anchor_ts"].astype("datetime64[us]")
        times = times.merge(rows[["served_row", "visitor"]], on="served_row")
        moments = [rows.assign(anchor_ts=rows["anchor_ts"] + low), times]
        if high < timedelta():
            moments.append(rows.assign(anchor_ts=rows["anchor_ts"] + high))
        self._recompute(self._anchors(pd.concat(moments)), events)

    def _later(self, timestamp: str, length: timedelta) -> str:
        return self.sql.later(timestamp, str(length // _MICROSECOND))

    # --- the winner --------------------------------------------------------------------------

    def _apply(self, h: Hypothesis) -> int:
        """Give its cause to what a hypothesis explains in all rows; return how many values."""
        if h.evidence:
            return self.recomputation.explain(h.cause, h.evidence)
        if h.by_row:
            return self._apply_by_row(h)
        recomputation = self.recomputation
        rows = self._moved_rows(h, self.rows)
        events = h.events.replace("{events}", f"({self.events})")
        definitions = self.definitions | dict(h.attributes)
        group = self._group(h.attributes)
        recomputation.recompute("cases", self._anchors(rows), f"({events})", group)
        recomputation.judge("cases")
        total = recomputation.frame(
            "SELECT SUM(CAST(explained AS INT)) AS explained, SUM(CAST(broken AS INT)) AS broken "
            "FROM verdicts"
        ).iloc[0]
        if total["broken"] > 2 * _MOST_BROKEN * total["explained"]:
            return 0
        count = self._assign(h.cause)
        if count:
            recomputation.run("DROP TABLE current")
            recomputation.run("ALTER TABLE cases RENAME TO current")
            self.rows, self.events, self.definitions = rows, events, definitions
        return count

    def _apply_by_row(self, h: Hypothesis) -> int:
        recomputation, rows = self.recomputation, self._open_rows()
        events = recomputation.write_events(self.events, self._anchors(rows))
        if h.within:
            self._recompute_near(rows, events, *h.within)
        else:
            rows = rows.assign(open=True, weight=1.0)
            self._recompute_cases({0: h}, _Sample(rows, events, pd.Series()))
        best = _best_moments(self._by_moment())[["served_row", "anchor_ts"]]
        recomputation.register("best", best)
        count = self._assign(h.cause, "SEMI JOIN best USING (served_row, anchor_ts)")
        if h.within:  # what follows is tested at these moments
            in_best = "served_row IN (SELECT served_row FROM best)"
            recomputation.run(f"DELETE FROM current WHERE {in_best}")
            recomputation.run(
                "INSERT INTO current SELECT DISTINCT * FROM cases "
                "SEMI JOIN best USING (served_row, anchor_ts)"
            )
            moved = self.rows["served_row"].map(best.set_index("served_row")["anchor_ts"])
            self.rows = self.rows.assign(anchor_ts=moved.fillna(self.rows["anchor_ts"]))
        return count

    def _assign(self, cause: str, join: str = "") -> int:
        explained = f"SELECT served_row, attribute FROM verdicts {join} WHERE explained"
        return self.recomputation.explain(
            cause,
            f"EXISTS (SELECT 1 FROM ({explained}) AS v WHERE v.served_row = mismatches.served_row "
            "AND v.attribute = mismatches.attribute)",
        )

    # --- rows --------------------------------------------------------------------------------

    def _count_open(self) -> int:
        frame = self.recomputation.frame("SELECT COUNT(*) AS n FROM mismatches WHERE cause IS NULL")
        return int(frame["n"].iloc[0])

    def _open_rows(self) -> pd.DataFrame:
        is_open = self.recomputation.frame(
            "SELECT DISTINCT served_row FROM mismatches WHERE cause IS NULL"
        )
        return self.rows[self.rows["served_row"].isin(is_open["served_row"])]

    def _moved_rows(self, h: Hypothesis, rows: pd.DataFrame) -> pd.DataFrame:
        return rows if h.moves is None else rows.assign(anchor_ts=h.moves(rows))

    def _group(self, definitions: Mapping[str, Attribute]) -> AttributeGroup:
        changed = self.definitions | dict(definitions)
        group = self.recomputation.group
        attributes = [changed.get(str(a.name), a) for a in group.attributes or []]
        return group.model_copy(update={"attributes": attributes})

    def _anchors(self, rows: pd.DataFrame, key: str = "") -> pa.Table:
        case = rows["case"] if "case" in rows else pd.Series(0, index=rows.index)
        return pa.table(
            {
                key or self.recomputation.key: pa.array(rows["visitor"], pa.string()),
                "anchor_ts": pa.array(rows["anchor_ts"].to_numpy("datetime64[us]")),
                ROW: pa.array(rows["served_row"].to_numpy("int64")),
                CASE: pa.array(case.to_numpy("int64")),
            }
        )


def _merged(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Return explanations with one sentence as one."""
    merged = dict[str, Explanation]()
    for e in explanations:
        values = e.values + (merged[e.sentence].values if e.sentence in merged else 0)
        merged[e.sentence] = replace(e, values=values)
    return list(merged.values())


def _best_moments(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the latest moment of each row that explains most and breaks nothing."""
    right = verdicts[(verdicts["broken"] == 0) & (verdicts["explained"] > 0)]
    right = right.sort_values(["explained", "anchor_ts"], ascending=False, kind="stable")
    return right.drop_duplicates("served_row")


def _weigh(h: Hypothesis, verdicts: pd.DataFrame, sample: _Sample) -> _Tested:
    """Scale verdicts from the sample to all rows."""
    if h.by_row:
        wrong = verdicts.loc[verdicts["broken"] > 0, "served_row"]
        verdicts = verdicts[~verdicts["served_row"].isin(wrong)]
    row_weights = sample.rows.set_index("served_row")["weight"]
    weights = verdicts["served_row"].map(row_weights)
    explained = verdicts["explained"] * weights
    share = explained.groupby(verdicts["attribute"]).sum() / sample.open_values
    rows = row_weights[verdicts.loc[verdicts["explained"] > 0, "served_row"].unique()]
    return _Tested(
        h,
        float(explained.sum()),
        float((verdicts["broken"] * weights).sum()),
        float(rows.sum()),
        float(share.fillna(0).max()) if len(share) else 0.0,
    )


def _most_overlap(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the bounds of where most intervals overlap; of several places the last."""
    edges = np.concatenate([starts, ends])
    steps = np.repeat([1, -1], len(starts))
    order = np.lexsort((steps, edges))  # at one edge, intervals end before others start
    overlap = np.cumsum(steps[order])
    most = int(np.flatnonzero(overlap == overlap.max())[-1])
    return int(edges[order][most]), int(edges[order][min(most + 1, len(edges) - 1)])
