"""How DuckDB spells the compiled statements."""

from collections.abc import Sequence
from pathlib import Path

from prospect_lib.aggregation.properties import Path as Steps
from prospect_lib.sql.dialects.base import HAS_OFFSET, Dialect


class DuckDB(Dialect):
    """Embedded DuckDB, from 1.3.2 on."""

    name = "duckdb"
    timestamp_type = "TIMESTAMP"
    first_instant = "-infinity"
    materialized = "MATERIALIZED "
    create_temporary = "CREATE OR REPLACE TEMP TABLE"
    counting_note = """
-- (they run on from one visitor to the next, because DuckDB counts fastest in one sorted pass;
-- only differences between two totals of one visitor are used)"""

    def files(self, paths: Sequence[Path]) -> str:
        """Return paths as the argument of ``read_parquet`` and the like; none is a pattern."""
        names = ("".join(f"[{c}]" if c in "*?[" else c for c in str(path)) for path in paths)
        return f"[{', '.join(self.text(name) for name in names)}]"

    def array(self, items: Sequence[str]) -> str:
        return f"[{', '.join(items)}]"

    def _needs_text(self, column: str, path: Steps) -> str:
        """The type is looked up only where the text could be a number, an object or an array."""
        kind = f"JSON_TYPE(CAST({column} AS JSON), {self._path(path)})"
        first = f"LEFT({self.raw(column, path)}, 1)"
        return f"CONTAINS('-0123456789[{{', {first}) AND {kind} IN ('DOUBLE', 'OBJECT', 'ARRAY')"

    def raw(self, column: str, path: Steps) -> str:
        return f"(CAST({column} AS JSON) ->> {self._path(path)})"

    def _path(self, path: Steps) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in path)
        return self.text("$" + "".join(steps))

    def whole(self, number: str) -> str:
        return f"TRY_CAST(FLOOR({number} + 0.5) AS BIGINT)"

    def utc(self, column: str) -> str:
        """DuckDB evaluates TYPEOF before it reads a row, and drops the branches not taken."""
        text = f"CAST({column} AS VARCHAR)"
        return (
            f"CASE TYPEOF({column}) WHEN 'TIMESTAMP' THEN CAST({column} AS TIMESTAMP) "
            f"WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST({column} AS TIMESTAMPTZ) "
            "AT TIME ZONE 'UTC' "
            f"ELSE {self._time(text, strict=True)} END"
        )

    def _time(self, text: str, *, strict: bool) -> str:
        """A cast of text to TIMESTAMP drops the offset in DuckDB 2, but not in 1.3."""
        cast = "CAST" if strict else "TRY_CAST"
        utc = f"{cast}({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
        has_offset = f"REGEXP_MATCHES({text}, {self.text(HAS_OFFSET)})"
        return f"CASE WHEN {has_offset} THEN {utc} ELSE {cast}({text} AS TIMESTAMP) END"

    def matches(self, text: str, pattern: str) -> str:
        return f"REGEXP_FULL_MATCH({text}, {self.text(pattern)})"

    def microseconds_between(self, start: str, end: str) -> str:
        return f"(epoch_us({end}) - epoch_us({start}))"

    def later(self, timestamp: str, microseconds: str) -> str:
        return f"{timestamp} + to_microseconds({microseconds})"

    iso_weekday = "isodow"

    def visitor_number(self, key: str) -> str:
        """Numbers are compared, sorted and kept several times faster than texts."""
        return f"CAST(ROW_NUMBER() OVER (ORDER BY {key}) AS INTEGER)"

    # A window without PARTITION BY and ORDER BY streams over the sorted rows, which is several
    # times faster than one window per visitor. INTEGER halves the width of the totals: one
    # statement can count 2 billion events, and DuckDB raises an error beyond.

    def in_order(self, stream: str) -> str:
        return f"(SELECT * FROM {stream} ORDER BY visitor, ts, place)"

    def running_count(self, flag: str) -> str:
        return f"CAST(COUNT(*) FILTER (WHERE {flag}) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER)"

    def event_number(self, value: str) -> str:
        return f"ROW_NUMBER() OVER (ORDER BY visitor, ts, {value})"

    def nearest(
        self,
        relation: str,
        alias: str,
        comparison: str,
        *,
        to: str,
        of: str,  # noqa: ARG002
        values: Sequence[str] = (),  # noqa: ARG002
    ) -> str:
        rows = to.partition(".")[0]
        on = f"{alias}.visitor = {rows}.visitor AND {to} {comparison} {alias}.ts"
        return f"ASOF LEFT JOIN {relation} AS {alias} ON {on}"

    def collect(self, value: str, order: str) -> str:
        return f"LIST({value} ORDER BY {order})"

    def collect_counts(self, value: str, count: str, order: str) -> str:
        return f"CAST(MAP({self.collect(value, order)}, {self.collect(count, order)}) AS JSON)"

    def size(self, value: str, *, is_array: bool) -> str:
        return f"LEN({value})" if is_array else f"LEN(JSON_KEYS({value}))"

    def last_items(self, array: str, count: int) -> str:
        return f"{array}[-{count}:]"
