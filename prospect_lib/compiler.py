"""From an attribute group to one SQL statement that reads every event once.

The statement's steps, in the words of its comments: what each event gives each attribute
(``matched``); what happened at each instant, anchors among them (``moments``); for
lifetime attributes, which life an instant belongs to (``lives``); what was known then
(``known``). Window frames over one visitor's time line carry the values to the anchors;
events are never joined with events, so the cost grows with their number, not its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation import MAX_VALUES, SECONDS_IN, check, ttl_of
from prospect_lib.conditions import matched_value
from prospect_lib.features import Feature
from prospect_lib.sql import Dialect
from prospect_lib.steps import BIRTH, LIFE, LIST, LIVES, PREVIOUS, TALLY

_COMMA = ",\n"
MICROSECOND = timedelta(microseconds=1)
LISTS = {"unique_list", "approx_count_distinct"}
TALLIES = {"most_frequent", "least_frequent", "category_count"}
#: how the values of one instant combine, and then how those of a window do; of the value
#: column x, moments hold n (how many), total, low and high
_AT_ONE_INSTANT = {
    "n": "CAST(COUNT({x}) AS INTEGER)",
    "total": "SUM({x})",
    "low": "MIN({x})",
    "high": "MAX({x})",
}
_OVER_A_WINDOW = {
    "counter": "CAST(NULLIF(SUM({n}) OVER {w}, 0) AS BIGINT)",
    "sum": "SUM({total}) OVER {w}",
    "mean": "SUM({total}) OVER {w} / NULLIF(SUM({n}) OVER {w}, 0)",
    "min": "MIN({low}) OVER {w}",
    "max": "MAX({high}) OVER {w}",
    "first": "FIRST_VALUE({low} IGNORE NULLS) OVER {w}",
    "last": "LAST_VALUE({high} IGNORE NULLS) OVER {w}",
    "time_since_first": "MIN(CASE WHEN {n} > 0 THEN ts END) OVER {w}",
    "time_since_last": "MAX(CASE WHEN {n} > 0 THEN ts END) OVER {w}",
}


@dataclass(frozen=True)
class Compiler:
    """The statement of one group, for one dialect, over two named relations."""

    group: AttributeGroup
    sql: Dialect
    events: str
    anchors: str
    include_anchor: bool = True

    # --- names ---------------------------------------------------------------------------

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self.group.attributes or []

    @property
    def key(self) -> str:
        return self.sql.identifier(self.group.attribute_key.name or "")

    @property
    def anchor_ts(self) -> str:
        return f"CAST(a.{self.sql.identifier('anchor_ts')} AS {self.sql.timestamp_type})"

    @property
    def instant(self) -> str:
        """An anchor's place on the time line: a microsecond earlier if it is left out."""
        shift = "" if self.include_anchor else f" - {self.sql.interval(MICROSECOND)}"
        return f"{self.anchor_ts}{shift}"

    def reach(self, length: timedelta) -> timedelta:
        """How far back from :attr:`instant` something ``length`` before the anchor lies."""
        return length if self.include_anchor else length - MICROSECOND

    def name(self, attribute: Attribute, what: str = "") -> str:
        return self.sql.identifier(f"{attribute.name} {what}".strip())

    @cached_property
    def taken(self) -> dict[str, str]:
        """The distinct expressions that events are read with, and the column each fills."""
        columns: dict[str, str] = {}
        for attribute in self.attributes:
            columns.setdefault(matched_value(attribute, self.sql), f"x{len(columns) + 1}")
        return columns

    def x(self, attribute: Attribute) -> str:
        return self.taken[matched_value(attribute, self.sql)]

    def ttl(self, attribute: Attribute) -> timedelta | None:
        return ttl_of(self.group, attribute)

    @cached_property
    def mortal(self) -> list[Attribute]:
        """Lifetime attributes that count afresh after they ran out (the latest value need not)."""
        other = {"last", "time_since_last", *LISTS}
        return [a for a in self.attributes if self.ttl(a) and a.aggregation not in other]

    # --- the statement -------------------------------------------------------------------

    def statement(self, columns: list[tuple[str, str]]) -> str:
        """SELECT the named expressions at every anchor."""
        for attribute in self.attributes:
            check(attribute)
        steps = [self._matched(), self._moments(), *self._lives(), self._known()]
        for attribute in self.attributes:
            if attribute.aggregation in LISTS:
                steps.append(self._list_step(attribute))
            elif attribute.aggregation in TALLIES:
                steps.append(self._tally_step(attribute))
        selected = ",\n".join(f"  {sql} AS {self.sql.identifier(name)}" for name, sql in columns)
        order = f"a.{self.key}, a.{self.sql.identifier('anchor_ts')}"
        return (
            "WITH\n" + ",\n".join(steps) + "\n-- each anchor with what was known at its moment\n"
            f"SELECT\n  a.*,\n{selected}\nFROM {self.anchors} AS a\n{self._joins()}\n"
            f"ORDER BY {order}"
        )

    def _joins(self) -> str:
        apart = [a for a in self.attributes if a.aggregation in LISTS | TALLIES]
        joined = [("v", "known"), *((self.name(a, "of"), self.name(a)) for a in apart)]
        return "\n".join(
            f"LEFT JOIN {table} AS {alias}\n"
            f"  ON {alias}.visitor = a.{self.key} AND {alias}.ts = {self.instant}"
            for alias, table in joined
        )

    def value(self, attribute: Attribute) -> str:
        """An attribute at the anchor: as an age, as a whole number, or with its default."""
        apart = attribute.aggregation in LISTS | TALLIES
        value = f"{self.name(attribute, 'of') if apart else 'v'}.{self.name(attribute)}"
        if attribute.aggregation.startswith("time_since"):
            unit = float(SECONDS_IN[attribute.time_unit or "s"])
            value = f"{self.sql.seconds_between(value, self.anchor_ts)} / {unit}"
        elif attribute.type.startswith("int") and attribute.aggregation in (
            "sum",
            "mean",
            "min",
            "max",
        ):
            value = self.sql.whole(value)
        if attribute.default_value is None:
            return value
        return f"COALESCE({value}, {self.sql.constant(attribute.default_value)})"

    def feature(self, feature: Feature) -> str:
        """A feature at the anchor, by the rules of :mod:`prospect_lib.features`."""
        if feature.attribute is None:
            return f"CAST({self.sql.date_part('day_of_week', self.anchor_ts)} AS INTEGER)"
        attribute = next(a for a in self.attributes if a.name == feature.attribute)
        value = self.value(attribute)
        if feature.rule == "any":
            return f"COALESCE({value} <> 0, FALSE)"
        if feature.rule == "length":
            return self.sql.size(value, is_array=attribute.aggregation == "unique_list")
        return value

    # --- steps that all attributes share ---------------------------------------------------

    def _matched(self) -> str:
        columns = ",\n".join(f"    {taken} AS {x}" for taken, x in self.taken.items())
        ts = f"CAST({self.sql.identifier('derived_tstamp')} AS {self.sql.timestamp_type})"
        return (
            "-- what each event gives each attribute, NULL for nothing\n"
            f"matched AS {self.sql.materialized}(\n"
            f"  SELECT\n    {self.key} AS visitor,\n    {ts} AS ts,\n{columns}\n"
            f"  FROM {self.events}\n  WHERE {self.key} IS NOT NULL\n)"
        )

    @cached_property
    def _folds(self) -> list[tuple[str, str]]:
        """(x, fold) for each column of ``moments``, such as ``("x1", "n")``."""
        wanted = []
        for attribute in self.attributes:
            window = _OVER_A_WINDOW.get(attribute.aggregation, "{n}")
            folds = [fold for fold in _AT_ONE_INSTANT if f"{{{fold}}}" in window]
            folds += ["n"] if self.ttl(attribute) else []
            wanted += [(self.x(attribute), fold) for fold in folds]
        return list(dict.fromkeys(wanted))

    def _moments(self) -> str:
        columns = "".join(
            f",\n    {_AT_ONE_INSTANT[fold].format(x=x)} AS {x}_{fold}" for x, fold in self._folds
        )
        nulls = "".join(f", NULL AS {x}" for x in self.taken.values())
        xs = "".join(f", {x}" for x in self.taken.values())
        return (
            "-- what happened at each instant of a visitor's time line, anchors among them\n"
            f"moments AS {self.sql.materialized}(\n"
            f"  SELECT\n    visitor,\n    ts,\n    MAX(anchor) AS anchor{columns}\n"
            f"  FROM (\n    SELECT visitor, ts, 0 AS anchor{xs} FROM matched\n    UNION ALL\n"
            f"    SELECT a.{self.key}, {self.instant}, 1{nulls} FROM {self.anchors} AS a\n"
            "  ) AS instants\n  GROUP BY visitor, ts\n)"
        )

    def _lives(self) -> list[str]:
        """A lifetime attribute starts afresh when more than its ttl passed without an event."""
        names = [
            {
                "x": self.x(a),
                "ttl": self.sql.interval(self.ttl(a) or timedelta()),
                **{what: self.name(a, what) for what in ("before", "birth", "life")},
            }
            for a in self.mortal
        ]
        parts = {"previous": PREVIOUS, "births": BIRTH, "lives": LIFE}
        columns = {k: _COMMA.join(part.format(**n) for n in names) for k, part in parts.items()}
        return [LIVES.format(**columns)] if names else []

    def _frame(self, attribute: Attribute) -> str:
        """The window an attribute looks back over."""
        if attribute.period is not None:
            back = self.sql.interval(self.reach(attribute.period))
            frame = f"RANGE BETWEEN {back} PRECEDING AND CURRENT ROW"
            return f"(PARTITION BY visitor ORDER BY ts {frame})"
        life = f", {self.name(attribute, 'life')}" if attribute in self.mortal else ""
        frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        return f"(PARTITION BY visitor{life} ORDER BY ts {frame})"

    def _known(self) -> str:
        direct = [a for a in self.attributes if a.aggregation in _OVER_A_WINDOW]
        columns = "".join(f",\n    {self._windowed(a)} AS {self.name(a)}" for a in direct)
        source = "lives" if self.mortal else "moments"
        return (
            "-- the value of each attribute at each anchor\nknown AS (\n  SELECT * FROM (\n"
            f"  SELECT\n    visitor,\n    ts,\n    anchor{columns}\n  FROM {source}\n"
            "  ) AS everywhere\n  WHERE anchor = 1\n)"
        )

    def _windowed(self, attribute: Attribute) -> str:
        w, x = self._frame(attribute), self.x(attribute)
        columns = {fold: f"{x}_{fold}" for fold in _AT_ONE_INSTANT}
        value = _OVER_A_WINDOW[attribute.aggregation].format(w=w, **columns)
        ttl = self.ttl(attribute)
        if ttl is None:
            return value
        updated = f"MAX(CASE WHEN {x}_n > 0 THEN ts END) OVER {w}"
        alive = f"{updated} >= ts - {self.sql.interval(self.reach(ttl))}"
        return f"CASE WHEN {alive} THEN {value} END"

    # --- lists: each value stands from where it is seen until it is seen again or too old ----

    def _list_step(self, attribute: Attribute) -> str:
        length = attribute.period or self.ttl(attribute)
        earlier = "LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value)"
        pause = f"ts > {earlier} + {self.sql.interval(length)}" if length else "FALSE"
        listed = self.sql.newest(self.sql.array("r.value", "r.run"), MAX_VALUES)
        return LIST.format(
            title=attribute.name,
            x=self.x(attribute),
            pause=pause,
            until=self._until(attribute),
            collected=listed if attribute.aggregation == "unique_list" else "COUNT(*)",
            result=self.name(attribute),
            **{what: self.name(attribute, what) for what in ("seen", "numbered", "runs")},
        )

    def _until(self, attribute: Attribute) -> str:
        """How long a run stands: a period after its end, or a ttl after its life's end."""
        ttl = self.ttl(attribute)
        if attribute.period is not None:
            return f"MAX(ts) + {self.sql.interval(self.reach(attribute.period))}"
        if ttl is None:
            return f"CAST(NULL AS {self.sql.timestamp_type})"
        end = "MAX(MAX(ts)) OVER (PARTITION BY visitor, life)"
        return f"{end} + {self.sql.interval(self.reach(ttl))}"

    # --- tallies: how often each value occurred ----------------------------------------------

    def _tally_step(self, attribute: Attribute) -> str:
        mortal = attribute in self.mortal
        whole = attribute.aggregation == "category_count"
        return TALLY.format(
            title=attribute.name,
            x=self.x(attribute),
            life=f", m.{self.name(attribute, 'life')}" if mortal else "",
            source="lives" if mortal else "moments",
            frame=self._frame(attribute).replace("visitor", "visitor, value", 1),
            order="n" if attribute.aggregation == "least_frequent" else "n DESC",
            keep=MAX_VALUES if whole else 1,
            alive=self._alive(attribute),
            collected=self.sql.counts_object("value", "n", "place") if whole else "MIN(value)",
            result=self.name(attribute),
            **{what: self.name(attribute, what) for what in ("line", "counted", "ranked")},
        )

    def _alive(self, attribute: Attribute) -> str:
        ttl = self.ttl(attribute)
        return f" AND updated >= ts - {self.sql.interval(self.reach(ttl))}" if ttl else ""
