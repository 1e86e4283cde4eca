"""What all steps of a compiled statement share: names of columns, instants and lengths of time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import ttl_of
from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.errors import DefinitionError
from prospect_lib.sql.conditions import matched_value, nobody_sql, property_sql
from prospect_lib.sql.dialects import Dialect

MICROSECOND = timedelta(microseconds=1)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1),
          "s": timedelta(seconds=1), "us": MICROSECOND}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """One group, compiled for one dialect, over the relations ``events`` and ``anchors``.

    Attributes:
        events, anchors: a relation's name, or a SELECT in parentheses.
        include_anchor: whether events exactly at an anchor count.
    """

    group: AttributeGroup
    sql: Dialect
    events: str
    anchors: str
    include_anchor: bool = True

    def __post_init__(self) -> None:
        """Refuse relations that have no text."""
        for name in ("events", "anchors"):
            if not isinstance(relation := getattr(self, name), str):
                raise DefinitionError(
                    f"{name} is a {type(relation).__name__}, expected the name of a relation, or a "
                    "SELECT in parentheses."
                )

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self.group.attributes or []

    @property
    def key(self) -> str:
        """The column of the anchors that identifies a visitor, quoted."""
        return self.sql.identifier(key_name(self.group))

    @property
    def event_key(self) -> str:
        """What identifies the visitor of an event ``e``."""
        return property_sql(key_property(self.group), self.sql, "e")

    @property
    def nobody(self) -> str:
        """The identifiers that stand for nobody, as a list."""
        return nobody_sql(self.sql)

    @property
    def anchor_ts(self) -> str:
        return f"a.{self.sql.identifier('anchor_ts')}"

    @property
    def anchor_time(self) -> str:
        """The last instant whose events count: a microsecond earlier if the anchor's do not."""
        shift = "" if self.include_anchor else f" - {self.sql.interval(MICROSECOND)}"
        return f"{self.anchor_ts}{shift}"

    def join(self, relation: str, alias: str) -> str:
        """Return the join of an anchor ``a`` of visitor ``v`` with its row of a relation."""
        at = f"{alias}.visitor = v.visitor AND {alias}.ts = {self.anchor_time}"
        return f"LEFT JOIN {relation} AS {alias}\n  ON {at}"

    def lookback(self, length: timedelta) -> timedelta:
        """Return how long before :attr:`anchor_time` a window of this length starts."""
        return length if self.include_anchor else length - MICROSECOND

    def name(self, attribute: Attribute, suffix: str = "value") -> str:
        """Return a name derived from the attribute's, quoted.

        It has a space, which is neither in the name of an attribute nor in one of a step or a
        column of ours, so that none of them can collide.
        """
        return self.sql.identifier(f"{attribute.name} {suffix}")

    @cached_property
    def value_columns(self) -> dict[str, str]:
        """The column of ``matched`` for each distinct expression that reads the events."""
        columns: dict[str, str] = {}
        for attribute in self.attributes:
            columns.setdefault(matched_value(attribute, self.sql), f"x{len(columns) + 1}")
        return columns

    def column(self, attribute: Attribute) -> str:
        """Return the column of ``matched`` with the value that an event has for the attribute."""
        return self.value_columns[matched_value(attribute, self.sql)]

    def columns(self, attributes: Iterable[Attribute]) -> list[str]:
        """Return the distinct columns of these attributes, in order."""
        return list(dict.fromkeys(self.column(attribute) for attribute in attributes))

    def ttl(self, attribute: Attribute) -> timedelta | None:
        """Return after how long without an update the attribute expires; ``None`` for never."""
        return ttl_of(self.group, attribute)

    def window(self, attribute: Attribute) -> timedelta | None:
        """Return how old the latest event may be: the period, else the TTL, else any age."""
        return attribute.period or self.ttl(attribute)


def label(length: timedelta | None) -> str:
    """Return a length of time as part of a name: ``7d``, ``36h``; ``all`` for no limit."""
    if length is None:
        return "all"
    unit = next(name for name, size in _UNITS.items() if not length % size)
    return f"{length // _UNITS[unit]}{unit}"


def lines(expressions: Iterable[str], indent: int = 4) -> str:
    """Return expressions as the columns of a SELECT, one per line."""
    return ",\n".join(" " * indent + expression for expression in expressions)
