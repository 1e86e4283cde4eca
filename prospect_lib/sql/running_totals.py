"""Counts, distinct counts, first and latest values: differences of running totals.

*How often in the last 7 days* is the running total now less the running total 7 days
ago. *How many values* is how many began to be in the window less how many had left it:
a value begins where it was not seen for a period, and leaves a period after the last time
it was seen. *The first value* is that of the event whose number follows the total a
period ago, *the latest* that of the event whose number is the total now. So one sorted
pass over the events and one look-up an anchor for each distinct period answer them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals.models.model import Attribute

from prospect_lib.sql.context import MICROSECOND, Scope
from prospect_lib.sql.steps import LOOKED, MARKED, NUMBERED, SHOWN, TOTALS

COUNTS = {"counter"}
EARLIEST = {"first", "time_since_first"}
LATEST = {"last", "time_since_last"}
DISTINCT = {"unique_list", "approx_count_distinct"}
_COMMA = ",\n"
_SHARING = "; several counters share one"
#: what an event must meet to be counted on entering, and on leaving, a window
Counter = tuple[str, str]


@dataclass(frozen=True)
class Totals:
    """The steps that the given attributes need, and where each one's value is then."""

    scope: Scope
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        marked = [self._marked()] if self._listed else []
        return [self._shown(), *marked, self._running(), *self._numbered(), self._looked()]

    def join(self, alias: str) -> str:
        """Joins of the values to a row that has ``visitor`` and ``ts``."""
        if not self.attributes:
            return ""
        rows = f"LEFT JOIN looked AS l\n  ON l.visitor = {alias}.visitor AND l.ts = {alias}.ts"
        joins = [
            f"LEFT JOIN {self._numbers(a)} AS {self._of(a)}\n"
            f"  ON {self._of(a)}.visitor = l.visitor AND {self._of(a)}.number = "
            f"l.{self.scope.name(a, 'number')}"
            for a in self._with(EARLIEST | LATEST)
        ]
        return "\n".join([rows, *joins])

    def value(self, attribute: Attribute) -> str:
        """The expression for an attribute where :meth:`join` was joined."""
        if attribute.aggregation in EARLIEST | LATEST:
            what = "ts" if attribute.aggregation.startswith("time_since") else "value"
            return f"{self._of(attribute)}.{what}"
        return f"l.{self.scope.name(attribute)}"

    # --- names ---------------------------------------------------------------------------

    def _with(self, aggregations: set[str]) -> list[Attribute]:
        return [a for a in self.attributes if a.aggregation in aggregations]

    def _of(self, attribute: Attribute) -> str:
        return self.scope.name(attribute, "of")

    def _numbers(self, attribute: Attribute) -> str:
        return f"{self.scope.x(attribute)}_numbered"

    @cached_property
    def _lengths(self) -> list[timedelta | None]:
        """The distinct lengths that anchors look back over; ``None`` is all of the past."""
        return list(dict.fromkeys(self.scope.length(a) for a in self.attributes))

    def _before(self, attribute: Attribute) -> str:
        """The alias of the totals before an attribute's window."""
        return f"before_{self._lengths.index(self.scope.length(attribute)) + 1}"

    @cached_property
    def _listed(self) -> list[str]:
        """The columns whose distinct values are counted."""
        return list(dict.fromkeys(self.scope.x(a) for a in self._with(DISTINCT)))

    # --- counters, and the totals they share ---------------------------------------------

    def _counter(self, attribute: Attribute) -> Counter:
        """The conditions on an event to add one on entering, and on leaving, a window."""
        x = self.scope.x(attribute)
        if attribute.aggregation not in DISTINCT:
            return f"{x}_n", f"{x}_n"
        began = self._alone(attribute, f"{x}_before", "ts", f"{x}_before")
        return began, self._alone(attribute, f"{x}_after", f"{x}_after", "ts")

    def _alone(self, attribute: Attribute, neighbour: str, later: str, earlier: str) -> str:
        """That the value has no such neighbour, or not within the attribute's window."""
        x, length = self.scope.x(attribute), self.scope.length(attribute)
        if length is None:
            return f"{x}_n AND {neighbour} IS NULL"
        gap = f"{later} > {earlier} + {self.scope.sql.interval(length)}"
        return f"{x}_n AND ({neighbour} IS NULL OR {gap})"

    @cached_property
    def _places(self) -> dict[tuple[timedelta | None, Counter], tuple[str, str, int]]:
        """Where each window's counters are: totals of entering and of leaving, and place."""
        places: dict[tuple[timedelta | None, Counter], tuple[str, str, int]] = {}
        for length in self._lengths:
            for counters in self._shares(length):
                began, ended = (
                    self._total(conditions) for conditions in zip(*counters, strict=True)
                )
                for place, counter in enumerate(counters):
                    places[length, counter] = began, ended, place
        return places

    def _shares(self, length: timedelta | None) -> list[list[Counter]]:
        """The counters of a window, parted as they share totals: first what all windows have."""
        lengths: dict[Counter, set[timedelta | None]] = {}
        for attribute in self.attributes:
            lengths.setdefault(self._counter(attribute), set()).add(self.scope.length(attribute))
        mine = [counter for counter, used in lengths.items() if length in used]
        plain = [c for c in mine if c[0] == c[1]]
        plain.sort(key=lambda counter: -len(lengths[counter]))
        size = self.scope.sql.lanes
        return [
            some[first : first + size]
            for some in (plain, [c for c in mine if c[0] != c[1]])
            for first in range(0, len(some), size)
        ]

    @cached_property
    def _totals_of(self) -> dict[tuple[str, ...], str]:
        return {}

    def _total(self, conditions: tuple[str, ...]) -> str:
        """The name of the total of these conditions, in this order."""
        known = self._totals_of
        return known.setdefault(conditions, f"total_{len(known) + 1}")

    # --- steps ---------------------------------------------------------------------------

    def _shown(self) -> str:
        counted = dict.fromkeys(self.scope.x(a) for a in self.attributes)
        return SHOWN.format(
            values="".join(f", {x}" for x in self._listed),
            flags=_COMMA.join(f"    {x} IS NOT NULL AS {x}_n" for x in counted),
        )

    def _marked(self) -> str:
        some = " OR ".join(f"{x}_n" for x in self._listed)
        neighbours = _COMMA.join(
            f"    {function}(ts) OVER (PARTITION BY visitor, {x} ORDER BY ts) AS {x}_{edge}"
            for x in self._listed
            for function, edge in (("LAG", "before"), ("LEAD", "after"))
        )
        none = f"CAST(NULL AS {self.scope.sql.timestamp_type})"
        nulls = ", ".join([none] * (2 * len(self._listed)))
        return MARKED.format(neighbours=neighbours, some=some, nulls=nulls)

    def _running(self) -> str:
        sql, self_places = self.scope.sql, self._places
        totals = self._totals_of if self_places else {}
        return TOTALS.format(
            sharing=_SHARING * (sql.lanes > 1),
            ones=_COMMA.join(
                f"    {self._ones(found)} AS {name}" for found, name in totals.items()
            ),
            zeros=", ".join("0" for _ in totals),
            totals=_COMMA.join(f"      SUM({t}) OVER {sql.so_far} AS {t}" for t in totals.values()),
            names="".join(f", {name}" for name in totals.values()),
            source="marked" if self._listed else "shown",
            beginning=sql.beginning,
            following=sql.following,
            order=sql.sorted_first,
            materialized=sql.materialized,
        )

    def _ones(self, conditions: tuple[str, ...]) -> str:
        return " + ".join(
            f"CASE WHEN {condition} THEN {self.scope.sql.lane(place)} ELSE 0 END"
            for place, condition in enumerate(conditions)
        )

    def _numbered(self) -> list[str]:
        columns = dict.fromkeys(self.scope.x(a) for a in self._with(EARLIEST | LATEST))
        return [NUMBERED.format(x=x, numbering=self.scope.sql.numbering(x)) for x in columns]

    def _looked(self) -> str:
        sql, instants, needed = self.scope.sql, [], self._needed()
        joins = [self._look("now", "ts", needed["now"])]
        for place, length in enumerate(self._lengths, 1):
            back = (
                f"ts - {sql.interval(self.scope.reach(length) + MICROSECOND)}"
                if length
                else sql.beginning
            )
            instants.append(f"{back} AS ts_{place}")
            joins.append(self._look(f"before_{place}", f"ts_{place}", needed[f"before_{place}"]))
        return LOOKED.format(
            values=_COMMA.join(f"    {self._difference(a)}" for a in self.attributes),
            instants=", ".join(instants),
            joins="\n".join(joins),
        )

    def _needed(self) -> dict[str, list[str]]:
        """Which totals each look-up carries: no wider than it must be."""
        needed: dict[str, list[str]] = {}
        for attribute in self.attributes:
            began, ended, _ = self._place(attribute)
            needed.setdefault("now", []).append(began)
            needed.setdefault(self._before(attribute), []).append(ended)
        return {alias: list(dict.fromkeys(names)) for alias, names in needed.items()}

    def _place(self, attribute: Attribute) -> tuple[str, str, int]:
        return self._places[self.scope.length(attribute), self._counter(attribute)]

    def _look(self, alias: str, at: str, names: list[str]) -> str:
        columns = ", ".join(["visitor", "ts", *names])
        relation = f"(SELECT {columns} FROM totals)"
        return "  " + self.scope.sql.nearest(relation, alias, f"a.{at} >= {alias}.ts", "a")

    def _difference(self, attribute: Attribute) -> str:
        began, ended, place = self._place(attribute)
        name, sql = self.scope.name(attribute), self.scope.sql
        now, before = f"now.{began}", f"{self._before(attribute)}.{ended}"
        count = sql.in_lane(f"{now} - {before}", place)
        if attribute.aggregation in COUNTS | DISTINCT:
            return f"NULLIF({count}, 0) AS {name}"
        is_first = attribute.aggregation in EARLIEST
        number = f"{sql.in_lane(before, place)} + 1" if is_first else sql.in_lane(now, place)
        return f"CASE WHEN {count} > 0 THEN {number} END AS {self.scope.name(attribute, 'number')}"
