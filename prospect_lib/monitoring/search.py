"""Find what went wrong: test every hypothesis, name the one that explains most, and go on.

A hypothesis is tested by recomputing values as they would be if it were true. It must explain
values that differ, and must not break values that agree. All are tested on a small sample of
served rows, the best of them on a larger one, and the winner on all. What it explains is removed;
the next one is tested on top of it, so that several independent faults are found.

Example: ``Search(recomputation).run()`` ->
``[Explanation("event type", "Signals did not count events page_ping.", 412)]``
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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
    CLOCK,
    DEFINITION,
    EXPECTED_CAUSES,
    FRESHNESS,
    FROZEN,
    HISTORY,
    UNEXPLAINED,
)
from prospect_lib.monitoring.hypotheses import (
    LONGEST_FROZEN,
    Facts,
    Hypothesis,
    filtered_properties,
    frozen,
    hypotheses,
    without,
)
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.served_scores import CASE, ROW
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import dialect_of

_CASE_KEY = "audit_case_key"  # identifies a visitor in one hypothesis
_SMALL, _LARGE = (24, 24), (300, 300)  # rows of a sample: with open mismatches, and others
_SHORTLIST, _MOST_FAULTS = 6, 8
_MOST_BROKEN = 0.05  # of what a hypothesis explains
_MIN_ROWS = 3  # fewer are no evidence of a cause that concerns all
_ENOUGH = 0.98  # of what is open: nothing better needs to be tested
_MAX_CLOCK_ERROR = timedelta(hours=14)  # the largest difference of a time zone from UTC
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Explanation:
    """A cause, what went wrong, and how many values it explains."""

    cause: str
    sentence: str
    values: int
    shift: timedelta | None = None


@dataclass(frozen=True)
class _Sample:
    """Served rows with their weights, and their visitors' events in a table."""

    rows: pd.DataFrame
    events: str
    open_values: float
    is_everything: bool

    @property
    def open(self) -> pd.DataFrame:
        return self.rows[self.rows["open"]]


