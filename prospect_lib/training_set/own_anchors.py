"""Your own anchors: a relation of the warehouse, its columns read whatever their types.

The relation has the key's column, ``anchor_ts``, and perhaps ``label`` and ``weight``; its other
columns are ignored, so an earlier training set is such a relation too.

Example: ``OwnAnchors.of(warehouse, "own", group).select`` -> a SELECT as of ``Anchors.sql``
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.keys import key_name
from prospect_lib.aggregation.properties import to_utc
from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError, ServiceError, one_line
from prospect_lib.sql.clocks import BEHIND
from prospect_lib.sql.conditions import nobody_sql
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.training_set.events_part import EventsPart
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse
from prospect_lib.warehouse.tables import qualified_name

YES, NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
SELECT = """\
SELECT {columns}
FROM {relation} AS own
WHERE {conditions}"""
#: One row: how many rows are left out and why, and the values that cannot be read.
CHECKS = """\
SELECT
  COUNT(*) AS row_count,
  COUNT(CASE WHEN {key} IN ({nobody}) THEN NULL ELSE {key} END) AS identified,
  {label} AS labelled,
  {ts} AS placed,
  MIN({time}) AS first_ts,
  MAX({time}) AS last_ts,
  MIN({bad_label}) AS bad_label,
  MIN({bad_anchor_ts}) AS bad_anchor_ts,
  MIN({bad_weight}) AS bad_weight
