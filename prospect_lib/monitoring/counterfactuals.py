"""Recompute served rows as they would be under a hypothesis, and count what it explains.

Example: ``Counterfactuals(recomputation).test(hypotheses, sample)`` -> a ``Tested`` for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup, AttributeKey
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.errors import DefinitionError, ServiceError
from prospect_lib.monitoring.causes import DEFINITION, EXPECTED_CAUSES, HISTORY
from prospect_lib.monitoring.hypotheses import LONGEST_FROZEN, Hypothesis, clock, frozen
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.served_scores import CASE, ROW
from prospect_lib.sql.dialects import dialect_of

#: Values that a hypothesis may break, as a share of those that it explains.
MOST_BROKEN = 0.05
_CASE_KEY = "audit_case_key"  # identifies a visitor in one hypothesis
_MIN_ROWS = 3  # fewer are no evidence of a cause that concerns all
_MIN_SHARE = 0.5  # of the open values of some attribute
_FLEXIBLE = 0.9  # the weight of a hypothesis that fits many worlds
_MAX_CLOCK_ERROR = timedelta(hours=14)  # the largest difference of a time zone from UTC
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Sample:
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
class Tested:
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
        if not self.explained or self.broken > MOST_BROKEN * self.explained:
            return False
        if self.hypothesis.cause in (*EXPECTED_CAUSES, HISTORY, DEFINITION):
            return True
        return self.rows >= _MIN_ROWS and self.share >= _MIN_SHARE


class Counterfactuals:
    """What is known of the served rows so far, and tests of hypotheses on top of it.

    Attributes:
        rows: ``served_row``, ``visitor`` and ``anchor_ts`` of each served row, at the moments
            that its values are of.
        stored: a SELECT of all events, with the columns of ``keyed_events``.
        events: the same, without what an earlier explanation removed.
        definitions: attributes that Signals computed by another definition, by name.
    """

    def __init__(self, recomputation: Recomputation) -> None:
        self.recomputation = recomputation
        self.sql = dialect_of(recomputation.warehouse.dialect)
        served = recomputation.served.select(["served_row", recomputation.key, "anchor_ts"])
        self.rows = served.rename_columns(["served_row", "visitor", "anchor_ts"]).to_pandas()
        self.rows["anchor_ts"] = self.rows["anchor_ts"].astype("datetime64[us]")
        self.definitions = dict[str, Attribute]()
        warehouse = recomputation.warehouse
        self.stored = f"SELECT * FROM {keyed_events(warehouse, recomputation.group)} AS e"
        self.events = self.stored

    def open_rows(self) -> pd.DataFrame:
        """Return the rows with a mismatch of unknown cause."""
        is_open = self.recomputation.frame(
            "SELECT DISTINCT served_row FROM mismatches WHERE cause IS NULL"
        )
        return self.rows[self.rows["served_row"].isin(is_open["served_row"])]

    def sample(self, wrong: int, right: int) -> Sample:
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
        events = self.recomputation.write_events(self.events, self.anchors(chosen))
        is_open = self.recomputation.frame(
            "SELECT served_row, attribute FROM mismatches WHERE cause IS NULL"
        )
        weights = chosen.set_index("served_row")["weight"]
        is_open["weight"] = is_open["served_row"].map(weights)
        return Sample(chosen, events, is_open.groupby("attribute")["weight"].sum())

    def moved(self, sample: Sample) -> list[Hypothesis]:
        """Return what other moments may explain: a wrong clock, and frozen values."""
        rows = sample.open
        self.recompute_near(rows, sample.events, -LONGEST_FROZEN, _MAX_CLOCK_ERROR)
        verdicts = self.by_moment().merge(rows, on="served_row", suffixes=("", "_of"))
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

    def test(self, candidates: Sequence[Hypothesis], sample: Sample) -> list[Tested]:
        """Return how many values each hypothesis explains and breaks, scaled from the sample."""
        results = dict[int, Tested]()
        changed, defined = dict[int, Hypothesis](), dict[int, Hypothesis]()
        for number, h in enumerate(candidates):
            if h.evidence:
                results[number] = self._count_evidence(h)
            elif h.within:
                self.recompute_near(sample.open, sample.events, *h.within)
                best = best_moments(self.by_moment()).assign(attribute="")
                open_values = pd.Series({"": sample.open_values.sum()})
                results[number] = _weigh(h, best, replace(sample, open_values=open_values))
            else:
                (defined if h.attributes else changed)[number] = h
        if changed:
            self.recompute_cases(changed, sample)
            verdicts = self._verdicts()
            for number, h in changed.items():
                results[number] = _weigh(h, verdicts[verdicts[CASE] == number], sample)
        if defined:
            results |= self._test_definitions(defined, sample)
        return [results[number] for number in sorted(results)]

    def _count_evidence(self, h: Hypothesis) -> Tested:
        counts = self.recomputation.frame(
            f"SELECT served_row, attribute, ({h.evidence}) AS explained FROM mismatches "
            "WHERE cause IS NULL"
        )
        explained = counts[counts["explained"].fillna(value=False).astype(bool)]
        share = explained["attribute"].value_counts() / counts["attribute"].value_counts()
        rows = explained["served_row"].nunique()
        return Tested(h, float(len(explained)), 0.0, float(rows), float(share.fillna(0).max()))

    def _test_definitions(
        self, candidates: Mapping[int, Hypothesis], sample: Sample
    ) -> dict[int, Tested]:
        """Test other definitions; those that do not contradict each other share one case."""
        cases = list[dict[str, Attribute]]()
        case_of = dict[int, int]()
        for number, h in candidates.items():
            agrees = [all(c.get(n, a) == a for n, a in h.attributes.items()) for c in cases]
            case_of[number] = agrees.index(True) if True in agrees else len(cases)
            if case_of[number] == len(cases):
                cases.append({})
            cases[case_of[number]].update(h.attributes)
        groups = {place: self.changed_group(case) for place, case in enumerate(cases)}
        recomputation = self.recomputation
        try:
            recomputation.recompute(
                "cases", self.anchors(sample.rows), sample.events, self.changed_group({}), groups
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

    def by_moment(self) -> pd.DataFrame:
        """Return how many values are explained and broken, per row and moment."""
        frame = self.recomputation.frame(
            "SELECT served_row, anchor_ts, SUM(CAST(explained AS DOUBLE)) AS explained, "
            "SUM(CAST(broken AS DOUBLE)) AS broken FROM verdicts GROUP BY ALL ORDER BY ALL"
        )
        frame["anchor_ts"] = frame["anchor_ts"].astype("datetime64[us]")
        return frame

    def recompute_cases(self, candidates: Mapping[int, Hypothesis], sample: Sample) -> None:
        """Recompute a sample in every case at once: the case is part of the visitor's key."""
        recomputation, key = self.recomputation, self.sql.identifier(self.recomputation.key)
        case_key = self.sql.identifier(_CASE_KEY)
        plain = recomputation.write(self.anchors(sample.rows))
        anchors, selects = [], []
        for number, h in candidates.items():
            rows = self.moved_rows(h, sample.rows)
            changed = h.events.replace("{events}", sample.events)
            who = f"e.{KEY}"
            source = f"({changed}) AS e"
            if h.known:
                who = self.sql.as_text(f"a.{ROW}")
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
        self._recompute(self.anchors(pd.concat(anchors), _CASE_KEY), events, _CASE_KEY)

    def _recompute(self, anchors: pa.Table, events: str, key: str = "") -> None:
        group = self.changed_group({})
        if key:
            group = group.model_copy(update={"attribute_key": AttributeKey(name=key)})
        self.recomputation.recompute("cases", anchors, events, group)
        self.recomputation.judge("cases")

    def recompute_near(
        self, rows: pd.DataFrame, events: str, low: timedelta, high: timedelta
    ) -> None:
        """Recompute rows at each event of their visitors from ``low`` to ``high`` after them, and
        at these bounds, as far as they are earlier."""
        key = self.sql.identifier(self.recomputation.key)
        anchors = self.recomputation.write(self.anchors(rows))
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
        self._recompute(self.anchors(pd.concat(moments)), events)

    def _later(self, timestamp: str, length: timedelta) -> str:
        return self.sql.later(timestamp, str(length // _MICROSECOND))

    def moved_rows(self, h: Hypothesis, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows at the moments of a hypothesis."""
        return rows if h.moves is None else rows.assign(anchor_ts=h.moves(rows))

    def changed_group(self, definitions: Mapping[str, Attribute]) -> AttributeGroup:
        """Return the group with these definitions, and with those that are known."""
        changed = self.definitions | dict(definitions)
        group = self.recomputation.group
        attributes = [changed.get(str(a.name), a) for a in group.attributes or []]
        return group.model_copy(update={"attributes": attributes})

    def anchors(self, rows: pd.DataFrame, key: str = "") -> pa.Table:
        """Return the anchors of rows, as :func:`anchors_of` does for all served ones."""
        case = rows["case"] if "case" in rows else pd.Series(0, index=rows.index)
        return pa.table(
            {
                key or self.recomputation.key: pa.array(rows["visitor"], pa.string()),
                "anchor_ts": pa.array(rows["anchor_ts"].to_numpy("datetime64[us]")),
                ROW: pa.array(rows["served_row"].to_numpy("int64")),
                CASE: pa.array(case.to_numpy("int64")),
            }
        )


def best_moments(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the latest moment of each row that explains most and breaks nothing."""
    right = verdicts[(verdicts["broken"] == 0) & (verdicts["explained"] > 0)]
    right = right.sort_values(["explained", "anchor_ts"], ascending=False, kind="stable")
    return right.drop_duplicates("served_row")


def _weigh(h: Hypothesis, verdicts: pd.DataFrame, sample: Sample) -> Tested:
    """Scale verdicts from the sample to all rows."""
    if h.by_row:
        wrong = verdicts.loc[verdicts["broken"] > 0, "served_row"]
        verdicts = verdicts[~verdicts["served_row"].isin(wrong)]
    row_weights = sample.rows.set_index("served_row")["weight"]
    weights = verdicts["served_row"].map(row_weights)
    explained = verdicts["explained"] * weights
    share = explained.groupby(verdicts["attribute"]).sum() / sample.open_values
    rows = row_weights[verdicts.loc[verdicts["explained"] > 0, "served_row"].unique()]
    return Tested(
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
