"""What Snowflake refuses or reads otherwise, and fakesnow lets through; and our rules of reads.

Sources: https://docs.snowflake.com/en/sql-reference (reserved keywords, ASOF JOIN, window
functions, interval constants, INSERT), and the limit of 1 MB per statement.

Example: ``check("SELECT 1 FROM EVENTS", Tables())`` -> AssertionError: a name has three parts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_BYTES, MAX_ROWS, MAX_INTERVAL = 1_000_000, 16_384, 2**31 - 1
FUNCTIONS = _words("""
    ABS ANY_VALUE ARRAY_AGG ARRAY_CONSTRUCT ARRAY_SIZE ARRAY_SLICE AVG BOOLAND_AGG BOOLOR_AGG CAST
    CEIL COALESCE CONCAT CONTAINS CONVERT_TIMEZONE COUNT CURRENT_DATABASE CURRENT_ROLE
    CURRENT_SCHEMA CURRENT_WAREHOUSE DATE_PART DATE_TRUNC DATEADD DATEDIFF FIRST_VALUE FLOOR
    GREATEST IFF LAG LAST_VALUE LEAD LEAST LOWER MAX MD5 MIN MOD NULLIF OBJECT_AGG OBJECT_CONSTRUCT
    OBJECT_KEYS PARSE_JSON PERCENTILE_CONT PERCENTILE_DISC REGEXP_LIKE REGEXP_REPLACE REPLACE ROUND
    ROW_NUMBER STARTSWITH SUBSTR SUM SYSTEM$TYPEOF TO_TIMESTAMP_NTZ TO_TIMESTAMP_TZ TRY_CAST
    TRY_TO_TIMESTAMP_NTZ TRY_TO_TIMESTAMP_TZ TYPEOF UPPER""")
#: Words that may stand before a parenthesis without being functions.
WORDS = _words("""
    ALL AND ANY AS BETWEEN BY CASE DISTINCT ELSE EXCEPT EXCLUDE EXISTS FROM GROUP IN INTERSECT
    INTERVAL INTO IS JOIN LIKE LIMIT MATCH_CONDITION NOT NUMBER ON OR OVER RENAME SELECT TABLE
    THEN UNION USING VALUES VARCHAR WHEN WHERE WITH""")
RESERVED = _words("""
    ACCOUNT ALL ALTER AND ANY AS BETWEEN BY CASE CAST CHECK COLUMN CONNECT CONNECTION CONSTRAINT
    CREATE CROSS CURRENT DATABASE DELETE DISTINCT DROP ELSE EXISTS FALSE FOLLOWING FOR FROM FULL
    GRANT GROUP GSCLUSTER HAVING ILIKE IN INCREMENT INNER INSERT INTERSECT INTO IS ISSUE JOIN
    LATERAL LEFT LIKE LOCALTIME LOCALTIMESTAMP MINUS NATURAL NOT NULL OF ON OR ORDER ORGANIZATION
    QUALIFY REGEXP REVOKE RIGHT RLIKE ROW ROWS SAMPLE SCHEMA SELECT SET SOME START TABLE
    TABLESAMPLE THEN TO TRIGGER TRUE TRY_CAST UNION UNIQUE UPDATE USING VALUES VIEW WHEN WHENEVER
    WHERE WITH""")
UNITS = r"(?:microsecond|millisecond|second|minute|hour|day|week|month|year)s?"
INTERVAL = re.compile(rf"(\d+) {UNITS}(?:, (\d+) {UNITS})*")
SLIDING = (exp.Avg, exp.Count, exp.FirstValue, exp.LastValue, exp.Max, exp.Min, exp.Sum)
WITHOUT_FRAME = (exp.Lag, exp.Lead, exp.RowNumber)
DUCKDB = (exp.Columns, exp.Filter, exp.Lambda, exp.SimilarTo, exp.Struct)
COMPARISONS = (exp.GT, exp.GTE, exp.LT, exp.LTE)
#: The names of temporary tables, which nobody else uses.
OURS = re.compile("PROSPECT_[A-Z]+_[0-9A-F]{12}")
QUOTED = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|--[^\n]*""", re.DOTALL)


@dataclass
class Tables:
    """The tables that the rules are about, by their full names in upper case.

    Attributes:
        events: the table of events.
        partition: its column by which it is partitioned.
        writable: schemas, or tables, in which lasting tables may be created or changed.
        temporary: the temporary tables of the session.
    """

    events: str = "DB.PUBLIC.EVENTS"
    partition: str = "COLLECTOR_TSTAMP"
    writable: frozenset[str] = frozenset()
    temporary: set[str] = field(default_factory=set)


def check(statement: str, tables: Tables) -> None:
    """Raise AssertionError, which quotes the statement, if it breaks a rule."""
    for problem in problems(statement, tables):
        raise AssertionError(f"{problem}, in the statement:\n{statement}")


