"""The part of the events that a training set or an audit needs, read once.

A real events table has billions of rows; it is partitioned by a time of the collector or the
loader. So the columns and the window are known before anything is read. On Snowflake the part is
copied into a temporary table, and duplicates are left out; on DuckDB it is a SELECT, because
reading an embedded table twice costs little.

Example::

    part = EventsPart.of(warehouse, group, anchors)
    with part.read(warehouse) as events:
        events.query(f"SELECT COUNT(*) FROM {events.events}")
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import ttl_of
from prospect_lib.aggregation.keys import key_property
from prospect_lib.aggregation.properties import to_utc
from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError
from prospect_lib.problem import ScoringProblem
from prospect_lib.settings import PARTITION_SETTINGS
from prospect_lib.sql.clocks import earlier
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.context import MICROSECOND
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.available import columns_of_anchors, key_columns
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse
from prospect_lib.warehouse.clocks import end_of_data
from prospect_lib.warehouse.events import columns_of
from prospect_lib.warehouse.tables import create_temporary, drop_table

#: How far the window reaches beyond what is needed: for clocks that are ahead, sessions that began
#: before, and events that are loaded late.
SLACK = timedelta(days=1)
#: How far back a remote table is read for values that look at a visitor's whole history.
LONGEST_HISTORY = timedelta(days=365)
#: Arguments of anchors that look at a visitor's whole history.
_WHOLE_HISTORY = ("app_ids", "first_seen", "min_events", "until_goal")


@dataclass(frozen=True)
class EventsPart:
    """Columns and window of the events that are read.

    Attributes:
        columns: names, in lower case, sorted.
        since, until: events collected at or after, and before (aware); ``None`` for all.
        visitors: a SELECT of identifiers, if only their events are read.
        key: what identifies the visitor of an event, as SQL.
        notes: sentences about what is not read.
    """

    columns: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    visitors: str = ""
    key: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        warehouse: Warehouse,
        group: AttributeGroup,
        anchors: Anchors,
        *,
        visitors: str = "",
    ) -> "EventsPart":
        """Return what rows between ``anchors.since`` and ``anchors.until`` need.

        Args:
            visitors: a SELECT of identifiers, if only these visitors are rows.
        Raises:
            DataError: the table is not embedded, and the anchors have no ``since`` or the events
                no column by which they are partitioned.
        """
        columns, is_embedded = warehouse.columns(), isinstance(warehouse, DuckDBWarehouse)
        needed = {"collector_tstamp", "derived_tstamp", "event_name", *key_columns(group)}
        needed |= columns_of_anchors(anchors).union(*columns_of(group).values())
        since, until = to_utc(anchors.since), to_utc(anchors.until)
        notes = []
        if warehouse.source:
            return cls(tuple(sorted(needed & set(columns))))
        if not is_embedded:
            _refuse_all_events(warehouse, since, columns)
            until = until or end_of_data(warehouse) + MICROSECOND
        if since is not None:
            length, unbounded = _history(group, anchors)
            if not unbounded:
                since = earlier(since, length + SLACK)
            elif is_embedded:
                since = None
            else:
                since = earlier(since, max(length, LONGEST_HISTORY) + SLACK)
                notes.append(
                    f"{', '.join(unbounded)}: these look at a visitor's whole history; events "
                    f"before {since:%Y-%m-%d} are not read. Give attributes a period."
                )
        if warehouse.partition not in columns:
            since = until = None
        return cls(
            columns=tuple(sorted(needed & set(columns))),
            since=since,
            until=until,
            visitors=visitors,
            key=property_sql(key_property(group), dialect_of(warehouse.dialect)),
            notes=tuple(notes),
        )

    def select(self, warehouse: Warehouse) -> str:
        """Return the SELECT of this part; of a copy, that of which it is one."""
        if warehouse.source:
            return warehouse.source
        sql = dialect_of(warehouse.dialect)
        columns = ",\n  ".join(sql.identifier(column) for column in self.columns)
        conditions = self._conditions(warehouse)
        where = f"\nWHERE {' AND '.join(conditions)}" * bool(conditions)
        return f"SELECT\n  {columns}\nFROM {warehouse.events}{where}{self._once(warehouse)}"

    def _conditions(self, warehouse: Warehouse) -> list[str]:
        """The window, on the column as it is: a function of it would read every partition."""
        sql = dialect_of(warehouse.dialect)
        partition, bounds = sql.identifier(warehouse.partition), []
        by_collector = warehouse.partition == "collector_tstamp"
        if self.since is not None:
            bounds.append(f"{partition} >= {sql.literal(self.since)}")
        if self.until is not None:
            until = self.until if by_collector else self.until + SLACK
            bounds.append(f"{partition} < {sql.literal(until)}")
            if not by_collector and "collector_tstamp" in self.columns:
                collected = sql.identifier("collector_tstamp")
                bounds.append(f"{collected} < {sql.literal(self.until)}")
        if bounds and isinstance(warehouse, DuckDBWarehouse):  # a file may lack some of the times
            bounds = [f"({' AND '.join(bounds)} OR {partition} IS NULL)"]
        return [*bounds, f"{self.key} IN ({self.visitors})"] if self.visitors else bounds

    def _once(self, warehouse: Warehouse) -> str:
        """The clause by which an ``event_id`` counts once; embedded events are unique already."""
        if isinstance(warehouse, DuckDBWarehouse) or "event_id" not in warehouse.columns():
            return ""
        sql = dialect_of(warehouse.dialect)
        event_id = sql.identifier("event_id")
        order = [c for c in ("collector_tstamp", "derived_tstamp") if c in self.columns]
        window = f"PARTITION BY {event_id} ORDER BY {', '.join(map(sql.identifier, order))}"
        return f"\nQUALIFY COALESCE({event_id}, '') = '' OR ROW_NUMBER() OVER ({window}) = 1"

    @contextmanager
    def read(
        self, warehouse: Warehouse, *, data_end: datetime | None = None
    ) -> Iterator[Warehouse]:
        """Yield the warehouse with this part as its events; leaving drops the copy, if any.

        A warehouse whose events are a copy already is yielded as it is.

        Args:
            data_end: when the data ends, if it cannot be seen in the part.
        Raises:
            ServiceError: the warehouse refuses the statement.
        """
        if warehouse.source:
            yield warehouse
            return
        if isinstance(warehouse, DuckDBWarehouse):
            select = self.select(warehouse)
            is_all = self.since is None and self.until is None
            yield warehouse.part(warehouse.events if is_all else f"({select})")
            return
        copy = self.copy(warehouse, data_end=data_end)
        try:
            yield copy
        finally:
            drop_table(warehouse, copy.events)

    def copy(self, warehouse: Warehouse, *, data_end: datetime | None = None) -> Warehouse:
        """Copy this part into a temporary table, once it is said what that reads.

        Raises:
            ServiceError: the warehouse refuses the statement.
        """
        select = self.select(warehouse)
        warehouse.announce(select)
        name = create_temporary(warehouse, "events", select)
        return warehouse.part(name, source=select, data_end=data_end, notes=self.notes)


def read_once(warehouse: Warehouse, problem: ScoringProblem) -> Warehouse:
    """Return the warehouse with only the events that a problem's rows need.

    Snowflake's are read once, into a temporary table that lasts until the warehouse is closed;
    whatever follows reads the copy. Embedded events stay as they are.

    Example: ``warehouse = read_once(open_warehouse(settings), problem)``

    Raises:
        DataError, ServiceError: as :meth:`EventsPart.of` and :meth:`EventsPart.copy`.
    """
    if isinstance(warehouse, DuckDBWarehouse) or warehouse.source:
        return warehouse
    return EventsPart.of(warehouse, problem.group, problem.anchors).copy(warehouse)


def _refuse_all_events(
    warehouse: Warehouse, since: datetime | None, columns: Collection[str]
) -> None:
    if warehouse.partition not in columns:
        setting = PARTITION_SETTINGS.get(warehouse.dialect, "partition=")
        raise DataError(
            f"{warehouse.events} has no column {warehouse.partition}, by which to read a part of "
            f"it. Set {setting} to the time column by which the table is partitioned."
        )
    if since is None:
        raise DataError(
            f"a window is needed, so that not all of {warehouse.events} is read. Give its start: "
            "--since 2026-01-31, or Anchors(since=...)."
        )


def _history(group: AttributeGroup, anchors: Anchors) -> tuple[timedelta, list[str]]:
    """Return how long before a row events count, and what looks back without a limit."""
    unbounded = [f"{name} of the anchors" for name in _WHOLE_HISTORY if getattr(anchors, name)]
    lengths = [timedelta()]
    for attribute in group.attributes or []:
        is_latest = attribute.aggregation in ("last", "time_since_last")
        length = attribute.period or (ttl_of(group, attribute) if is_latest else None)
        if length is None:
            unbounded.append(str(attribute.name))
        else:
            lengths.append(length)
    return max(lengths), sorted(unbounded)


def anchors_sql(events: Warehouse, problem: ScoringProblem) -> str:
    """Return the SELECT of a problem's anchors over what :meth:`EventsPart.read` yields."""
    return problem.anchors.sql(
        events=events.events,
        key=problem.group,
        dialect=events.dialect,
        columns=events.columns(),
    )
