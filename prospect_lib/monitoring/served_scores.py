"""Read the log of served scores: one file per day, one JSON object per score.

Served and recomputed attributes are compared in one common form: numbers as floats, lists
sorted, everything else as text.

Example: ``read_served(home / "served", group)`` -> an Arrow table with ``served_row``,
``domain_userid``, ``anchor_ts`` and one column per attribute.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.errors import DataError
from prospect_lib.features import Feature
from prospect_lib.sql.dialects import DuckDB

#: The keys of a logged score and their types; a key that is missing reads as null.
LOG_COLUMNS = {
    "domain_userid": "VARCHAR",
    "scored_at": "TIMESTAMPTZ",
    "score": "DOUBLE",
    "model_version": "VARCHAR",
    "group_hash": "VARCHAR",
    "cold_start": "BOOLEAN",
    "stale": "BOOLEAN",
    "decision": "JSON",
    "signals": "JSON",
    "scoring_attributes": "JSON",
}
_NUMERIC_AGGREGATIONS = (
    "counter", "sum", "mean", "approx_count_distinct", "time_since_last", "time_since_first",
)  # fmt: skip
_FEATURE_TYPES = {"number": "DOUBLE", "flag": "BOOLEAN", "category": "VARCHAR"}
_MICROSECOND = timedelta(microseconds=1)
_SQL = DuckDB()


def read_served(
    folder: Path,
    group: AttributeGroup,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Return the served scores of a folder of logs, in the order in which they were served.

    Args:
        folder: of the log files, ``served`` in PROSPECT_HOME.
        group: the attributes to read.
        since: the first moment to include (aware).
        until: the first moment to leave out (aware).
    Returns:
        ``served_row`` (0, 1, ...), ``domain_userid``, ``anchor_ts`` (UTC, without zone),
        ``score``, ``model_version``, ``group_hash``, ``cold_start``, ``stale``,
        ``threshold``, ``act``, ``not_served`` (names of attributes that were not served) and
        one column per attribute.
    Raises:
        DataError: there is no log, or nothing was served in the window.
    """
    attributes = group.attributes or []
    names = _SQL.literal([attribute.name for attribute in attributes])
    table = _read_log(
        folder,
        [
            "ROW_NUMBER() OVER (ORDER BY scored_at, domain_userid) - 1 AS served_row",
            "domain_userid, scored_at AS anchor_ts, score, model_version, group_hash",
            "COALESCE(cold_start, FALSE) AS cold_start, COALESCE(stale, FALSE) AS stale",
            "CAST(decision ->> '$.threshold' AS DOUBLE) AS threshold",
            "CAST(decision ->> '$.act' AS BOOLEAN) AS act",
            f"list_filter({names}, lambda n: NOT list_contains(json_keys(signals), n)) "
            "AS not_served",
            *(f"{_served_value(a)} AS {_SQL.identifier(a.name)}" for a in attributes),
        ],
        required="signals",
        since=since,
        until=until,
    )
    if table.num_rows == 0:
        raise DataError(f"no score in {folder} between {since} and {until}: widen the window.")
    return table


