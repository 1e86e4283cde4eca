"""How DuckDB and Snowflake spell what the compiled statements need, and how to quote.

Every name and value of a definition passes through :func:`identifier` or
:func:`literal`, so that a quote, ``%`` or semicolon in it is data, never SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from prospect_lib.errors import DefinitionError

DialectName = Literal["duckdb", "snowflake"]
_LANE = 42  # bits of a counter that shares a total: up to 4 trillion events


def literal(value: object) -> str:
    """A value as an SQL literal: ``O'Hara`` -> ``'O''Hara'``, ``True`` -> ``TRUE``."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class Dialect:
    """The spellings of one warehouse."""

    name: DialectName

    def identifier(self, name: str) -> str:
        """A quoted column name; Snowflake stores unquoted names in upper case."""
        stored = name.upper() if self.name == "snowflake" else name
        return '"' + stored.replace('"', '""') + '"'

    def text(self, value: object) -> str:
        """A text literal; Snowflake also reads backslashes, so they are doubled there."""
        quoted = literal(str(value))
        return quoted.replace("\\", "\\\\") if self.name == "snowflake" else quoted

    def inside(self, column: str, path: Sequence[str | int]) -> str:
        """The text at ``path`` in a nested column, NULL where there is none."""
        if self.name == "snowflake":
            quoted = [s if isinstance(s, int) else '"' + s.replace('"', '""') + '"' for s in path]
            steps = [f"[{s}]" if isinstance(s, int) else f".{s}" for s in quoted]
            return (column + "".join(steps)).replace(".", ":", 1) + "::VARCHAR"
        steps = [f"[{s}]" if isinstance(s, int) else f'."{s}"' for s in path]
        return f"(CAST({column} AS JSON) ->> {literal('$' + ''.join(steps))})"

    @property
    def timestamp_type(self) -> str:
        """The type of a UTC timestamp without a zone."""
        return "TIMESTAMP_NTZ" if self.name == "snowflake" else "TIMESTAMP"

    @property
    def materialized(self) -> str:
        """The hint that a step is used several times (Snowflake sees that by itself)."""
        return "MATERIALIZED " if self.name == "duckdb" else ""

    @property
    def code(self) -> str:
        """A short number for each visitor, where comparing texts costs much."""
        if self.name == "snowflake":
            return "asked"
        return "CAST(ROW_NUMBER() OVER (ORDER BY asked) AS INTEGER)"

    @property
    def beginning(self) -> str:
        """An instant before every event."""
        date = "-infinity" if self.name == "duckdb" else "0001-01-01 00:00:00"
        return f"CAST('{date}' AS {self.timestamp_type})"

    # DuckDB counts while it streams over sorted rows: several times faster than a window a
    # visitor. Totals then run on from visitor to visitor, which their differences do not see.

    @property
    def sorted_first(self) -> str:
        """The relation of ones, sorted where :attr:`so_far` relies on it."""
        return "ones" if self.name == "snowflake" else "(SELECT * FROM ones ORDER BY visitor, ts)"

    @property
    def so_far(self) -> str:
        """The window of a running total, which includes all of an instant at its last row."""
        if self.name == "snowflake":
            frame = "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
            return f"(PARTITION BY visitor ORDER BY ts {frame})"
        return "(ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"

    @property
    def following(self) -> str:
        """The window in which LEAD finds a visitor's next row."""
        return "(PARTITION BY visitor ORDER BY ts)" if self.name == "snowflake" else "()"

    def numbering(self, x: str) -> str:
        """The order in which :attr:`so_far` counts; at one instant the smaller value first."""
        if self.name == "snowflake":
            return f"PARTITION BY visitor ORDER BY ts, {x}"
        return f"ORDER BY visitor, ts, {x}"

    def nearest(self, relation: str, alias: str, order: str, asking: str) -> str:
        """Joins to each asking row the visitor's nearest row for which ``order`` holds."""
        same = f"ON {alias}.visitor = {asking}.visitor"
        if self.name == "snowflake":
            return f"ASOF JOIN {relation} AS {alias} MATCH_CONDITION ({order}) {same}"
        return f"ASOF LEFT JOIN {relation} AS {alias} {same} AND {order}"

    # A sum of 128 bits has room for several counters, of 42 bits each. The difference of two
    # such totals is that of every counter in it, as none of them ever falls.

    @property
    def lanes(self) -> int:
        """How many counters share one total."""
        return 3 if self.name == "duckdb" else 1

    def lane(self, place: int) -> str:
        """The number that adds one to the counter at ``place`` of a total."""
        return f"{1 << (_LANE * place)}::HUGEINT" if self.name == "duckdb" else "1"

    def in_lane(self, total: str, place: int) -> str:
        """The counter at ``place`` of a total."""
        if self.name == "duckdb":
            shifted = f"(({total}) >> {_LANE * place})" if place else f"({total})"
            total = f"({shifted} & {(1 << _LANE) - 1})"
        return f"CAST({total} AS BIGINT)"

    def number(self, expression: str) -> str:
        """Text as a floating-point number, NULL where it is none (or is not finite)."""
        number = f"TRY_CAST({expression} AS DOUBLE)"
        if self.name == "snowflake":
            return number
        return f"CASE WHEN ISFINITE({number}) THEN {number} END"

    def whole(self, number: str) -> str:
        """The nearest integer, halves upwards."""
        return f"CAST(FLOOR({number} + 0.5) AS BIGINT)"

    def number_text(self, number: str) -> str:
        """A number as text, whole numbers without a decimal point."""
        return (
            f"CASE WHEN {number} = FLOOR({number}) AND ABS({number}) < 1e15 "
            f"THEN CAST(CAST({number} AS BIGINT) AS VARCHAR) ELSE CAST({number} AS VARCHAR) END"
        )

    def concat(self, texts: Sequence[str], separator: str) -> str:
        """Texts joined, nulls left out; NULL where all are null."""
        some = " OR ".join(f"{text} IS NOT NULL" for text in texts)
        gap = self.text(separator)
        parts = " || ".join(f"COALESCE({gap} || {text}, '')" for text in texts)
        return f"CASE WHEN {some} THEN SUBSTR({parts}, {len(separator) + 1}) END"

    def constant(self, value: object) -> str:
        """A value, or a list of values, as SQL; a moment as UTC, without zone."""
        if isinstance(value, datetime):
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            text = self.text(moment.isoformat(sep=" ", timespec="microseconds"))
            return f"CAST({text} AS {self.timestamp_type})"
        if isinstance(value, list):
            items = ", ".join(self.constant(item) for item in value)
            return f"ARRAY_CONSTRUCT({items})" if self.name == "snowflake" else f"[{items}]"
        return self.text(value) if isinstance(value, str) else literal(value)

    def timestamp(self, expression: str) -> str:
        """Text as a UTC timestamp, NULL where it is none."""
        if self.name == "snowflake":
            return f"CONVERT_TIMEZONE('UTC', TRY_TO_TIMESTAMP_TZ({expression}))::TIMESTAMP_NTZ"
        return f"TRY_CAST({expression} AS TIMESTAMP)"

    def interval(self, length: timedelta) -> str:
        """A literal interval, exact to the microsecond: ``INTERVAL '604800 seconds'``."""
        microseconds = length // timedelta(microseconds=1)
        seconds, rest = divmod(microseconds, 1_000_000)
        return (
            f"INTERVAL '{microseconds} microseconds'" if rest else f"INTERVAL '{seconds} seconds'"
        )

    def seconds_between(self, start: str, end: str) -> str:
        """Elapsed seconds with fractions (``datediff('second')`` counts boundaries instead)."""
        if self.name == "snowflake":
            return f"DATEDIFF('microsecond', {start}, {end}) / 1e6"
        return f"(epoch_us({end}) - epoch_us({start})) / 1e6"

    def microseconds_between(self, start: str, end: str) -> str:
        """Elapsed time as a whole number of microseconds."""
        if self.name == "snowflake":
            return f"DATEDIFF('microsecond', {start}, {end})"
        return f"(epoch_us({end}) - epoch_us({start}))"

    def later(self, timestamp: str, microseconds: str) -> str:
        """A timestamp so many microseconds later."""
        if self.name == "snowflake":
            return f"DATEADD('microsecond', {microseconds}, {timestamp})"
        return f"{timestamp} + to_microseconds({microseconds})"

    def date_part(self, part: str, timestamp: str) -> str:
        """A date part as text: numbers without padding, dates as YYYY-MM-DD."""
        numbers = {"hour_of_day": "hour", "month_of_year": "month", "day_of_week": "dayofweekiso"}
        if part in numbers:
            unit = "isodow" if (part, self.name) == ("day_of_week", "duckdb") else numbers[part]
            return f"CAST(DATE_PART('{unit}', {timestamp}) AS VARCHAR)"
        unit = part.removeprefix("active_")
        return f"CAST(CAST(DATE_TRUNC('{unit}', {timestamp}) AS DATE) AS VARCHAR)"

    def array(self, value: str, order: str) -> str:
        """An aggregate that collects values into an array."""
        if self.name == "snowflake":
            return f"ARRAY_AGG({value}) WITHIN GROUP (ORDER BY {order})"
        return f"LIST({value} ORDER BY {order})"

    def counts_object(self, value: str, count: str, order: str) -> str:
        """An aggregate that collects values and counts into one JSON object."""
        if self.name == "snowflake":
            return f"OBJECT_AGG({value}, {count})"
        return f"CAST(MAP(LIST({value} ORDER BY {order}), LIST({count} ORDER BY {order})) AS JSON)"

    def size(self, value: str, *, is_array: bool) -> str:
        """How many elements an array, or keys an object, has; NULL for none."""
        if self.name == "snowflake":
            return f"ARRAY_SIZE({value if is_array else f'OBJECT_KEYS({value})'})"
        return f"LEN({value if is_array else f'JSON_KEYS({value})'})"

    def newest(self, array: str, count: int) -> str:
        """The last ``count`` elements of an array."""
        if self.name == "snowflake":
            size = f"CAST(ARRAY_SIZE({array}) AS BIGINT)"
            return f"ARRAY_SLICE({array}, GREATEST({size} - {count}, 0), {size})"
        return f"{array}[-{count}:]"


def dialect_of(name: str) -> Dialect:
    """The dialect by name.

    Raises:
        DefinitionError: another name than ``duckdb`` or ``snowflake``.
    """
    if name in ("duckdb", "snowflake"):
        return Dialect("duckdb" if name == "duckdb" else "snowflake")
    raise DefinitionError(f"dialect {name!r} is not known; choose 'duckdb' or 'snowflake'.")
