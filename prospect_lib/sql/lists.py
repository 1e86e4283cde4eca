"""Attributes that hold several values, or rank them: lists and tallies, a step each.

A list knows for each value how long it stands, from where it is seen until it is seen
again or too old. A tally has a time line of its own for each value of a visitor.
"""

from dataclasses import dataclass

from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import MAX_VALUES
from prospect_lib.sql.context import Scope
from prospect_lib.sql.steps import LIST, TALLY
from prospect_lib.sql.windows import Windows

LISTS = {"unique_list", "approx_count_distinct"}
TALLIES = {"most_frequent", "least_frequent", "category_count"}


@dataclass(frozen=True)
class Listings:
    """The steps of the given lists and tallies; each gives a relation named as its attribute."""

    scope: Scope
    attributes: list[Attribute]
    windows: Windows

    def steps(self) -> list[str]:
        return [
            self._list(a) if a.aggregation in LISTS else self._tally(a) for a in self.attributes
        ]

    def join(self, alias: str) -> str:
        return "\n".join(
            f"LEFT JOIN {self.scope.name(a)} AS {self._of(a)}\n"
            f"  ON {self._of(a)}.visitor = {alias}.visitor AND {self._of(a)}.ts = {alias}.ts"
            for a in self.attributes
        )

    def value(self, attribute: Attribute) -> str:
        return f"{self._of(attribute)}.{self.scope.name(attribute)}"

    def _of(self, attribute: Attribute) -> str:
        return self.scope.name(attribute, "of")

    def _list(self, attribute: Attribute) -> str:
        scope, sql = self.scope, self.scope.sql
        length = scope.length(attribute)
        earlier = "LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value)"
        pause = f"ts > {earlier} + {sql.interval(length)}" if length else "FALSE"
        listed = sql.newest(sql.array("r.value", "r.run"), MAX_VALUES)
        return LIST.format(
            title=attribute.name,
            x=scope.x(attribute),
            pause=pause,
            until=self._until(attribute),
            collected=listed if attribute.aggregation == "unique_list" else "COUNT(*)",
            result=scope.name(attribute),
            **{what: scope.name(attribute, what) for what in ("seen", "numbered", "runs")},
        )

    def _until(self, attribute: Attribute) -> str:
        """How long a run stands: a period after its end, or a ttl after its life's end."""
        sql, ttl = self.scope.sql, self.scope.ttl(attribute)
        if attribute.period is not None:
            return f"MAX(ts) + {sql.interval(self.scope.reach(attribute.period))}"
        if ttl is None:
            return f"CAST(NULL AS {sql.timestamp_type})"
        end = "MAX(MAX(ts)) OVER (PARTITION BY visitor, life)"
        return f"{end} + {sql.interval(self.scope.reach(ttl))}"

    def _tally(self, attribute: Attribute) -> str:
        scope, sql = self.scope, self.scope.sql
        mortal = attribute in self.windows.mortal
        whole = attribute.aggregation == "category_count"
        return TALLY.format(
            title=attribute.name,
            x=scope.x(attribute),
            life=f", m.{scope.name(attribute, 'life')}" if mortal else "",
            source=self.windows.source,
            frame=self.windows.frame(attribute).replace("visitor", "visitor, value", 1),
            order="n" if attribute.aggregation == "least_frequent" else "n DESC",
            keep=MAX_VALUES if whole else 1,
            alive=self._alive(attribute),
            collected=sql.counts_object("value", "n", "place") if whole else "MIN(value)",
            result=scope.name(attribute),
            **{what: scope.name(attribute, what) for what in ("line", "counted", "ranked")},
        )

    def _alive(self, attribute: Attribute) -> str:
        ttl = self.scope.ttl(attribute)
        back = self.scope.sql.interval(self.scope.reach(ttl)) if ttl else ""
        return f" AND updated >= ts - {back}" if ttl else ""