def read_served_features(
    folder: Path,
    features: Sequence[Feature],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Return the features that the model was given, in the order in which scores were served.

    Args:
        folder: of the log files, ``served`` in PROSPECT_HOME.
        features: the features to read, such as ``model.features``.
        since: the first moment to include (aware).
        until: the first moment to leave out (aware).
    Returns:
        ``domain_userid``, ``anchor_ts`` (UTC, without zone), ``score`` and one column per
        feature.
    Raises:
        DataError: there is no log.
    """
    values = (
        f"CAST({_SQL.inside('scoring_attributes', [feature.name])} "
        f"AS {_FEATURE_TYPES[feature.kind]}) AS {_SQL.identifier(feature.name)}"
        for feature in features
    )
    columns = ["domain_userid, scored_at AS anchor_ts, score", *values]
    return _read_log(folder, columns, required="scoring_attributes", since=since, until=until)


def anchors_of(
    served: pa.Table, key: str, shifts: Sequence[timedelta] = (timedelta(),)
) -> pa.Table:
    """Return one anchor per served row and shift: the moment of the score plus the shift.

    Args:
        served: as :func:`read_served` returns it.
        key: name of the column that identifies a visitor.
        shifts: rounded to microseconds.
    Returns:
        The key, ``anchor_ts``, ``served_row`` and ``shift`` (microseconds).

    >>> times = pa.array([datetime(2026, 1, 31)], pa.timestamp("us"))
    >>> served = pa.table({"domain_userid": ["u"], "anchor_ts": times, "served_row": [0]})
    >>> shifts = [timedelta(), timedelta(seconds=-1)]
    >>> anchors_of(served, "domain_userid", shifts)["shift"].to_pylist()
    [0, -1000000]
    """
    at = served["anchor_ts"].combine_chunks().cast(pa.int64()).to_numpy()
    parts = []
    for shift in (round(shift / _MICROSECOND) for shift in shifts):
        anchors = {
            key: served["domain_userid"],
            "anchor_ts": pa.array(at + shift).cast(pa.timestamp("us")),
            "served_row": served["served_row"],
            "shift": pa.array([shift] * served.num_rows, pa.int64()),
        }
        parts.append(pa.table(anchors))
    return pa.concat_tables(parts)


def is_number(attribute: Attribute) -> bool:
    """Return whether values of an attribute are compared as numbers."""
    numeric_type = str(attribute.type).startswith(("int", "float", "double"))
    return attribute.aggregation in _NUMERIC_AGGREGATIONS or numeric_type


def recomputed_value(attribute: Attribute, kind: pa.DataType) -> str:
    """Return DuckDB's SQL for an attribute's comparable form.

    Args:
        attribute: also the name of the column that holds its recomputed values.
        kind: the Arrow type of that column.
    """
    return _comparable(attribute, _SQL.identifier(attribute.name), is_list=pa.types.is_list(kind))


def _served_value(attribute: Attribute) -> str:
    return _comparable(attribute, _SQL.inside("signals", [attribute.name]), is_list=False)


def _comparable(attribute: Attribute, value: str, *, is_list: bool) -> str:
    if attribute.aggregation == "category_count":
        counts = f"TRY_CAST(TRY_CAST({value} AS JSON) AS MAP(VARCHAR, DOUBLE))"
        return f"CAST(list_sort(map_entries({counts})) AS VARCHAR)"
    if attribute.aggregation == "unique_list":
        values = value if is_list else f"TRY_CAST({value} AS JSON)"
        return f"CAST(list_sort(TRY_CAST({values} AS VARCHAR[])) AS VARCHAR)"
    if is_number(attribute):
        return f"TRY_CAST({value} AS DOUBLE)"
    return f"CAST({value} AS VARCHAR)"


def _read_log(
    folder: Path,
    columns: Sequence[str],
    *,
    required: str,
    since: datetime | None,
    until: datetime | None,
) -> pa.Table:
    """Return columns of the logged scores that have a value of the ``required`` key."""
    files = sorted(folder.glob("????-??-??.ndjson"))
    if not files:
        raise DataError(
            f"no served scores in {folder}: serve some first (python -m prospect_lib serve), "
            "and do not turn the log off (Options(served_days=0))."
        )
    types = ", ".join(f"{name}: {_SQL.text(kind)}" for name, kind in LOG_COLUMNS.items())
    conditions = [f"{required} IS NOT NULL", "scored_at IS NOT NULL"]
    conditions += [f"scored_at >= {_SQL.literal(since)}"] if since else []
    conditions += [f"scored_at < {_SQL.literal(until)}"] if until else []
    log = (
        "SELECT * REPLACE (CAST(scored_at AS TIMESTAMP) AS scored_at) "
        f"FROM read_json({_SQL.files(files)}, "
        f"format = 'newline_delimited', ignore_errors = true, columns = {{{types}}})"
    )
    sql = (
        f"SELECT {', '.join(columns)} FROM ({log}) AS log "
        f"WHERE {' AND '.join(conditions)} ORDER BY scored_at, domain_userid"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table: pa.Table = connection.sql(sql).to_arrow_table()
    return table