def problems(statement: str, tables: Tables) -> Iterator[str]:
    """Yield a sentence per rule that the statement breaks."""
    if len(statement.encode()) > MAX_BYTES:
        yield f"a statement of {len(statement.encode()):,} bytes"
        return
    if re.match(r"\s*(SHOW|DESCRIBE|EXPLAIN|ALTER SESSION)\b", statement, re.IGNORECASE):
        return
    yield from _text_problems(statement)
    parsed = sqlglot.parse(statement, read="snowflake")
    if len(parsed) != 1 or parsed[0] is None or isinstance(parsed[0], exp.Command):
        yield "not one statement that sqlglot can read"
        return
    for rule in RULES:
        yield from rule(parsed[0])
    yield from _writes(parsed[0], tables)
    yield from reads(parsed[0], tables)


def full_name(table: exp.Expr) -> str:
    """Return ``DB.SCHEMA.NAME``; as Snowflake has it, what is not quoted is in upper case."""
    assert isinstance(table, exp.Table)
    return ".".join(part.name if part.quoted else part.name.upper() for part in table.parts)


# --- the text -----------------------------------------------------------------------------------


def _text_problems(statement: str) -> Iterator[str]:
    bare = QUOTED.sub(lambda quoted: "''" if quoted[0][0] == "'" else '""', statement)
    if "//" in bare:
        yield "// starts a comment"
    for name in re.findall(r"(?<![.\"\w])([A-Za-z_][\w$]*)\s*\(", bare):
        if name.upper() not in FUNCTIONS | WORDS:
            yield f"{name}() is not among the functions of Snowflake that we know"
    for text, unit in re.findall(r"(?i)\bINTERVAL\b\s*('[^']*'|)\s*(\w*)", statement):
        match = INTERVAL.fullmatch(text.strip("'"))
        if not match or re.fullmatch(UNITS, unit, re.IGNORECASE):
            yield f"INTERVAL {text} {unit} is not spelled as Snowflake does"
        elif max(map(int, re.findall(r"\d+", text))) > MAX_INTERVAL:
            yield f"INTERVAL {text} has a number of more than 32 bits"


# --- rules of Snowflake -------------------------------------------------------------------------


