"""The log of served scores as rows, and those rows as a relation of the warehouse.

Values are brought into one comparable form, whoever gave them: numbers as floats, lists
sorted, everything else as text. Example: ``read(home / "served", group)`` -> an Arrow table
with ``served_row``, ``domain_userid``, ``anchor_ts`` and one column an attribute.
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
from prospect_lib.sql.dialects import dialect_of

#: What is known of a served score beside its attributes; a missing key is null.
ABOUT = {
    "domain_userid": "VARCHAR",
    "scored_at": "VARCHAR",
    "score": "DOUBLE",
    "model_version": "VARCHAR",
    "group_hash": "VARCHAR",
    "cold_start": "BOOLEAN",
    "stale": "BOOLEAN",
    "decision": "JSON",
    "signals": "JSON",
}
_COUNTS = ("counter", "sum", "mean", "approx_count_distinct")
_NUMERIC = (*_COUNTS, "time_since_last", "time_since_first")
_SQL = dialect_of("duckdb")


def read(
    folder: Path,
    group: AttributeGroup,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """The served scores of a folder of logs, in the order in which they were served.

    Args:
        since: no score is earlier (aware, UTC); ``until`` is the first moment left out.
    Returns:
        ``served_row`` (0, 1, ...), ``domain_userid``, ``anchor_ts`` (UTC, without zone),
        ``score``, ``model_version``, ``group_hash``, ``cold_start``, ``stale``,
        ``threshold``, ``act``, ``lacks`` (attributes that were not served) and the attributes.
    Raises:
        DataError: there is no log, or nothing was served in the window.
    """
    files = _files(folder)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table: pa.Table = connection.sql(_statement(files, group, since, until)).to_arrow_table()
    if table.num_rows == 0:
        raise DataError(f"no score in {folder} between {since} and {until}: widen the window.")
    return table


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("????-??-??.ndjson"))
    if not files:
        raise DataError(
            f"no served scores in {folder}: serve some first (python -m prospect_lib serve), "
            "and do not turn the log off (Options(served_days=0))."
        )
    return files


def _statement(
    files: list[Path], group: AttributeGroup, since: datetime | None, until: datetime | None
) -> str:
    names = ", ".join(_SQL.text(path) for path in files)
    kinds = ", ".join(f"{name}: '{kind}'" for name, kind in ABOUT.items())
    at = "CAST(scored_at AS TIMESTAMP)"
    bounds = [f"{at} >= {_SQL.constant(since)}"] if since else []
    bounds += [f"{at} < {_SQL.constant(until)}"] if until else []
    attributes = group.attributes or []
    values = ", ".join(f"{served_value(a)} AS {_SQL.identifier(a.name)}" for a in attributes)
    wanted = ", ".join(_SQL.text(a.name) for a in attributes)
    return (
        f"SELECT ROW_NUMBER() OVER (ORDER BY {at}, domain_userid) - 1 AS served_row, "
        f"domain_userid, {at} AS anchor_ts, score, model_version, group_hash, "
        "COALESCE(cold_start, FALSE) AS cold_start, COALESCE(stale, FALSE) AS stale, "
        "CAST(decision ->> '$.threshold' AS DOUBLE) AS threshold, "
        "CAST(decision ->> '$.act' AS BOOLEAN) AS act, "
        f"list_filter([{wanted}], lambda n: NOT list_contains(json_keys(signals), n)) AS lacks, "
        f"{values} FROM read_json([{names}], format = 'newline_delimited', "
        f"ignore_errors = true, columns = {{{kinds}}}) "
        f"WHERE signals IS NOT NULL AND scored_at IS NOT NULL{''.join(f' AND {b}' for b in bounds)}"
        " ORDER BY served_row"
    )


def is_number(attribute: Attribute) -> bool:
    """Whether an attribute's values are compared as numbers."""
    kind = str(attribute.type)
    return attribute.aggregation in _NUMERIC or kind.startswith(("int", "float", "double"))


def served_value(attribute: Attribute) -> str:
    """The comparable form of an attribute in ``signals``, as DuckDB's SQL."""
    path = _SQL.text(f'$."{attribute.name}"')
    return _comparable(attribute, f"signals -> {path}", f"(signals ->> {path})", is_json=True)


def rebuilt_value(attribute: Attribute, kind: pa.DataType) -> str:
    """The same of a column that the compiled statement gave, of this Arrow type."""
    name = _SQL.identifier(attribute.name)
    return _comparable(attribute, name, name, is_json=not pa.types.is_list(kind))


def _comparable(attribute: Attribute, column: str, text: str, *, is_json: bool) -> str:
    if attribute.aggregation == "category_count":
        counts = f"TRY_CAST(TRY_CAST({column} AS JSON) AS MAP(VARCHAR, DOUBLE))"
        return f"CAST(list_sort(map_entries({counts})) AS VARCHAR)"
    if attribute.aggregation == "unique_list":
        kind = f"TRY_CAST({column} AS JSON)" if is_json else column
        return f"CAST(list_sort(TRY_CAST({kind} AS VARCHAR[])) AS VARCHAR)"
    if is_number(attribute):
        return f"TRY_CAST({text} AS DOUBLE)"
    return f"CAST({text} AS VARCHAR)"


def moments(table: pa.Table, key: str, shifts: tuple[timedelta, ...] = (timedelta(),)) -> pa.Table:
    """Served moments, each also earlier or later by every shift: an anchors table."""
    at = table["anchor_ts"].combine_chunks().cast(pa.int64()).to_numpy()
    parts = [
        pa.table(
            {
                key: table["domain_userid"],
                "anchor_ts": pa.array(at + round(s / timedelta(microseconds=1))).cast(
                    pa.timestamp("us")
                ),
                "served_row": table["served_row"],
                "shift": pa.array([round(s / timedelta(microseconds=1))] * table.num_rows),
            },
        )
        for s in shifts
    ]
    return pa.concat_tables(parts)


def read_features(
    folder: Path,
    features: Sequence[Feature],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """What the model was given: ``domain_userid``, ``anchor_ts``, ``score``, the features.

    Raises:
        DataError: there is no log.
    """
    types = {"number": "DOUBLE", "flag": "BOOLEAN", "category": "VARCHAR"}
    values = ", ".join(
        f"CAST({_SQL.inside('scoring_attributes', [f.name])} AS {types[f.kind]}) "
        f"AS {_SQL.identifier(f.name)}"
        for f in features
    )
    at = "CAST(scored_at AS TIMESTAMP)"
    bounds = [f"{at} >= {_SQL.constant(since)}"] if since else []
    bounds += [f"{at} < {_SQL.constant(until)}"] if until else []
    names = ", ".join(_SQL.text(path) for path in _files(folder))
    with duckdb.connect() as connection:
        table: pa.Table = connection.sql(
            f"SELECT domain_userid, {at} AS anchor_ts, score, {values} FROM read_json([{names}], "
            "format = 'newline_delimited', ignore_errors = true, columns = {domain_userid: "
            "'VARCHAR', scored_at: 'VARCHAR', score: 'DOUBLE', scoring_attributes: 'JSON'}) "
            f"WHERE {' AND '.join(['scored_at IS NOT NULL', *bounds])} ORDER BY 2, 1"
        ).to_arrow_table()
    return table
