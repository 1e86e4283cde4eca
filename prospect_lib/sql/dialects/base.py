"""What every dialect has: quoting, standard SQL, and the spellings that a warehouse must say.

Every name and value that comes from outside passes through :meth:`Dialect.identifier`,
:meth:`Dialect.text` or :meth:`Dialect.literal`, so a quote, ``%`` or semicolon in it is data,
never SQL.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from prospect_lib.aggregation.properties import INTEGER, NUMBER, TIME, Path, paths_of

HAS_OFFSET = "[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$"  # of a time as text


def in_seconds(length: timedelta) -> tuple[int, int]:
    """Return a length of time in whole seconds, and the microseconds beyond."""
    return divmod(length // timedelta(microseconds=1), 1_000_000)


class Dialect(ABC):
    """The spellings that the compiled statements need.

    What is implemented here is standard SQL, or common to the warehouses supported so far.

    Attributes:
        name: as in the ``dialect=`` argument of ``attributes_sql``.
        timestamp_type: the type of a UTC timestamp without a zone.
        text_type: the type of text of any length.
        first_instant: text of a timestamp before every event.
        materialized: the hint that a step is computed once for several readers, if needed.
        create_temporary: how a statement begins that creates a table to be dropped soon.
        counting_note: a comment on how running totals are counted, if they need one.
        ignoring_nulls: what FIRST_VALUE takes after its argument, to skip NULL.
    """

    name: ClassVar[str]
    timestamp_type: ClassVar[str]
    text_type: ClassVar[str] = "VARCHAR"
    first_instant: ClassVar[str]
    materialized: ClassVar[str] = ""
    create_temporary: ClassVar[str]
    counting_note: ClassVar[str] = ""
    ignoring_nulls: ClassVar[str] = " IGNORE NULLS"

    # --- quoting -----------------------------------------------------------------------------

    def identifier(self, name: str) -> str:
        """Return the quoted name of a column, table or alias."""
        return '"' + name.replace('"', '""') + '"'

    def text(self, value: object) -> str:
        """Return a text literal: ``O'Hara`` -> ``'O''Hara'``."""
        return "'" + str(value).replace("'", "''") + "'"

    def literal(self, value: object) -> str:
        """Return a value as SQL: ``None``, bool, number, text, datetime, or a list of these.

        An aware datetime becomes UTC; a naive one is UTC already.
        """
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return str(value).upper()
        if isinstance(value, int | float):
            return repr(value)
        if isinstance(value, datetime):
            utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            text = self.text(utc.isoformat(sep=" ", timespec="microseconds"))
            return f"CAST({text} AS {self.timestamp_type})"
        if isinstance(value, list):
            return self.array([self.literal(item) for item in value])
        return self.text(value)

    # --- types and conversions ---------------------------------------------------------------

    @abstractmethod
    def array(self, items: Sequence[str]) -> str:
        """Return an array of the given expressions."""

    def as_text(self, value: str) -> str:
        """Return a value as text."""
        return f"CAST({value} AS {self.text_type})"

    def paths(self, prop: Any) -> list[Path]:
        """Return where a nested property may be, see :func:`paths_of`."""
        return paths_of(prop)

    def inside(self, column: str, path: Path) -> str:
        """Return the text of the scalar at ``path`` in a nested column; NULL if there is none."""
        text = self.raw(column, path)
        number = self.number_text(f"TRY_CAST({text} AS DOUBLE)")
        return f"CASE WHEN {self._needs_text(column, path)} THEN {number} ELSE {text} END"

    @abstractmethod
    def _needs_text(self, column: str, path: Path) -> str:
        """Return whether a number is spelled in its own way, or an object or an array is there."""

    @abstractmethod
    def raw(self, column: str, path: Path) -> str:
        """Return the text of whatever is at ``path`` in a nested column, objects included."""

    def double(self, value: float) -> str:
        """Return a floating-point number; without an exponent long ones would be decimals."""
        text = repr(value)
        return text if "e" in text or len(text) < 16 else f"{text}e0"

    def number(self, text: str) -> str:
        """Return text as a floating-point number; NULL if it is not one."""
        return f"CASE WHEN {self.matches(text, NUMBER)} THEN TRY_CAST({text} AS DOUBLE) END"

    def integer(self, text: str) -> str:
        """Return the text of an integer as one; NULL if it is none, or needs more than 64 bits."""
        return f"CASE WHEN {self.matches(text, INTEGER)} THEN {self._in_64_bits(text)} END"

    def _in_64_bits(self, text: str) -> str:
        return f"TRY_CAST({text} AS BIGINT)"

    def whole(self, number: str) -> str:
        """Return the nearest integer, halves rounded up; NULL if it needs more than 64 bits."""
        rounded = f"CAST(FLOOR({number} + 0.5) AS BIGINT)"
        bounds = "-9223372036854775808 AND 9223372036854774784"  # the nearest numbers to 2 ** 63
        return f"CASE WHEN {number} BETWEEN {bounds} THEN {rounded} END"

    def number_text(self, number: str) -> str:
        """Return a number as text; whole numbers have no decimal point, and zero has no sign."""
        return f"REGEXP_REPLACE({self.as_text(f'{number} + 0.0')}, '[.]0$', '')"

    def concat(self, texts: Sequence[str], separator: str) -> str:
        """Return the texts that are not NULL, joined; NULL if all are NULL."""
        some = " OR ".join(f"{text} IS NOT NULL" for text in texts)
        gap = self.text(separator)
        parts = " || ".join(f"COALESCE({gap} || {text}, '')" for text in texts)
        return f"CASE WHEN {some} THEN SUBSTR({parts}, {len(separator) + 1}) END"

    def like(self, text: str, pattern: str) -> str:
        """Return whether a text matches a pattern in which ``%`` and ``_`` are special."""
        return f"{text} LIKE {self.text(pattern)}"

    # --- time --------------------------------------------------------------------------------

    @property
    def beginning(self) -> str:
        """An instant before every event."""
        return f"CAST({self.text(self.first_instant)} AS {self.timestamp_type})"

    def interval(self, length: timedelta) -> str:
        """Return an interval, exact to the microsecond: ``INTERVAL '604800 seconds'``."""
        seconds, microseconds = in_seconds(length)
        if microseconds:
            return f"INTERVAL '{seconds * 1_000_000 + microseconds} microseconds'"
        return f"INTERVAL '{seconds} seconds'"

    def timestamp(self, text: str) -> str:
        """Return ISO 8601 text as a UTC timestamp; NULL if it is not one."""
        return f"CASE WHEN {self.matches(text, TIME)} THEN {self._time(text, strict=False)} END"

    @abstractmethod
    def utc(self, column: str) -> str:
        """Return a column of times of any type as UTC timestamps; text must be ISO 8601.

        It does not depend on the session's time zone, and costs nothing where the column is of
        :attr:`timestamp_type` already.
        """

    @abstractmethod
    def _time(self, text: str, *, strict: bool) -> str:
        """Return the text of a time as a UTC timestamp; ``strict``: an error if it is not one."""

    @abstractmethod
    def matches(self, text: str, pattern: str) -> str:
        """Return whether the whole text matches a regular expression, without back-slashes."""

    @abstractmethod
    def microseconds_between(self, start: str, end: str) -> str:
        """Return the elapsed time as a whole number of microseconds."""

    def seconds_between(self, start: str, end: str) -> str:
        """Return the elapsed seconds, with fractions.

        ``DATEDIFF('second')`` would count the boundaries that were crossed instead.
        """
        return f"CAST({self.microseconds_between(start, end)} AS DOUBLE) / 1e6"

    @abstractmethod
    def later(self, timestamp: str, microseconds: str) -> str:
        """Return the timestamp that is so many microseconds later."""

    @property
    @abstractmethod
    def iso_weekday(self) -> str:
        """The unit of DATE_PART for a weekday from Monday, 1, to Sunday, 7."""

    def date_part(self, part: str, timestamp: str) -> str:
        """Return a Signals date part as text: a number without padding, or YYYY-MM-DD."""
        units = {"hour_of_day": "hour", "month_of_year": "month", "day_of_week": self.iso_weekday}
        if part in units:
            return self.as_text(f"DATE_PART('{units[part]}', {timestamp})")
        unit = part.removeprefix("active_")
        return self.as_text(f"CAST(DATE_TRUNC('{unit}', {timestamp}) AS DATE)")

    def quantile(self, share: float, time: str, relation: str) -> str:
        """Return the time that this share of the times of a relation reaches at most."""
        return f"(SELECT PERCENTILE_DISC({share}) WITHIN GROUP (ORDER BY {time}) FROM {relation})"

    # --- rows ---------------------------------------------------------------------------------

    def once(self, key: str) -> str:  # noqa: ARG002
        """Return the end of a step that is computed once for several readers.

        Args:
            key: the column by which they need its rows together.
        """
        return ""

    def replaced(self, alias: str, columns: Mapping[str, str]) -> str:
        """Return all columns of a relation, some of them with other values, by quoted name."""
        values = ", ".join(f"{value} AS {name}" for name, value in columns.items())
        return f"{alias}.* REPLACE ({values})"

    # --- rows of one visitor in time ---------------------------------------------------------

    def visitor_number(self, key: str) -> str:
        """Return what identifies a visitor within the statement: by default the key itself."""
        return key

    def in_order(self, stream: str) -> str:
        """Return a stream by ``ts`` and ``place``, sorted if :meth:`running_count` needs it."""
        return stream

    def running_count(self, flag: str) -> str:
        """Return how many rows of the visitor have had the flag, up to this row of the stream."""
        frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        over = f"OVER (PARTITION BY visitor ORDER BY ts, place {frame})"
        return f"COUNT(CASE WHEN {flag} THEN 1 END) {over}"

    def event_number(self, value: str) -> str:
        """Return a row's number as :meth:`running_count` counts; ties by the smaller value."""
        return f"ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, {value})"

    @abstractmethod
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
        """Join rows with the visitor's nearest row of a relation, if there is one.

        Args:
            alias: of the nearest row.
            comparison: how a time compares with the nearest row's ``ts``: ``>=`` or ``>`` finds
                the latest before, ``<`` the next after.
            to: the time in the rows to be joined, such as ``c.ts``.
            of: the relation of these rows; it has no instant of a visitor twice.
            values: columns of the nearest row that are read besides ``ts``; none is NULL.
        """

    # --- aggregates --------------------------------------------------------------------------

    def least(self, value: str, kind: str) -> str:  # noqa: ARG002
        """Return an aggregate: the least of the values, which are of this attribute type."""
        return f"MIN({value})"

    @abstractmethod
    def collect(self, value: str, order: str) -> str:
        """Return an aggregate that collects values into an array."""

    @abstractmethod
    def collect_counts(self, value: str, count: str, order: str) -> str:
        """Return an aggregate that collects values and their counts into one JSON object."""

    @abstractmethod
    def size(self, value: str, *, is_array: bool) -> str:
        """Return how many elements an array, or keys an object, has; NULL for NULL."""

    @abstractmethod
    def last_items(self, array: str, count: int) -> str:
        """Return the last ``count`` elements of an array."""