def _names(statement: exp.Expr) -> Iterator[str]:
    """A table has three parts, and a name that is not quoted is no reserved word."""
    steps = {cte.alias_or_name.upper() for cte in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        parts = len(table.parts) if isinstance(table.this, exp.Identifier) else 3
        if parts != 3 and not (parts == 1 and table.name.upper() in steps):
            yield f"the name {full_name(table)} has not three parts"
    for name in statement.find_all(exp.Identifier):
        if not name.quoted and name.name.upper() in RESERVED:
            yield f"{name.name} is a reserved word"


def _writes(statement: exp.Expr, tables: Tables) -> Iterator[str]:
    """Only temporary tables are created or changed, and those that a user names."""
    if isinstance(statement, exp.Create):
        target = statement.this.find(exp.Table)
        may = bool(statement.find(exp.TemporaryProperty))
    elif isinstance(statement, exp.Insert | exp.Update | exp.Delete | exp.Drop | exp.Alter):
        target = statement.find(exp.Table)
        may = target is None or full_name(target) in tables.temporary
        if isinstance(statement, exp.Drop) and target and OURS.fullmatch(target.name.upper()):
            return  # temporary, and lost with its session
    else:
        return
    schema = full_name(target).rpartition(".")[0] if target else ""
    if not may and not {schema, full_name(target)} & tables.writable:
        yield f"{full_name(target)} is not a temporary table"


def _rows(statement: exp.Expr) -> Iterator[str]:
    for values in statement.find_all(exp.Values):
        if len(values.expressions) > MAX_ROWS:
            yield f"{len(values.expressions):,} rows in VALUES"
        for value in (value for row in values.expressions for value in row.expressions):
            constants = (exp.Literal, exp.Null, exp.Boolean, exp.Neg, exp.Cast, exp.DataType)
            if not all(isinstance(node, constants) for node in value.walk()):
                yield f"{value.sql('snowflake')} in VALUES"
                return


def _spellings(statement: exp.Expr) -> Iterator[str]:
    """Constructs of DuckDB."""
    for node in statement.walk():
        if isinstance(node, DUCKDB):
            yield f"{node.sql('duckdb')} is of DuckDB"
        elif isinstance(node, exp.Distinct) and node.args.get("on"):
            yield "DISTINCT ON"
        elif isinstance(node, exp.CTE) and node.args.get("materialized") is not None:
            yield "a MATERIALIZED step"
        elif isinstance(node, exp.DataType) and node.is_type("array", "list", "struct", "map"):
            yield f"the type {node.sql()}"
        elif isinstance(node, exp.Order) and isinstance(node.parent, exp.AggFunc):
            yield "ORDER BY in an aggregate without WITHIN GROUP"
        elif isinstance(node, exp.SetOperation) and node.args.get("by_name"):
            yield "UNION BY NAME"
        elif isinstance(node, exp.Join) and node.kind in ("SEMI", "ANTI"):
            yield f"a {node.kind} JOIN"
        elif isinstance(node, exp.Qualify) and not node.find(exp.Window):
            yield "QUALIFY without a window function"


def _asof_joins(statement: exp.Expr) -> Iterator[str]:
    for join in statement.find_all(exp.Join):
        condition, on = join.args.get("match_condition"), join.args.get("on")
        if "ASOF" not in (join.kind, join.side, join.method):
            continue
        if join.side == "LEFT" or not _compares_columns(condition, COMPARISONS):
            yield "ASOF JOIN without a MATCH_CONDITION of two plain columns"
        elif not all(_compares_columns(part, (exp.EQ,)) for part in _conjuncts(on)):
            yield "ASOF JOIN whose ON does not compare plain columns"


def _windows(statement: exp.Expr) -> Iterator[str]:
    for window in statement.find_all(exp.Window):
        frame, function = window.args.get("spec"), window.this
        while isinstance(function, exp.IgnoreNulls | exp.RespectNulls):
            function = function.this
        if frame is None:
            continue
        slides = isinstance(frame.args.get("start"), exp.Interval) and frame.args["kind"] == "RANGE"
        if isinstance(function, WITHOUT_FRAME) or (slides and not isinstance(function, SLIDING)):
            yield f"{function.sql('snowflake')} over a frame"


def _aliases(statement: exp.Expr) -> Iterator[str]:
    """A name that is both an alias and a column is read as the column; ours are not both."""
    for select in statement.find_all(exp.Select):
        aliases = {
            item.alias.upper(): item
            for item in select.expressions
            if isinstance(item, exp.Alias) and item.this.name.upper() != item.alias.upper()
        }
        clauses = (select.args.get(name) for name in ("where", "group", "having", "qualify"))
        for part in [*select.expressions, *filter(None, clauses)]:
            for column in part.find_all(exp.Column):
                alias = aliases.get(column.name.upper())
                same_select = column.find_ancestor(exp.Select) is select
                if alias is not None and alias is not part and not column.table and same_select:
                    yield f"{column.name} is an alias, and perhaps a column, of the same SELECT"


RULES = (_names, _rows, _spellings, _asof_joins, _windows, _aliases)


# --- reads of the events ------------------------------------------------------------------------


def reads(statement: exp.Expr, tables: Tables) -> Iterator[str]:
    """Yield how reads of the events table break our rules: one per statement, with two bounds."""
    sources = [
        table for table in statement.find_all(exp.Table) if full_name(table) == tables.events
    ]
    if len(sources) > 1:
        yield f"{len(sources)} reads of the events table"
    for table in sources:
        select = table.find_ancestor(exp.Select)
        if select and not _is_probe(select, tables) and sides(select, tables) != {"<", ">"}:
            yield "a read of the events table without both bounds of the partition's column"


def sides(select: exp.Select, tables: Tables) -> set[str]:
    """Return on which sides, ``<`` and ``>``, constants bound the partition's column."""
    return {side for condition in bounds(select, tables) for side in _sides(condition)}


def bounds(select: exp.Select, tables: Tables) -> list[exp.Expr]:
    """Return the conditions of WHERE that compare the partition's column with constants."""
    where = select.args.get("where")
    conditions = _conjuncts(where.this) if where else []
    return [condition for condition in conditions if _bounds_partition(condition, tables)]


def _bounds_partition(condition: exp.Expr, tables: Tables) -> bool:
    allowed = (*COMPARISONS, exp.Between, exp.Column, exp.Identifier, exp.Literal, exp.Cast)
    columns = [column.name.upper() for column in condition.find_all(exp.Column)]
    nodes = condition.walk()
    return columns == [tables.partition] and all(
        isinstance(node, (*allowed, exp.DataType)) for node in nodes
    )


def _sides(condition: exp.Expr) -> set[str]:
    if isinstance(condition, exp.Between):
        return {"<", ">"}
    less = isinstance(condition, exp.LT | exp.LTE)
    return {"<" if less == isinstance(condition.this, exp.Column) else ">"}


def _is_probe(select: exp.Select, tables: Tables) -> bool:
    """Whether Snowflake needs no scan: at most one row, or the column's least and largest value."""
    limit = select.args.get("limit")
    if limit and limit.expression.name in ("0", "1") and not select.args.get("where"):
        return True
    values = [item.unalias() for item in select.expressions]
    return not select.args.get("where") and all(
        isinstance(value, exp.Min | exp.Max)
        and isinstance(value.this, exp.Column)
        and value.this.name.upper() in (tables.partition, "COLLECTOR_TSTAMP")
        for value in values
    )


def _conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    if isinstance(condition, exp.Paren):
        return _conjuncts(condition.this)
    if isinstance(condition, exp.And):
        return [*_conjuncts(condition.left), *_conjuncts(condition.right)]
    return [condition] if condition is not None else []


def _compares_columns(condition: exp.Expr | None, kinds: tuple[type[exp.Expr], ...]) -> bool:
    if isinstance(condition, exp.Paren):
        return _compares_columns(condition.this, kinds)
    return isinstance(condition, kinds) and all(
        isinstance(side, exp.Column) and side.table for side in (condition.left, condition.right)
    )
