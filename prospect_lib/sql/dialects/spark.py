"""How Spark SQL spells the compiled statements: open-source Spark from 4.0 on, and Databricks."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from prospect_lib.aggregation.properties import Path, paths_of
from prospect_lib.sql.dialects.base import HAS_OFFSET, Dialect, in_seconds

_EPOCH, _MICROSECOND = "TIMESTAMP_NTZ '1970-01-01'", "INTERVAL '0.000001' SECOND"
#: A number as text, from what Spark writes, ``n``: 1.0E10 is 10000000000, and 1.5E-7 is 1.5e-07.
#: Java before 19 writes 2e23 as 1.9999999999999998E23, so 16 digits are taken where they suffice.
_NUMBER_TEXT = r"""CASE
    WHEN NOT n RLIKE 'E' THEN REGEXP_REPLACE(n, '[.]0$', '')
    WHEN n RLIKE 'E([1-9]|1[0-5]|-4)$' THEN TRIM(TRAILING '.' FROM
      TRIM(TRAILING '0' FROM CAST(CAST(n AS DECIMAL(38, 21)) AS STRING)))
    ELSE REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(
      IF(n RLIKE '[0-9]{16}E'
        AND TRY_CAST(FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)) AS DOUBLE) = n,
        FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)), n),
      '[.]?0*[Ee][+]?', 'e'), 'e([0-9])', 'e+$1'), 'e-([0-9])$', 'e-0$1') END"""
#: The nearest row of a relation: a stream of both, in which each row sees the last one before it.
NEAREST = """\
LEFT JOIN (
    SELECT *
    FROM (
      SELECT visitor, at, is_row,
      {last}
      FROM (
        SELECT visitor, ts AS at, {columns}, 0 AS is_row FROM {relation}
        UNION ALL
        SELECT visitor, {ts}, {nulls}, 1 FROM {of}
      ) AS stream
    ) AS every_row
    WHERE is_row = 1
  ) AS {alias} ON {alias}.visitor = {rows}.visitor AND {alias}.at = {rows}.{ts}"""


class SparkDialect(Dialect):
    """Spark SQL, with nested columns as Snowplow's loaders write them: structs and their arrays.

    There is no ASOF join. The nearest earlier row, and the nearest earlier totals, come from one
    stream per visitor instead: the union of both relations, sorted, in which each row sees the last
    value before it. That needs window functions only, so a dialect of another warehouse without
    ASOF joins (BigQuery, Redshift) can take it over.

    Inside a statement a time is a TIMESTAMP_NTZ in UTC: arithmetic with the other type depends on
    the session's time zone. That zone must be UTC only for times within structs. Spark's ANSI mode
    may be on or off.
    """

    name = "spark"
    timestamp_type = "TIMESTAMP_NTZ"
    text_type = "STRING"
    first_instant = "0001-01-01 00:00:00"
    create_temporary = "CACHE TABLE"
    ignoring_nulls = ", TRUE"

    # --- quoting -----------------------------------------------------------------------------

    def identifier(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def text(self, value: object) -> str:
        """Spark reads escapes in a text literal, and replaces ``${env:HOME}`` even there."""
        escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
        return "'" + escaped.replace("${", "$\\u007B") + "'"

    def array(self, items: Sequence[str]) -> str:
        return f"ARRAY({', '.join(items)})"

    # --- types and conversions ---------------------------------------------------------------

    def paths(self, prop: Any) -> list[Path]:
        """Snowplow's loaders of lakes and of Databricks write names in snake_case only."""
        return paths_of(prop)[-1:]

    def _at(self, column: str, path: Path) -> str:
        for step in path:
            if isinstance(step, int):
                column = f"GET({column}, {step})"
            else:
                column = f"{column}.{self.identifier(step)}"
        return column

    def raw(self, column: str, path: Path) -> str:
        return f"CAST({self._at(column, path)} AS STRING)"

    def _needs_text(self, column: str, path: Path) -> str:
        """Spark knows the type before it reads a row, and drops the branch not taken."""
        kinds = self.text("^(float|double|decimal.*[1-9][)]$|struct|array|map)")
        return f"TYPEOF({self._at(column, path)}) RLIKE {kinds}"

    def number_text(self, number: str) -> str:
        """A lambda binds the text to a name."""
        text = f"ARRAY(CAST({number} + 0.0 AS STRING))"
        return f"GET(TRANSFORM({text}, n -> {_NUMBER_TEXT}), 0)"

    def like(self, text: str, pattern: str) -> str:
        """A back-slash would escape the character that follows it."""
        return super().like(text, pattern.replace("\\", "\\\\"))

    def matches(self, text: str, pattern: str) -> str:
        return f"{text} RLIKE {self.text(f'^({pattern})' + chr(92) + 'z')}"

    # --- time --------------------------------------------------------------------------------

    def interval(self, length: timedelta) -> str:
        seconds, microseconds = in_seconds(length)
        fraction = f".{microseconds:06}" if microseconds else ""
        return f"INTERVAL '{seconds}{fraction}' SECOND"

    def utc(self, column: str) -> str:
        """Spark knows the type before it reads a row, and drops the branches not taken."""
        return (
            f"CASE TYPEOF({column}) WHEN 'timestamp_ntz' THEN CAST({column} AS TIMESTAMP_NTZ) "
            f"WHEN 'timestamp' THEN {self._without_zone(f'CAST({column} AS TIMESTAMP)')} "
            f"ELSE {self._time(f'CAST({column} AS STRING)', strict=True)} END"
        )

    def _time(self, text: str, *, strict: bool) -> str:
        cast = "CAST" if strict else "TRY_CAST"
        utc = self._without_zone(f"{cast}({text} AS TIMESTAMP)")
        has_offset = f"{text} RLIKE {self.text(HAS_OFFSET)}"
        return f"CASE WHEN {has_offset} THEN {utc} ELSE {cast}({text} AS TIMESTAMP_NTZ) END"

    def _without_zone(self, instant: str) -> str:
        return f"{_EPOCH} + UNIX_MICROS({instant}) * {_MICROSECOND}"

    def microseconds_between(self, start: str, end: str) -> str:
        seconds = f"CAST(CAST({end} - {start} AS INTERVAL SECOND) AS DECIMAL(20, 6))"
        return f"CAST({seconds} * 1000000 AS BIGINT)"

    def later(self, timestamp: str, microseconds: str) -> str:
        return f"{timestamp} + ({microseconds}) * {_MICROSECOND}"

    iso_weekday = "dayofweek_iso"

    def quantile(self, share: float, time: str, relation: str) -> str:
        """PERCENTILE_DISC takes numbers only, and returns a floating-point one."""
        micros = self.microseconds_between(_EPOCH, time)
        share_of = f"CAST(PERCENTILE_DISC({share}) WITHIN GROUP (ORDER BY {micros}) AS BIGINT)"
        return f"(SELECT {self.later(_EPOCH, share_of)} FROM {relation})"

    # --- rows --------------------------------------------------------------------------------

    def once(self, key: str) -> str:
        """Spark computes a step again for each reader, unless it is not deterministic."""
        return f"\n  WHERE RAND() >= 0 DISTRIBUTE BY {key}"

    def replaced(self, alias: str, columns: Mapping[str, str]) -> str:
        """The columns with other values come first."""
        values = ", ".join(f"{value} AS {name}" for name, value in columns.items())
        return f"{values}, {alias}.* EXCEPT ({', '.join(columns)})"

    def nearest(
        self,
        relation: str,
        alias: str,
        comparison: str,
        *,
        to: str,
        of: str,
        values: Sequence[str] = (),
    ) -> str:
        """In the stream, rows of the same instant precede those whose nearest they may be."""
        rows, _, ts = to.partition(".")
        direction = "DESC" if comparison.startswith("<") else "ASC"
        ties = "ASC" if comparison.endswith("=") else "DESC"
        columns, last = ["ts", *values], "LAST_VALUE({c}, TRUE) OVER (PARTITION BY visitor ORDER BY"
        last += f" at {direction}, is_row {ties} ROWS UNBOUNDED PRECEDING) AS {{c}}"
        return NEAREST.format(
            relation=relation,
            alias=alias,
            rows=rows,
            ts=ts,
            of=of,
            columns=", ".join(columns),
            last=",\n      ".join(last.format(c=column) for column in columns),
            nulls=", ".join("NULL" for _ in columns),
        )

    # --- aggregates --------------------------------------------------------------------------

    def collect(self, value: str, order: str) -> str:
        pairs = f"COLLECT_LIST(NAMED_STRUCT('place', {order}, 'value', {value}))"
        return f"SORT_ARRAY({pairs}).value"

    def collect_counts(self, value: str, count: str, order: str) -> str:
        values, counts = self.collect(value, order), self.collect(count, order)
        return f"TO_JSON(MAP_FROM_ARRAYS({values}, {counts}))"

    def size(self, value: str, *, is_array: bool) -> str:
        return f"ARRAY_SIZE({value if is_array else f'JSON_OBJECT_KEYS({value})'})"

    def last_items(self, array: str, count: int) -> str:
        return f"REVERSE(SLICE(REVERSE({array}), 1, {count}))"
