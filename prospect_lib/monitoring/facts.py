"""What is known of an audit before its causes are: event types, days, values, pairs of texts.

Example: ``facts_of(recomputation, events, sample_events, visitors).days`` -> ``{date(…): 812, …}``
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
from snowplow_signals import AtomicProperty, AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.properties import column_of, leaves
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, ROBOT_COLUMNS
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.warehouse import Warehouse

_DAYS = timedelta(days=31)  # a missing one may be so long before the last score
_PATHS = ("page_url", "page_urlpath")


@dataclass(frozen=True)
class Facts:
    """What hypotheses are made of.

    Attributes:
        group: the attributes that were served.
        sql: of the warehouse.
        columns: of the events.
        open: names of the attributes with mismatches of unknown cause.
        types: ``event_vendor`` and ``event_name`` of each event type in the warehouse.
        days: before the last score, without its own; whether the warehouse has no events of it.
        properties: by which one side may leave out events or visitors.
        empty: names of properties without any value in the warehouse.
        values: ``visitor``, ``property`` (its place), ``value`` and ``open`` of a sample.
        paths: the most frequent values of the columns with addresses of pages.
        pairs: ``attribute``, ``served`` and ``recomputed`` of text mismatches, most first.
        known_since: when Signals began to count.
        published: attributes that Signals defines differently, by name.
    """

    group: AttributeGroup
    sql: Dialect
    columns: frozenset[str]
    open: frozenset[str]
    types: pd.DataFrame
    days: Mapping[date, bool]
    properties: Sequence[Any]
    empty: frozenset[str]
    values: pd.DataFrame
    paths: Mapping[str, Sequence[str]]
    pairs: pd.DataFrame
    known_since: datetime | None = None
    published: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def attributes(self) -> list[Attribute]:
        """The attributes with mismatches of unknown cause."""
        return [a for a in self.group.attributes or [] if a.name in self.open]


def facts_of(
    recomputation: Recomputation, events: str, sample: str, visitors: "pd.Series[str]"
) -> Facts:
    """Return what the warehouse and the mismatches say.

    Args:
        events: a SELECT of all events, with the columns of ``keyed_events``.
        sample: a relation of the events of some visitors.
        visitors: those of them with mismatches of unknown cause.
    """
    warehouse, group = recomputation.warehouse, recomputation.group
    sql, columns = dialect_of(warehouse.dialect), frozenset(warehouse.columns())
    properties = _properties(group, columns)
    is_open = recomputation.frame("SELECT DISTINCT attribute FROM mismatches WHERE cause IS NULL")
    return Facts(
        group=group,
        sql=sql,
        columns=columns,
        open=frozenset(is_open["attribute"]),
        types=_types(warehouse, columns, sql),
        days=_days(recomputation, events),
        properties=properties,
        empty=_empty(warehouse, properties, sql),
        values=_values(warehouse, sample, properties, visitors, sql),
        paths={c: _frequent(warehouse, sample, sql.identifier(c)) for c in _PATHS if c in columns},
        pairs=recomputation.frame(
            "SELECT attribute, served, recomputed, COUNT(*) AS n FROM mismatches WHERE cause IS "
            "NULL AND served IS NOT NULL AND recomputed IS NOT NULL AND TRY_CAST(served AS DOUBLE) "
            "IS NULL AND served NOT LIKE '[%' GROUP BY ALL ORDER BY n DESC, 1, 2, 3 LIMIT 8"
        ),
    )


def _types(warehouse: Warehouse, columns: frozenset[str], sql: Dialect) -> pd.DataFrame:
    names = [
        sql.identifier(name) if name in columns else f"NULL AS {sql.identifier(name)}"
        for name in ("event_vendor", "event_name")
    ]
    types = warehouse.query(
        f"SELECT DISTINCT {', '.join(names)} FROM {warehouse.events} ORDER BY 1, 2"
    ).to_pandas()
    return types.astype(object).where(types.notna(), None)


def _days(recomputation: Recomputation, events: str) -> dict[date, bool]:
    """A last day without events is a stream that has stopped."""
    days = recomputation.warehouse.query(
        f"SELECT DISTINCT CAST(e.{HAPPENED} AS DATE) AS happened_on FROM ({events}) AS e "
        f"WHERE e.{HAPPENED} IS NOT NULL ORDER BY 1"
    )["happened_on"].to_pylist()
    last = pd.Timestamp(recomputation.frame("SELECT MAX(anchor_ts) AS ts FROM served")["ts"][0])
    first = max([last.date() - _DAYS, *days[:1]])
    between = (first + timedelta(days=n) for n in range((last.date() - first).days))
    return {day: day not in days for day in between}


def _properties(group: AttributeGroup, columns: frozenset[str]) -> list[Any]:
    used = [leaf for a in group.attributes or [] if a.property for leaf in leaves(a.property)]
    robots = [
        AtomicProperty.model_construct(type="atomic", name=name, date_part=None)
        for name in ROBOT_COLUMNS
    ]
    unique = {(column_of(prop), getattr(prop, "path", "")): prop for prop in [*used, *robots]}
    return [prop for (column, _), prop in unique.items() if column in columns]


def _empty(warehouse: Warehouse, properties: Sequence[Any], sql: Dialect) -> frozenset[str]:
    if not properties:
        return frozenset()
    counts = ", ".join(
        f"COUNT({property_sql(prop, sql)}) AS n{place}" for place, prop in enumerate(properties)
    )
    (row,) = warehouse.query(f"SELECT {counts} FROM {warehouse.events}").to_pylist()
    return frozenset(
        property_name(prop) for place, prop in enumerate(properties) if not row[f"n{place}"]
    )


def property_name(prop: Any) -> str:
    """Return what a property is called: its path, or its column."""
    return str(getattr(prop, "path", None) or prop.name)


def _values(
    warehouse: Warehouse,
    sample: str,
    properties: Sequence[Any],
    visitors: "pd.Series[str]",
    sql: Dialect,
) -> pd.DataFrame:
    selects = [
        f"SELECT DISTINCT {KEY} AS visitor, {place} AS property, "
        f"{sql.as_text(property_sql(prop, sql))} AS property_value FROM {sample}"
        for place, prop in enumerate(properties)
    ]
    columns = ["visitor", "property", "value"]
    if not selects:
        return pd.DataFrame(columns=[*columns, "open"])
    values = warehouse.query(" UNION ALL ".join(selects)).to_pandas().dropna()
    values.columns = pd.Index(columns)
    values["open"] = values["visitor"].isin(visitors)
    return values.sort_values(["property", "value", "visitor"], ignore_index=True)


def _frequent(warehouse: Warehouse, sample: str, column: str) -> list[str]:
    counted = warehouse.query(
        f"SELECT {column} AS address, COUNT(*) AS n FROM {sample} WHERE {column} IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 200"
    )
    return [str(address) for address in counted["address"].to_pylist()]
