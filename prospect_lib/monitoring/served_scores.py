"""Read the log of served scores: one file per day, one JSON object per score.

Served and recomputed attributes are compared in one common form: numbers as floats, lists
sorted, everything else as text.

Example: ``read_served(home / "served", group)`` -> an Arrow table with ``served_row``,
the attribute key, ``anchor_ts`` and one column per attribute.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import key_name, keyed_by_session, session_attribute
from prospect_lib.errors import DataError, wrong_type
from prospect_lib.features import Feature
from prospect_lib.files import not_readable
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.sql.dialects import DuckDB
from prospect_lib.training_set.available import key_columns
from prospect_lib.warehouse import Warehouse

#: The keys of a logged score without its identifier, and their types; a missing one reads as null.
LOG_COLUMNS = {
    "group": "VARCHAR",
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
#: Columns of served rows; an attribute of the same name becomes ``signals.<name>``.
_OWN_COLUMNS = ("served_row", "anchor_ts", "score", "model_version", "group_hash", "cold_start",
                "stale", "threshold", "act", "held_out", "holdout_share", "served_session",
                "not_served")  # fmt: skip
#: Columns of the anchors of served rows, after the key and ``anchor_ts``.
ROW, CASE = "audit_row", "audit_case"
_NUMERIC_AGGREGATIONS = (
    "counter", "sum", "mean", "approx_count_distinct", "time_since_last", "time_since_first",
)  # fmt: skip
_FEATURE_TYPES = {"number": "DOUBLE", "flag": "BOOLEAN", "category": "VARCHAR"}
_SQL = DuckDB()


def read_served(
    folder: Path | str,
    problem: ScoringProblem | AttributeGroup,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Return the served scores of a folder of logs, in the order in which they were served.

    Args:
        folder: of the log files, ``served`` in PROSPECT_HOME.
        problem: whose scores to read, or its attribute group. Scores of another attribute key
            or group in the same folder are left out.
        since: the first moment to include (aware; naive means UTC).
        until: the first moment to leave out (aware; naive means UTC).
    Returns:
        ``served_row`` (0, 1, ...), the attribute key, ``anchor_ts`` (UTC, without zone),
        ``score``, ``model_version``, ``group_hash``, ``cold_start``, ``stale``,
        ``threshold``, ``act``, ``held_out``, ``holdout_share``, ``served_session`` (empty if the
        attributes do not tell), ``not_served`` (names of attributes that were not served) and
        one column per attribute.
    Raises:
        DataError: there is no log, or nothing was served in the window.
        DefinitionError: ``problem`` is neither a scoring problem nor a group.
    """
    group = problem_of(problem).group
    attributes = group.attributes or []
    names = _SQL.literal([attribute.name for attribute in attributes])
    key = _SQL.identifier(key_name(group))
    return _read_log(
        folder,
        group,
        [
            f"ROW_NUMBER() OVER (ORDER BY scored_at, {key}) - 1 AS served_row",
            f"{key}, scored_at AS anchor_ts, score, model_version, group_hash",
            "COALESCE(cold_start, FALSE) AS cold_start, COALESCE(stale, FALSE) AS stale",
            "CAST(decision ->> '$.threshold' AS DOUBLE) AS threshold",
            "COALESCE(CAST(decision ->> '$.act' AS BOOLEAN), FALSE) AS act",
            "COALESCE(CAST(decision ->> '$.held_out' AS BOOLEAN), FALSE) AS held_out",
            "COALESCE(CAST(decision ->> '$.holdout_share' AS DOUBLE), 0) AS holdout_share",
            f"{_session(group)} AS served_session",
            f"list_filter({names}, lambda n: NOT list_contains(json_keys(signals), n)) "
            "AS not_served",
            *(f"{_served_value(a)} AS {_SQL.identifier(served_column(a))}" for a in attributes),
        ],
        required="signals",
        since=since,
        until=until,
    )


