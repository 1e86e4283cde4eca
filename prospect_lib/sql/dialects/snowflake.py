"""How Snowflake spells the compiled statements."""

from collections.abc import Sequence
from datetime import timedelta

from prospect_lib.aggregation.properties import Path
from prospect_lib.sql.dialects.base import HAS_OFFSET, Dialect, in_seconds


class Snowflake(Dialect):
    """Snowflake, with nested columns as VARIANT."""

    name = "snowflake"
    timestamp_type = "TIMESTAMP_NTZ"
    first_instant = "0001-01-01 00:00:00"
    create_temporary = "CREATE OR REPLACE TEMPORARY TABLE"

    def identifier(self, name: str) -> str:
        """Snowflake stores names that are not quoted in upper case."""
        return super().identifier(name.upper())

    def text(self, value: object) -> str:
        """Snowflake reads escapes such as ``\\n`` in a text literal."""
        return super().text(value).replace("\\", "\\\\")

    def array(self, items: Sequence[str]) -> str:
        return f"ARRAY_CONSTRUCT({', '.join(items)})"

    def _in_64_bits(self, text: str) -> str:
        """BIGINT is another name of NUMBER(38, 0)."""
        number = f"TRY_CAST({text} AS BIGINT)"
        bounds = "-9223372036854775808 AND 9223372036854775807"
        return f"CASE WHEN {number} BETWEEN {bounds} THEN {number} END"

    def interval(self, length: timedelta) -> str:
        """Seconds and microseconds, since large numbers of microseconds may not be read."""
        seconds, microseconds = in_seconds(length)
        more = f", {microseconds} microseconds" if microseconds else ""
        return f"INTERVAL '{seconds} seconds{more}'"

    def _needs_text(self, column: str, path: Path) -> str:
        value = self._at(column, path)
        return f"TYPEOF({value}) IN ('DOUBLE', 'DECIMAL', 'OBJECT', 'ARRAY')"

    def raw(self, column: str, path: Path) -> str:
        return f"{self._at(column, path)}::VARCHAR"

    def _at(self, column: str, path: Path) -> str:
        steps, separator = "", ":"  # only the first name follows a colon
        for step in path:
            if isinstance(step, int):
                steps += f"[{step}]"
            else:
                steps += separator + super().identifier(step)
                separator = "."
        return f"{column}{steps}"

    def utc(self, column: str) -> str:
        """The session's zone matters neither to a time without zone nor to one with an offset."""
        kind = f"SYSTEM$TYPEOF({column})"
        return (
            f"CASE WHEN STARTSWITH({kind}, 'TIMESTAMP_NTZ') THEN {column}::TIMESTAMP_NTZ "
            f"WHEN STARTSWITH({kind}, 'TIMESTAMP') "
            f"THEN CONVERT_TIMEZONE('UTC', {column}::TIMESTAMP_TZ)::TIMESTAMP_NTZ "
            f"ELSE {self._time(f'{column}::VARCHAR', strict=True)} END"
        )

    def _time(self, text: str, *, strict: bool) -> str:
        function = "TO_TIMESTAMP" if strict else "TRY_TO_TIMESTAMP"
        utc = f"CONVERT_TIMEZONE('UTC', {function}_TZ(REPLACE({text}, ' UTC', 'Z')))::TIMESTAMP_NTZ"
        has_offset = f"REGEXP_LIKE({text}, {self.text(f'.*{HAS_OFFSET}')})"
        return f"CASE WHEN {has_offset} THEN {utc} ELSE {function}_NTZ({text}) END"

    def matches(self, text: str, pattern: str) -> str:
        return f"REGEXP_LIKE({text}, {self.text(pattern)})"

    def microseconds_between(self, start: str, end: str) -> str:
        return f"DATEDIFF('microsecond', {start}, {end})"

    def later(self, timestamp: str, microseconds: str) -> str:
        return f"DATEADD('microsecond', {microseconds}, {timestamp})"

    iso_weekday = "dayofweekiso"

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
        rows, condition = to.partition(".")[0], f"{to} {comparison} {alias}.ts"
        on = f"ON {alias}.visitor = {rows}.visitor"
        return f"ASOF JOIN {relation} AS {alias} MATCH_CONDITION ({condition}) {on}"

    def least(self, value: str, kind: str) -> str:
        """MIN does not take booleans."""
        return f"BOOLAND_AGG({value})" if kind == "bool" else super().least(value, kind)

    def collect(self, value: str, order: str) -> str:
        return f"ARRAY_AGG({value}) WITHIN GROUP (ORDER BY {order})"

    def collect_counts(self, value: str, count: str, order: str) -> str:  # noqa: ARG002
        return f"OBJECT_AGG({value}, {count})"

    def size(self, value: str, *, is_array: bool) -> str:
        return f"ARRAY_SIZE({value})" if is_array else f"ARRAY_SIZE(OBJECT_KEYS({value}))"

    def last_items(self, array: str, count: int) -> str:
        size = f"CAST(ARRAY_SIZE({array}) AS BIGINT)"
        return f"ARRAY_SLICE({array}, GREATEST({size} - {count}, 0), {size})"
