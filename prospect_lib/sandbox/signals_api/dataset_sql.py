"""Training sets as the Signals API builds them: three stages of DuckDB's SQL."""

from typing import Any

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import (
    DatasetBundleRequest,
    SessionAnchors,
    UserSuppliedAnchors,
    WarehouseTable,
)

from prospect_lib.sql.compiler import attributes_sql
from prospect_lib.sql.conditions import meets
from prospect_lib.sql.dialects import dialect_of

EVENTS = "events"
SQL = dialect_of("duckdb")

_SESSIONS = """\
WITH seen AS (
  SELECT {key} AS visitor, domain_sessionid AS session, derived_tstamp AS ts, event_id,
    COALESCE({goal}, FALSE) AS is_goal
  FROM {events}
  WHERE {key} IS NOT NULL AND domain_sessionid IS NOT NULL{excluded}
    AND derived_tstamp BETWEEN {start} AND {end}
),
placed AS (
  SELECT *, ROW_NUMBER() OVER session_so_far AS nth,
    MIN(CASE WHEN is_goal THEN ts END) OVER (PARTITION BY visitor, session) AS goal_ts
  FROM seen
  WINDOW session_so_far AS (PARTITION BY visitor, session ORDER BY ts, event_id)
),
-- a goal ends the part of a session that can be learned from
eligible AS (
  SELECT visitor, session, ts, event_id, goal_ts IS NOT NULL AS label
  FROM placed
  WHERE nth > {min_events} AND (goal_ts IS NULL OR ts < goal_ts)
),
-- samples are drawn by a hash of the event, so that the same data gives the same rows
drawn AS (
  SELECT * FROM eligible
  QUALIFY ROW_NUMBER() OVER (PARTITION BY visitor, session ORDER BY md5(event_id)) <= {per_session}
),
ranked AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY label ORDER BY md5(event_id)) AS place,
    SUM(CASE WHEN label THEN 1 ELSE 0 END) OVER () AS positives
  FROM drawn
)
SELECT visitor AS {key}, ts AS anchor_ts, label FROM ranked
WHERE label OR positives = 0 OR place <= {ratio} * positives"""


def bundle(request: DatasetBundleRequest) -> dict[str, Any]:
    """The response of ``POST datasets/sql``: the statements, to be run in this order.

    Raises:
        DefinitionError: an attribute cannot be compiled.
    """
    wanted = request.attributes
    groups = [AttributeGroup.model_validate(g.model_dump()) for g in wanted.attribute_groups]
    key = str(groups[0].attribute_key.name)
    prefix = wanted.table_prefix or "signals_attributes"
    anchors = _anchors_table(request.anchors)
    tables = [f"{prefix}_{group.name}_v{group.version}" for group in groups]
    place = {"database": wanted.database, "schema": wanted.schema_}
    parts = [
        {**place, "table": table, "sql": _create(table, _attributes(group, anchors.table))}
        | {"attribute_key": _key(group)}
        for table, group in zip(tables, groups, strict=True)
    ]
    dataset = request.dataset or WarehouseTable(table="signals_training_dataset")
    return {
        "anchors": _file(anchors, _anchors(request.anchors, key)),
        "attributes": parts,
        "dataset": _file(dataset, _dataset(anchors.table, tables, groups)),
    }


def _anchors_table(anchors: SessionAnchors | UserSuppliedAnchors) -> WarehouseTable:
    if isinstance(anchors, UserSuppliedAnchors):
        source = anchors.source
        return source.model_copy(update={"table": f"{source.table}_numbered"})
    return anchors.output or WarehouseTable(table="signals_anchors")


def _anchors(anchors: SessionAnchors | UserSuppliedAnchors, key: str) -> str:
    """Numbered, as two rows may have the same visitor and moment."""
    name = SQL.identifier(key)
    if isinstance(anchors, UserSuppliedAnchors):
        rows = f"SELECT * FROM {SQL.identifier(anchors.source.table)}"
    else:
        rows = _sessions(anchors, name)
    numbered = f"ROW_NUMBER() OVER (ORDER BY {name}, anchor_ts) AS anchor_id"
    return f"SELECT {numbered}, * FROM (\n{rows}\n)"


def _sessions(anchors: SessionAnchors, key: str) -> str:
    goal = anchors.goal_criteria
    every = [f"({meets(criterion, SQL)})" for criterion in goal.all or []]
    some = [f"({meets(criterion, SQL)})" for criterion in goal.any or []]
    conditions = [" AND ".join(every), f"({' OR '.join(some)})" if some else ""]
    names = ", ".join(SQL.text(event.name) for event in anchors.excluded_events or [])
    span = anchors.training_span
    return _SESSIONS.format(
        key=key,
        events=EVENTS,
        goal=" AND ".join(part for part in conditions if part) or "FALSE",
        excluded=f" AND event_name NOT IN ({names})" if names else "",
        start=f"TIMESTAMPTZ {SQL.text(span.start_time.isoformat())}::TIMESTAMP",
        end=f"TIMESTAMPTZ {SQL.text(span.end_time.isoformat())}::TIMESTAMP",
        min_events=anchors.min_events or 0,
        per_session=anchors.max_anchors_per_session or 2**31,
        ratio=anchors.max_negative_ratio or 2**31,
    )


def _attributes(group: AttributeGroup, anchors: str) -> str:
    return attributes_sql(group, events=EVENTS, anchors=SQL.identifier(anchors))


def _dataset(anchors: str, tables: list[str], groups: list[AttributeGroup]) -> str:
    columns = [
        f"{SQL.identifier(table)}.{SQL.identifier(attribute.name)}"
        for table, group in zip(tables, groups, strict=True)
        for attribute in group.attributes or []
    ]
    joins = "".join(f"\nJOIN {SQL.identifier(table)} USING (anchor_id)" for table in tables)
    chosen = ",\n  ".join(["anchors.* EXCLUDE (anchor_id)", *columns])
    return f"SELECT {chosen}\nFROM {SQL.identifier(anchors)} AS anchors{joins}\nORDER BY anchor_id"


def _create(table: str, select: str) -> str:
    return f"CREATE OR REPLACE TABLE {SQL.identifier(table)} AS\n{select};\n"


def _file(table: WarehouseTable, select: str) -> dict[str, Any]:
    place = {"database": table.database, "schema": table.schema_, "table": table.table}
    return {**place, "sql": _create(table.table, select)}


def _key(group: AttributeGroup) -> dict[str, Any]:
    key = group.attribute_key.model_dump(mode="json", exclude_none=True, by_alias=True)
    return {**key, "blobl_path": f"this.{key['name']}"}