def read_served_features(
    folder: Path | str,
    features: Sequence[Feature],
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Return the features that the model was given, in the order in which scores were served.

    Args:
        folder: of the log files, ``served`` in PROSPECT_HOME.
        features: the features to read, such as ``model.features``.
        problem: whose scores to read, or its attribute group.
        since: the first moment to include (aware; naive means UTC).
        until: the first moment to leave out (aware; naive means UTC).
    Returns:
        The attribute key, ``anchor_ts`` (UTC, without zone), ``score`` and one column per
        feature.
    Raises:
        DataError: there is no log, or nothing was served in the window.
        DefinitionError: ``problem`` is neither a scoring problem nor a group.
    """
    group = problem_of(problem).group
    values = (
        f"CAST({_SQL.raw('scoring_attributes', [feature.name])} "
        f"AS {_FEATURE_TYPES[feature.kind]}) AS {_SQL.identifier(feature.name)}"
        for feature in features
    )
    score = ["score"] if all(feature.name != "score" for feature in features) else []
    columns = [f"{_SQL.identifier(key_name(group))}, scored_at AS anchor_ts", *score, *values]
    required = "scoring_attributes"
    return _read_log(folder, group, columns, required=required, since=since, until=until)


def check_served(warehouse: Warehouse, served: object, group: AttributeGroup) -> str:
    """Return the attribute key of served scores.

    Raises:
        DataError: they are no table of :func:`read_served`, or of another key; or the events
            lack the column of the key.
    """
    if not hasattr(warehouse, "query"):
        expected = 'open_warehouse(settings), or open_warehouse(settings, "events.parquet")'
        raise wrong_type("the warehouse", warehouse, f"one with events: {expected}")
    if not isinstance(served, pa.Table):
        raise wrong_type("served", served, "the table of read_served(folder, problem)")
    key = key_name(group)
    if key not in served.column_names:
        raise DataError(
            f"served has no column {key!r}, the key of attribute group {group.name!r}. Read it "
            "with read_served(folder, problem) of the same scoring problem."
        )
    if lacking := sorted(key_columns(group) - set(warehouse.columns())):
        raise DataError(
            f"the events have no column {', '.join(lacking)}, where the attribute key {key!r} is. "
            "Use events with it, or the scoring problem of these events."
        )
    return key


def check_moments(**moments: object) -> None:
    """Raise DataError if a moment, given by its argument's name, is no datetime or ``None``."""
    for name, moment in moments.items():
        if moment is not None and not isinstance(moment, datetime):
            shown = f"={moment!r}" if isinstance(moment, str) else ""
            raise DataError(
                f"{name}{shown} is a {type(moment).__name__}, expected a datetime such as "
                "datetime(2026, 1, 31, tzinfo=UTC)."
            )


def anchors_of(served: pa.Table, key: str) -> pa.Table:
    """Return one anchor per served row: the moment of the score.

    Args:
        served: as :func:`read_served` returns it.
        key: name of the column with the identifiers.
    Returns:
        The key, ``anchor_ts``, ``audit_row`` (the served row) and ``audit_case``, 0.

    >>> times = pa.array([datetime(2026, 1, 31)], pa.timestamp("us"))
    >>> served = pa.table({"domain_userid": ["u"], "anchor_ts": times, "served_row": [0]})
    >>> anchors_of(served, "domain_userid").column_names
    ['domain_userid', 'anchor_ts', 'audit_row', 'audit_case']
    """
    return pa.table(
        {
            key: served[key],
            "anchor_ts": served["anchor_ts"].cast(pa.timestamp("us")),
            ROW: served["served_row"],
            CASE: pa.array([0] * served.num_rows, pa.int64()),
        }
    )


def is_number(attribute: Attribute) -> bool:
    """Return whether values of an attribute are compared as numbers."""
    numeric_type = str(attribute.type).startswith(("int", "float", "double"))
    return attribute.aggregation in _NUMERIC_AGGREGATIONS or numeric_type


def served_column(attribute: Attribute) -> str:
    """Return the column of served rows that has an attribute's values."""
    name = str(attribute.name)
    return f"signals.{name}" if name.lower() in _OWN_COLUMNS else name


def recomputed_value(attribute: Attribute, column: str, kind: pa.DataType) -> str:
    """Return DuckDB's SQL for an attribute's comparable form.

    Args:
        column: that holds its recomputed values.
        kind: the Arrow type of that column.
    """
    return _comparable(attribute, _SQL.identifier(column), is_list=pa.types.is_list(kind))


def _served_value(attribute: Attribute) -> str:
    return _comparable(attribute, _SQL.raw("signals", [attribute.name]), is_list=False)


def _session(group: AttributeGroup) -> str:
    """Return DuckDB's SQL for what ``session_of`` returns, from the logged attributes."""
    if keyed_by_session(group):
        return _SQL.identifier(key_name(group))
    if (name := session_attribute(group)) is None:
        return "''"
    path = _SQL.text('$."' + name + '"')
    value = f"(signals -> {path})"
    newest = f"CASE json_type({value}) WHEN 'ARRAY' THEN {value} ->> '$[#-1]' "
    return f"COALESCE({newest} ELSE {value} ->> '$' END, '')"


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
    folder: Path | str,
    group: AttributeGroup,
    columns: Sequence[str],
    *,
    required: str,
    since: datetime | None,
    until: datetime | None,
) -> pa.Table:
    """Return columns of the logged scores that have a value of the ``required`` key."""
    check_moments(since=since, until=until)
    key = key_name(group)
    files = _files(folder)
    if not files:
        raise DataError(
            f"no served scores in {folder}: serve some first (python -m prospect_lib serve), "
            "and do not turn the log off (Options(served_days=0))."
        )
    kinds = {key: "VARCHAR", **LOG_COLUMNS}
    types = ", ".join(f"{_SQL.identifier(name)}: {_SQL.text(kind)}" for name, kind in kinds.items())
    conditions = [f"json_type({required}) = 'OBJECT'", "scored_at IS NOT NULL"]
    conditions += [f"{_SQL.identifier(key)} IS NOT NULL"]
    conditions += [f'COALESCE("group", {_SQL.text(group.name)}) = {_SQL.text(group.name)}']
    conditions += [f"scored_at >= {_SQL.literal(since)}"] if since else []
    conditions += [f"scored_at < {_SQL.literal(until)}"] if until else []
    log = (
        "SELECT * REPLACE (CAST(scored_at AS TIMESTAMP) AS scored_at) "
        f"FROM read_json({_SQL.files(files)}, "
        f"format = 'newline_delimited', ignore_errors = true, columns = {{{types}}})"
    )
    sql = (
        f"SELECT {', '.join(columns)} FROM ({log}) AS log "
        f"WHERE {' AND '.join(conditions)} ORDER BY scored_at, {_SQL.identifier(key)}"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table: pa.Table = connection.sql(sql).to_arrow_table()
    if table.num_rows == 0:
        bounds = {"since": since, "until": until}
        window = " and ".join(f"{name} {at}" for name, at in bounds.items() if at)
        window = f" {window}: widen the window" if window else ""
        damaged = unreadable_lines(folder)
        damaged_text = f" {damaged:,} of its lines cannot be read." if damaged else ""
        raise DataError(
            f"no score of attribute group {group.name!r} and key {key!r} in {folder}{window}."
            f"{damaged_text}"
        )
    return table


def unreadable_lines(folder: Path | str) -> int:
    """Return how many lines of the logs in a folder hold no score: cut off, or overwritten."""
    if not (files := _files(folder)):
        return 0
    with duckdb.connect() as connection:  # a line that is no object is a row of nulls
        ((unreadable,),) = connection.execute(
            f"SELECT COUNT(*) FROM read_json({_SQL.files(files)}, format = 'newline_delimited', "
            "ignore_errors = true, columns = {scored_at: 'TIMESTAMPTZ', signals: 'JSON'}) "
            "WHERE scored_at IS NULL OR COALESCE(json_type(signals) <> 'OBJECT', TRUE)"
        ).fetchall()
    return int(unreadable)


def _files(folder: Path | str) -> list[Path]:
    """Return the files of a log.

    Raises:
        SettingsError: this user may not read the folder, or one of them.
    """
    path = Path(folder)
    try:
        files = sorted(each for each in path.iterdir() if each.match("????-??-??.ndjson"))
        for path in files:
            path.open("rb").close()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise not_readable(path, error) from error
    return files
