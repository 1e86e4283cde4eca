"""What every step of a compiled statement shares: the names of columns, instants and lengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import ttl_of
from prospect_lib.sql.conditions import matched_value
from prospect_lib.sql.dialects import Dialect

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Scope:
    """One group, for one dialect, over the relations named ``events`` and ``anchors``."""

    group: AttributeGroup
    sql: Dialect
    events: str
    anchors: str
    include_anchor: bool = True

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
        """The column of ``matched`` that holds what an event gives the attribute."""
        return self.taken[matched_value(attribute, self.sql)]

    def ttl(self, attribute: Attribute) -> timedelta | None:
        return ttl_of(self.group, attribute)

    def length(self, attribute: Attribute) -> timedelta | None:
        """How long ago the latest event may be: the period, else the ttl, else any."""
        return attribute.period or self.ttl(attribute)