FROM {relation} AS own"""


@dataclass(frozen=True)
class OwnAnchors:
    """A relation of anchors that can be used.

    Attributes:
        select: the SELECT of the key as text, ``anchor_ts`` in UTC, ``label`` as a boolean and
            ``weight``, if there are, without the rows that are left out.
        notes: how many rows are left out, and why.
        relation: its name.
        first, last: the earliest and the latest anchor, in UTC; ``None`` without anchors.
    """

    select: str
    notes: tuple[str, ...]
    relation: str
    first: datetime | None
    last: datetime | None

    @classmethod
    def of(cls, warehouse: Warehouse, relation: str, group: AttributeGroup) -> "OwnAnchors":
        """Read the relation's columns and check its values.

        Raises:
            DataError: a column is missing, or has a value that cannot be read; the message names
                both.
            ServiceError: there is no such relation.
        """
        sql, key = dialect_of(warehouse.dialect), key_name(group)
        relation = qualified_name(warehouse, relation)
        name = one_line(relation, 80)
        try:
            schema = warehouse.query(f"SELECT * FROM {relation} LIMIT 0").schema
        except ServiceError as error:
            raise ServiceError(
                f"the anchors {name} cannot be read; give Anchors(...), or a table or view of "
                f"the warehouse: {error}"
            ) from error
        if missing := [name for name in (key, "anchor_ts") if name not in schema.names]:
            raise DataError(
                f"the anchors {name} have no column {' and '.join(missing)}; they have "
                f"{', '.join(schema.names)}. Give them these names in a view."
            )
        columns = _Columns(sql, schema, key)
        counts = warehouse.query(columns.checks(relation)).to_pylist()[0]
        _refuse_unreadable(name, counts)
        notes = tuple(_left_out(name, key, counts))
        first, last = to_utc(counts["first_ts"]), to_utc(counts["last_ts"])
        return cls(columns.select(relation), notes, name, first, last)

    def part(self, warehouse: Warehouse, group: AttributeGroup) -> EventsPart:
        """Return the part of the events that these anchors need; all of embedded ones.

        Raises:
            DataError: there is no anchor, or as in :meth:`EventsPart.of`.
        """
        if isinstance(warehouse, DuckDBWarehouse):
            return EventsPart.of(warehouse, group, Anchors())
        if self.first is None or self.last is None:
            raise DataError(f"no training row: the relation {self.relation} has no anchor_ts.")
        sql = dialect_of(warehouse.dialect)
        window = Anchors(since=self.first, until=self.last + BEHIND)
        visitors = f"SELECT {sql.identifier(key_name(group))} FROM ({self.select}) AS anchors"
        return EventsPart.of(warehouse, group, window, visitors=visitors)


@dataclass(frozen=True)
class _Columns:
    """The expressions over the columns of own anchors."""

    sql: Dialect
    schema: pa.Schema
    key_name: str

    @property
    def key(self) -> str:
        column = self._column(self.key_name)
        kind = self.schema.field(self.key_name).type
        if pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale > 0):
            return self.sql.number_text(f"CAST({column} AS DOUBLE)")  # 12.0 is the identifier 12
        return self.sql.as_text(column)

    @property
    def label(self) -> str:
        text = f"LOWER({self._text('label')})"
        number = f"TRY_CAST({text} AS DOUBLE)"
        yes, no = (", ".join(map(self.sql.text, words)) for words in (YES, NO))
        return (
            f"CASE WHEN {text} IN ({yes}) OR {number} = 1 THEN TRUE "
            f"WHEN {text} IN ({no}) OR {number} = 0 THEN FALSE END"
        )

    @property
    def _time(self) -> str:
        """The moment of an anchor; NULL if it cannot be read."""
        return self.sql.timestamp(self._text("anchor_ts"))

    def select(self, relation: str) -> str:
        values = {self.key_name: self.key, "anchor_ts": self.sql.utc(self._column("anchor_ts"))}
        conditions = [
            f"{self.key} NOT IN ({nobody_sql(self.sql)})",
            f"{self._column('anchor_ts')} IS NOT NULL",
        ]
        if self._has("label"):
            values["label"] = self.label
            conditions.append(f"{self._column('label')} IS NOT NULL")
        if self._has("weight"):
            values["weight"] = f"CAST({self._column('weight')} AS DOUBLE)"
        columns = ", ".join(f"{v} AS {self.sql.identifier(name)}" for name, v in values.items())
        return SELECT.format(
            columns=columns, relation=relation, conditions=" AND ".join(conditions)
        )

    def checks(self, relation: str) -> str:
        return CHECKS.format(
            key=self.key,
            nobody=nobody_sql(self.sql),
            label=f"COUNT({self._column('label')})" if self._has("label") else "COUNT(*)",
            ts=f"COUNT({self._column('anchor_ts')})",
            time=self._time,
            bad_label=self._unreadable("label", self.label),
            bad_anchor_ts=self._unreadable("anchor_ts", self._time),
            bad_weight=self._unreadable("weight", self.sql.number(self._text("weight"))),
            relation=relation,
        )

    def _unreadable(self, name: str, value: str) -> str:
        """The text of a value that is there but gives none."""
        return f"CASE WHEN {value} IS NULL THEN {self._text(name)} END" if self._has(name) else "''"

    def _has(self, name: str) -> bool:
        return name in self.schema.names

    def _column(self, name: str) -> str:
        return f"own.{self.sql.identifier(name)}"

    def _text(self, name: str) -> str:
        return self.sql.as_text(self._column(name))


def _refuse_unreadable(relation: str, counts: dict[str, Any]) -> None:
    for column, expected in (
        ("label", "true or false, yes or no, 1 or 0"),
        ("anchor_ts", "a time in UTC, or text such as 2026-01-31 06:00:00"),
        ("weight", "a number"),
    ):
        if value := counts[f"bad_{column}"]:
            raise DataError(
                f"{column} of the anchors {relation} is {value[:60]!r}, expected {expected}."
            )


def _left_out(relation: str, key: str, counts: dict[str, Any]) -> list[str]:
    total = counts["row_count"]
    reasons = {
        f"have no {key}": total - counts["identified"],
        "have no anchor_ts": total - counts["placed"],
        "have no label, so their outcome is not known": total - counts["labelled"],
    }
    return [
        f"{count:,} of {total:,} rows of {relation} {reason}; they are left out."
        for reason, count in reasons.items()
        if count
    ]
