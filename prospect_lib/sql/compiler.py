"""From an attribute group to one SQL statement that reads every event once.

Its first steps are those of every statement: who and which moments are asked about
(``visitors``, ``moments_asked``), and what each event gives each attribute (``matched``).
Then come the steps of each kind of attribute (:mod:`prospect_lib.sql.running_totals`,
:mod:`prospect_lib.sql.windows`, :mod:`prospect_lib.sql.lists`). Events are never joined with
events, so the cost grows with their number, not its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import MAX_VALUES, SECONDS_IN, check
from prospect_lib.features import Feature
from prospect_lib.sql.context import Scope
from prospect_lib.sql.lists import LISTS, TALLIES, Listings
from prospect_lib.sql.running_totals import COUNTS, DISTINCT, EARLIEST, LATEST, Totals
from prospect_lib.sql.steps import RESULT, VISITORS
from prospect_lib.sql.windows import Windows

_COMMA = ",\n"
_ROUNDED = {"sum", "mean", "min", "max"}  # whole numbers if the attribute's type says so


def compile_attributes(scope: Scope) -> str:
    """The statement that gives every attribute of the group at every anchor."""
    compiler = Compiler.of(scope, counted=set())
    return compiler.statement([(a.name, compiler.value(a)) for a in scope.attributes])


def compile_features(scope: Scope, features: Sequence[Feature]) -> str:
    """The statement that gives every feature; of lists it counts the values only."""
    lists = {f.attribute for f in features if f.rule == "length" and f.attribute}
    compiler = Compiler.of(scope, counted=lists)
    return compiler.statement([(f.name, compiler.feature(f)) for f in features])


@dataclass(frozen=True)
class Compiler:
    """The parts of one statement: each attribute is in exactly one of them."""

    scope: Scope
    totals: Totals
    windows: Windows
    listings: Listings

    @classmethod
    def of(cls, scope: Scope, counted: set[str]) -> "Compiler":
        """Args: ``counted``: lists of which only the number of values is wanted."""
        by_totals, by_windows, by_listings = [], [], []
        for attribute in scope.attributes:
            check(attribute)
            if _is_total(scope, attribute, counted):
                by_totals.append(attribute)
            elif attribute.aggregation in LISTS | TALLIES:
                by_listings.append(attribute)
            else:
                by_windows.append(attribute)
        tallies = [a for a in by_listings if a.aggregation in TALLIES]
        windows = Windows(scope, [*by_windows, *tallies])
        return cls(scope, Totals(scope, by_totals), windows, Listings(scope, by_listings, windows))

    @property
    def parts(self) -> tuple[Totals, Windows, Listings]:
        return self.totals, self.windows, self.listings

    def statement(self, columns: list[tuple[str, str]]) -> str:
        """SELECT the named expressions at every anchor."""
        scope, sql = self.scope, self.scope.sql
        steps = [self._first_steps(), *(step for part in self.parts for step in part.steps())]
        return RESULT.format(
            steps=_COMMA.join(steps),
            columns=_COMMA.join(f"  {value} AS {sql.identifier(name)}" for name, value in columns),
            anchors=scope.anchors,
            key=scope.key,
            instant=scope.instant,
            anchor_ts=sql.identifier("anchor_ts"),
            joins="\n".join(join for part in self.parts if (join := part.join("m"))),
        )

    def _first_steps(self) -> str:
        scope, sql = self.scope, self.scope.sql
        columns = (f"    {taken} AS {x}" for taken, x in scope.taken.items())
        return VISITORS.format(
            materialized=sql.materialized,
            code=sql.code,
            key=scope.key,
            anchors=scope.anchors,
            instant=scope.instant,
            ts=f"CAST(e.{sql.identifier('derived_tstamp')} AS {sql.timestamp_type})",
            columns=_COMMA.join(columns),
            events=scope.events,
        )

    def value(self, attribute: Attribute) -> str:
        """An attribute at the anchor: as an age, as a whole number, or with its default."""
        value = self._raw(attribute)
        default = attribute.default_value
        return (
            value if default is None else f"COALESCE({value}, {self.scope.sql.constant(default)})"
        )

    def _raw(self, attribute: Attribute) -> str:
        scope, sql = self.scope, self.scope.sql
        part = next(part for part in reversed(self.parts) if attribute in part.attributes)
        value = part.value(attribute)
        if attribute.aggregation.startswith("time_since"):
            unit = float(SECONDS_IN[attribute.time_unit or "s"])
            return f"{sql.seconds_between(value, scope.anchor_ts)} / {unit}"
        whole = attribute.type.startswith("int") and attribute.aggregation in _ROUNDED
        return sql.whole(value) if whole else value

    def feature(self, feature: Feature) -> str:
        """A feature at the anchor, by the rules of :mod:`prospect_lib.features`."""
        if feature.attribute is None:
            return (
                f"CAST({self.scope.sql.date_part('day_of_week', self.scope.anchor_ts)} AS INTEGER)"
            )
        attribute = next(a for a in self.scope.attributes if a.name == feature.attribute)
        if feature.rule == "length":
            return self._length(attribute)
        value = self.value(attribute)
        return f"COALESCE({value} <> 0, FALSE)" if feature.rule == "any" else value

    def _length(self, attribute: Attribute) -> str:
        if attribute not in self.totals.attributes:
            is_array = attribute.aggregation == "unique_list"
            return self.scope.sql.size(self.value(attribute), is_array=is_array)
        count = self._raw(attribute)
        count = f"CASE WHEN {count} > {MAX_VALUES} THEN {MAX_VALUES} ELSE {count} END"
        default = attribute.default_value
        return f"COALESCE({count}, {len(default)})" if isinstance(default, list) else count


def _is_total(scope: Scope, attribute: Attribute, counted: set[str]) -> bool:
    """Whether running totals give it: unless it may start afresh, or is a list in full."""
    aggregation = attribute.aggregation
    if aggregation in LATEST:
        return True
    if aggregation == "unique_list" and attribute.name not in counted:
        return False
    return aggregation in COUNTS | EARLIEST | DISTINCT and scope.ttl(attribute) is None