@dataclass(frozen=True)
class _Tested:
    hypothesis: Hypothesis
    explained: float
    broken: float
    rows: float

    @property
    def score(self) -> float:
        return self.explained - self.broken

    @property
    def is_accepted(self) -> bool:
        is_single = self.hypothesis.cause in (*EXPECTED_CAUSES, HISTORY, DEFINITION)
        return (
            self.explained > 0
            and self.broken <= _MOST_BROKEN * self.explained
            and (is_single or self.rows >= _MIN_ROWS)
        )


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
        self.events = f"SELECT * FROM {keyed_events(warehouse, recomputation.group)} AS e"
        self.rejected = set[str]()

    def run(self) -> list[Explanation]:
        """Give a cause to every mismatch; return what was found, in that order."""
        explanations = list[Explanation]()
        if not self._count_open():
            return []
        self._explain_not_served(explanations)
        while self._count_open() and len(explanations) < _MOST_FAULTS:
            tested = self._best()
            self.recomputation.drop_temporary()
            if tested is None:
                break
            if count := self._apply(tested.hypothesis):
                h = tested.hypothesis
                explanations.append(Explanation(h.cause, h.sentence, count, h.shift))
            else:
                self.rejected.add(tested.hypothesis.sentence)
            self.recomputation.drop_temporary()
        self._explain_by_log(explanations)
        self.recomputation.explain(UNEXPLAINED)
        return explanations

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
        tested = self._test(expected, sample)
        best = max(tested, key=lambda t: t.score, default=None)
        if best is None or best.score < _ENOUGH * sample.open_values:
            others = [h for h in every if h.cause not in EXPECTED_CAUSES]
            changed = [h for h in others if h.attributes]
            others = [h for h in others if not h.attributes]
            tested += self._test([*others, *self._moved(sample)], sample)
            if max(t.score for t in tested) < _ENOUGH * sample.open_values:
                tested += self._test(changed, sample)
        tested = [t for t in tested if t.is_accepted or (t.score > 0 and not sample.is_everything)]
        tested = sorted(tested, key=lambda t: -t.score)[:_SHORTLIST]
        if not sample.is_everything and tested:
            shortlist = [t.hypothesis for t in tested]
            tested = self._test(shortlist, self._sample(*_LARGE))
        accepted = [t for t in tested if t.is_accepted]
        order = {h.sentence: place for place, h in enumerate(every)}
        return min(
            accepted,
            key=lambda t: (-round(t.score, 6), order.get(t.hypothesis.sentence, len(order))),
            default=None,
        )

    def _sample(self, wrong: int, right: int) -> _Sample:
        """Return some rows with open mismatches and some others, in a random order."""
        is_open = "served_row IN (SELECT served_row FROM mismatches WHERE cause IS NULL)"
        parts = []
        for condition, limit in ((is_open, wrong), (f"NOT {is_open}", right)):
            rows = self.recomputation.frame(
                f"SELECT served_row, COUNT(*) OVER () AS total FROM served WHERE {condition} "
                f"ORDER BY hash(served_row) LIMIT {limit}"
            )
            rows["weight"] = rows["total"] / max(len(rows), 1)
            parts.append(rows.assign(open=condition == is_open))
        chosen = pd.concat(parts).merge(self.rows, on="served_row")
        keys = self.recomputation.write(self._anchors(chosen))
        key = self.sql.identifier(self.recomputation.key)
        events = self.recomputation.write_events(
            f"SELECT e.* FROM ({self.events}) AS e WHERE e.{KEY} IN (SELECT {key} FROM {keys})"
        )
        everything = bool((chosen["weight"] == 1).all())
        return _Sample(chosen, events, float(self._count_open()), everything)

    def _facts(self, sample: _Sample) -> Facts:
        recomputation, sql = self.recomputation, self.sql
        warehouse = recomputation.warehouse
        is_open = recomputation.frame("SELECT DISTINCT attribute FROM mismatches WHERE cause IS NULL")
        columns = frozenset(warehouse.columns())
        names = [
            sql.identifier(name) if name in columns else f"NULL AS {sql.identifier(name)}"
            for name in ("event_vendor", "event_name")
        ]
        types = warehouse.query(
            f"SELECT {', '.join(names)}, COUNT(*) AS events FROM {warehouse.events} "
            "GROUP BY 1, 2 ORDER BY 1, 2"
        ).to_pandas()
        days = warehouse.query(
            f"SELECT CAST(e.{HAPPENED} AS DATE) AS day, COUNT(*) AS events "
            f"FROM ({self.events}) AS e GROUP BY 1 ORDER BY 1"
        ).to_pydict()
        last = self.rows["anchor_ts"].max()
        recent = {
            day: count
            for day, count in zip(days["day"], days["events"], strict=True)
            if day is not None and last - timedelta(days=31) <= pd.Timestamp(day) <= last
        }
        pairs = recomputation.frame(
            "SELECT attribute, served, recomputed, COUNT(*) AS number FROM mismatches WHERE cause IS "
            "NULL AND served IS NOT NULL AND recomputed IS NOT NULL AND TRY_CAST(served AS DOUBLE) "
            "IS NULL AND served NOT LIKE '[%' GROUP BY ALL ORDER BY number DESC, attribute, served LIMIT 8"
        )
        self._write_without_events()
        return Facts(
            group=recomputation.group,
            sql=sql,
            open=frozenset(is_open["attribute"]),
            types=types.astype(object).where(types.notna(), None),
            days=recent,
            values=self._values(sample, columns),
            pairs=pairs,
            columns=columns,
            known_since=self.known_since,
            published=self.published,
        )

    def _write_without_events(self) -> None:
        """Write the open rows of visitors without an event into ``served_without_events``."""
        recomputation = self.recomputation
        rows = self._open_rows()
        anchors, key = recomputation.write(self._anchors(rows)), recomputation.key
        key = self.sql.identifier(key)
        known = f"SELECT e.{KEY} FROM ({self.events}) AS e WHERE e.{KEY} IS NOT NULL"
        lacking = recomputation.warehouse.query(
            f"SELECT a.{ROW} FROM {anchors} AS a WHERE a.{key} NOT IN ({known})"
        )
        listed = ", ".join(f"({row})" for row in lacking[ROW].to_pylist()) or "(-1)"
        recomputation.run(
            "CREATE OR REPLACE TABLE served_without_events AS "
            f"SELECT * FROM (VALUES {listed}) AS t(served_row)"
        )

    def _values(self, sample: _Sample, columns: frozenset[str]) -> pd.DataFrame:
        """Return the distinct values of properties by visitor, and some texts of the columns."""
        props = filtered_properties(self.recomputation.group, columns)
        selects = (
            f"SELECT DISTINCT {KEY} AS visitor, {number} AS property, "
            f"{property_sql(prop, self.sql)} AS value FROM {sample.events}"
            for number, prop in enumerate(props)
        )
        query = self.recomputation.warehouse.query
        values = query(" UNION ALL ".join(selects)).to_pandas().dropna()
        values["open"] = values["visitor"].isin(sample.open["visitor"])
        values = values.sort_values(["property", "value", "visitor"], ignore_index=True)
        texts = {}
        for column in {"page_url", "page_urlpath"} & columns:
            name = self.sql.identifier(column)
            counted = query(
                f"SELECT {name} AS value, COUNT(*) AS events FROM {sample.events} "
                f"WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 200"
            )
            texts[column] = counted["value"].to_pylist()
        values.attrs["texts"] = texts
        return values

    def _moved(self, sample: _Sample) -> list[Hypothesis]:
        """Return what other moments may explain: a wrong clock, and frozen values."""
        rows = sample.open
        self._recompute_near(rows, sample.events, -LONGEST_FROZEN, _MAX_CLOCK_ERROR)
        verdicts = self._by_row(by_moment=True).merge(rows, on="served_row", suffixes=("", "_of"))
        verdicts = verdicts.sort_values(["served_row", "anchor_ts"])
        moments = verdicts["anchor_ts"]
        after = moments.groupby(verdicts["served_row"]).shift(-1)
        after = after.fillna(verdicts["anchor_ts_of"] + _MAX_CLOCK_ERROR)
        best = verdicts.groupby("served_row")["explained"].transform("max")
        right = (verdicts["broken"] == 0) & (verdicts["explained"] > 0)
        right &= verdicts["explained"] == best
        if not right.any():
            return list(frozen(self.rows, []))
        start, end, scored = (
            column[right].astype("int64").to_numpy()
            for column in (moments, after, verdicts["anchor_ts_of"])
        )
        candidates = list[Hypothesis]()
        is_near = start - scored >= -_MAX_CLOCK_ERROR // _MICROSECOND
        if is_near.any():
            shift = _most_overlap((start - scored)[is_near], (end - scored)[is_near])
            candidates.append(_clock(shift * _MICROSECOND))
        earlier = start < scored
        stopped = []
        if earlier.any():
            moment = pd.Timestamp(_most_overlap(start[earlier], end[earlier]), unit="us")
            stopped = [moment.to_pydatetime()]
            shown = f"{moment:%Y-%m-%d %H:%M} UTC"
            candidates.append(
                Hypothesis(
                    FROZEN,
                    f"Signals has counted nothing since {shown}.",
                    without(f"e.{HAPPENED} > {self.sql.literal(stopped[0])}"),
                )
            )
        return [*candidates, *frozen(self.rows, stopped)]

    # --- tests -------------------------------------------------------------------------------

    def _test(self, candidates: Sequence[Hypothesis], sample: _Sample) -> list[_Tested]:
        """Return how many values each hypothesis explains and breaks, scaled from the sample."""
        results = dict[int, _Tested]()
        by_kind: dict[str, list[int]] = {"evidence": [], "within": [], "attributes": [], "events": []}
        for number, h in enumerate(candidates):
            kind = next((k for k in by_kind if getattr(h, k) and k != "events"), "events")
            by_kind[kind].append(number)
        for number in by_kind["evidence"]:
            counted = self.recomputation.frame(
                "SELECT COUNT(*) AS number, COUNT(DISTINCT served_row) AS rows FROM mismatches "
                f"WHERE cause IS NULL AND ({candidates[number].evidence})"
            ).iloc[0]
            results[number] = _Tested(
                candidates[number], float(counted["number"]), 0.0, float(counted["rows"])
            )
        for number in by_kind["within"]:
            low, high = candidates[number].within or (timedelta(), timedelta())
            self._recompute_near(sample.open, sample.events, low, high)
            best = _best_moments(self._by_row(by_moment=True))
            results[number] = _weigh(candidates[number], best, sample)
        if by_kind["events"]:
            self._recompute_cases({n: candidates[n] for n in by_kind["events"]}, sample)
            verdicts = self._by_row()
            for number in by_kind["events"]:
                of_case = verdicts[verdicts[CASE] == number]
                results[number] = _weigh(candidates[number], of_case, sample)
        if by_kind["attributes"]:
            results |= self._test_definitions({n: candidates[n] for n in by_kind["attributes"]}, sample)
        return [results[number] for number in sorted(results)]

    def _test_definitions(
        self, candidates: Mapping[int, Hypothesis], sample: _Sample
    ) -> dict[int, _Tested]:
        """Test other definitions; those that do not contradict each other share one case."""
        cases = list[dict[str, Attribute]]()
        case_of = dict[int, int]()
        for number, h in candidates.items():
            for place, case in enumerate(cases):
                if all(case.get(n, a) == a for n, a in h.attributes.items()):
                    break
            else:
                place = len(cases)
                cases.append({})
            cases[place].update(h.attributes)
            case_of[number] = place
        groups = {place: self._group(case) for place, case in enumerate(cases)}
        recomputation = self.recomputation
        try:
            recomputation.recompute(
                "cases", self._anchors(sample.rows), sample.events, self._group({}), groups
            )
        except (DefinitionError, ServiceError):  # a definition that this warehouse cannot compute
            return {}
        recomputation.judge("cases")
        results = {}
        for number, h in candidates.items():
            verdicts = self._by_row(f"{CASE} = {case_of[number]}", h.attributes)
            results[number] = _weigh(h, verdicts, sample)
        return results

    def _by_row(
        self, condition: str = "TRUE", attributes: Iterable[str] = (), *, by_moment: bool = False
    ) -> pd.DataFrame:
        """Return how many values the last verdicts explain and break, per case and row."""
        names = ", ".join(dialect_of("duckdb").text(name) for name in attributes)
        only = f" AND attribute IN ({names})" if names else ""
        moment = ", anchor_ts" if by_moment else ""
        frame = self.recomputation.frame(
            f"SELECT {CASE}, served_row{moment}, SUM(CAST(explained AS DOUBLE)) AS explained, "
            f"SUM(CAST(broken AS DOUBLE)) AS broken FROM verdicts WHERE {condition}{only} "
            f"GROUP BY ALL ORDER BY ALL"
        )
        if by_moment:
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
        before all these."""
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
        first = rows[["served_row", "visitor", "anchor_ts"]]
        first = first.assign(anchor_ts=first["anchor_ts"] + low)
        self._recompute(self._anchors(pd.concat([first, times])), events)

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
        keys = recomputation.write(self._anchors(rows))
        key = self.sql.identifier(recomputation.key)
        events = recomputation.write_events(
            f"SELECT e.* FROM ({self.events}) AS e WHERE e.{KEY} IN (SELECT {key} FROM {keys})"
        )
        if h.within:
            self._recompute_near(rows, events, *h.within)
        else:
            rows = rows.assign(open=True, weight=1.0)
            self._recompute_cases({0: h}, _Sample(rows, events, 0.0, is_everything=True))
        best = _best_moments(self._by_row(by_moment=True))[["served_row", "anchor_ts"]]
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


def _clock(shift: timedelta) -> Hypothesis:
    seconds = round(abs(shift).total_seconds())
    length = f"{seconds} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    direction = "behind" if shift > timedelta() else "ahead"
    return Hypothesis(
        CLOCK,
        f"The scoring times are about {length} {direction}.",
        moves=lambda frame: frame["anchor_ts"] + shift,
        shift=-shift,
    )


def _best_moments(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the latest moment of each row that explains most and breaks nothing."""
    right = verdicts[(verdicts["broken"] == 0) & (verdicts["explained"] > 0)]
    right = right.sort_values(["explained", "anchor_ts"], ascending=False, kind="stable")
    return right.drop_duplicates("served_row")


def _weigh(h: Hypothesis, verdicts: pd.DataFrame, sample: _Sample) -> _Tested:
    if h.by_row:
        verdicts = verdicts[verdicts["broken"] == 0]
    weights = verdicts["served_row"].map(sample.rows.set_index("served_row")["weight"])
    explained = float((verdicts["explained"] * weights).sum())
    broken = float((verdicts["broken"] * weights).sum())
    return _Tested(h, explained, broken, float(weights[verdicts["explained"] > 0].sum()))


def _most_overlap(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> int:
    """Return the middle of where most intervals overlap."""
    edges = np.concatenate([starts, ends])
    steps = np.repeat([1, -1], len(starts))
    order = np.lexsort((steps, edges))  # at one edge, intervals end before others start
    overlap = np.cumsum(steps[order])
    most = int(overlap.argmax())
    end = edges[order][min(most + 1, len(edges) - 1)]
    return int((edges[order][most] + end) // 2)
