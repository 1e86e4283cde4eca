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

from prospect_lib.scope import MICROSECOND, Scope
from prospect_lib.steps import LOOKED, MARKED, NUMBERED, TOTALS

COUNTS = {"counter"}
EARLIEST = {"first", "time_since_first"}
LATEST = {"last", "time_since_last"}
DISTINCT = {"unique_list", "approx_count_distinct"}
_COMMA = ",\n"


@dataclass(frozen=True)
class Totals:
    """The steps that the given attributes need, and where each one's value is then."""

    scope: Scope
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        marked = [self._marked()] if self._listed else []
        return [*marked, self._totals(), *self._numbered(), self._looked()]

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

    def _past(self, attribute: Attribute) -> str:
        """The alias of the totals before an attribute's window."""
        return f"before_{self._lengths.index(self.scope.length(attribute)) + 1}"

    @cached_property
    def _listed(self) -> list[str]:
        """The columns whose distinct values are counted."""
        return list(dict.fromkeys(self.scope.x(a) for a in self._with(DISTINCT)))

    def _runs(self, attribute: Attribute) -> tuple[str, str]:
        """The totals of values that began to be, and that were last seen."""
        place = self._lengths.index(self.scope.length(attribute)) + 1
        x = self.scope.x(attribute)
        return f"{x}_began_{place}", f"{x}_ended_{place}"

    @cached_property
    def _counted(self) -> dict[str, str]:
        """What is counted: the total's name and the expression that is not null for each."""
        found: dict[str, str] = {}
        for attribute in self.attributes:
            x = self.scope.x(attribute)
            if attribute.aggregation not in DISTINCT:
                found[f"{x}_n"] = x
                continue
            began, ended = self._runs(attribute)
            found[began] = self._alone(attribute, f"{x}_before", "ts", f"{x}_before")
            found[ended] = self._alone(attribute, f"{x}_after", f"{x}_after", "ts")
        return found

    def _alone(self, attribute: Attribute, neighbour: str, later: str, earlier: str) -> str:
        """The value where it has no such neighbour, or not within the attribute's window."""
        condition, length = f"{neighbour} IS NULL", self.scope.length(attribute)
        if length is not None:
            condition += f" OR {later} > {earlier} + {self.scope.sql.interval(length)}"
        return f"CASE WHEN {condition} THEN {self.scope.x(attribute)} END"

    # --- steps ---------------------------------------------------------------------------

    def _marked(self) -> str:
        some = " OR ".join(f"{x} IS NOT NULL" for x in self._listed)
        neighbours = _COMMA.join(
            f"    {function}(ts) OVER (PARTITION BY visitor, {x} ORDER BY ts) AS {x}_{edge}"
            for x in self._listed
            for function, edge in (("LAG", "before"), ("LEAD", "after"))
        )
        none = f"CAST(NULL AS {self.scope.sql.timestamp_type})"
        nulls = ", ".join([none] * (2 * len(self._listed)))
        return MARKED.format(neighbours=neighbours, some=some, nulls=nulls)

    def _totals(self) -> str:
        counted = self._counted
        sql = self.scope.sql
        return TOTALS.format(
            ones=_COMMA.join(
                f"    CASE WHEN {value} IS NOT NULL THEN TRUE END AS {name}"
                for name, value in counted.items()
            ),
            nulls=", ".join(["NULL"] * len(counted)),
            totals=_COMMA.join(
                f"      COUNT({name}) OVER {sql.so_far} AS {name}" for name in counted
            ),
            names="".join(f", {name}" for name in counted),
            source="marked" if self._listed else "matched",
            beginning=sql.beginning,
            following=sql.following,
            order=sql.sorted_first,
            materialized=sql.materialized,
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
            began = ended = f"{self.scope.x(attribute)}_n"
            if attribute.aggregation in DISTINCT:
                began, ended = self._runs(attribute)
            needed.setdefault("now", []).append(began)
            needed.setdefault(self._past(attribute), []).append(ended)
        return {alias: list(dict.fromkeys(names)) for alias, names in needed.items()}

    def _look(self, alias: str, at: str, names: list[str]) -> str:
        columns = ", ".join(["visitor", "ts", *names])
        return "  " + self.scope.sql.latest(f"(SELECT {columns} FROM totals)", alias, "a", at)

    def _difference(self, attribute: Attribute) -> str:
        past, name = self._past(attribute), self.scope.name(attribute)
        began = ended = f"{self.scope.x(attribute)}_n"
        if attribute.aggregation in DISTINCT:
            began, ended = self._runs(attribute)
        if attribute.aggregation in COUNTS | DISTINCT:
            return f"NULLIF(now.{began} - {past}.{ended}, 0) AS {name}"
        number = f"{past}.{ended} + 1" if attribute.aggregation in EARLIEST else f"now.{began}"
        number_name = self.scope.name(attribute, "number")
        return f"CASE WHEN now.{began} > {past}.{ended} THEN {number} END AS {number_name}"
