"""Read an export of the events table: a Parquet or CSV file, or a folder of such parts.

Types are known, not guessed: a standard column gets its type from
:data:`prospect_lib.warehouse.events.CANONICAL_COLUMNS`, nested columns become JSON, times become
UTC, names become lower-case. Other columns stay as they are, in a CSV text. A CSV is read once,
into memory; of Parquet files each statement reads, and converts, the columns that it needs.

Example: ``read_events(connection, Path("events.parquet"))`` creates the relation ``events``.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prospect_lib.errors import DataError, one_line
from prospect_lib.sql.dialects import DuckDB
from prospect_lib.warehouse.events import CANONICAL_COLUMNS, NESTED

#: Beyond this share of cells that cannot be converted, a column is refused.
BAD_SHARE = 0.05
IDS_AT_ONCE = 10_000_000  # events whose ids are compared at once: about 200 MB
REQUIRED = {"derived_tstamp", "event_name"}
ENDINGS = (".parquet", ".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_SQL = DuckDB()
_EXPECTED = {
    "TIMESTAMP": "times such as 2026-01-31T12:00:00Z",
    "INTEGER": "whole numbers",
    "DOUBLE": "numbers",
    "BOOLEAN": "true or false",
    "JSON": "JSON",
}
_NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*")
_CSV_CAUSES = ("Value with", "Expected Number", "Invalid unicode", "Maximum line")
_NO_TEXT = "it is neither a Parquet file nor UTF-8 text; save it as one of these"
_NOT_UTF8 = "it is not UTF-8 text; save it as UTF-8"
_LONGEST_HEADER = 1_000_000  # characters

#: The cells of one column that cannot be converted. Rows are numbered as in the file, from 1.
BAD_CELLS = """
SELECT
  COUNT(*) FILTER (is_bad) AS bad,
  COUNT(*) FILTER (has_content OR is_bad) AS cells,
  MIN(row) FILTER (is_bad) AS first_row,
  ARG_MIN(CAST(cell AS VARCHAR), row) FILTER (is_bad) AS cell
FROM (
  SELECT
    ROW_NUMBER() OVER () AS row,
    {cell} AS cell,
    {cell} IS NOT NULL AS has_content,
    COALESCE({is_bad}, FALSE) AS is_bad
  FROM {source}
)
"""
#: All rows of each event but the one that was collected first.
DUPLICATES = """
CREATE TEMP TABLE prospect_duplicates AS
SELECT {row}
FROM (
  SELECT {row}, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY {order}, {row}) AS place
  FROM {rows} AS e
  SEMI JOIN prospect_repeated AS r ON r.hash = HASH(e.event_id)
  WHERE event_id <> '' AND derived_tstamp IS NOT NULL
)
WHERE place > 1
"""
_ROW = "prospect_part, prospect_row"  # what tells rows apart


def read_events(connection: "duckdb.DuckDBPyConnection", path: Path) -> tuple[str, ...]:
    """Create the relation ``events`` over an export; return sentences about what was left out.

    An ``event_id`` counts once. Cells that are no JSON, number or time count as empty; events
    without a time are left out.

    Args:
        connection: its time zone is UTC.
        path: a file, or a folder of parts.
    Raises:
        DataError: there is no such file, it cannot be read, it lacks events or columns, or more
            than 5% of a column's cells cannot be converted; the message says which and where.
    """
    try:
        export = _Export.of(connection, path)
        notes = export.check_cells()
        if duplicates := export.find_duplicates():
            notes.append(f"Duplicates left out, so that an event_id counts once: {duplicates:,}.")
        export.create_view(all_rows=not duplicates)
        return tuple(notes)
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as atomic events: {_reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {_NO_TEXT}.") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"{path} cannot be read: {reason}.") from error


@dataclass(frozen=True)
class _Column:
    """A column of an export, and how it becomes one of the events table.

    Attributes:
        name: in lower case.
        cell: its name in the export, quoted.
        kind: the type that it is converted to.
        value: its value in the events table, as SQL.
        is_bad: the condition that a cell has content but no value; empty if none can be bad.
    """

    name: str
    cell: str
    kind: str
    value: str
    is_bad: str

    @classmethod
    def of(cls, name: str, stored: str) -> "_Column":
        """Return the column of this name in the export, stored as this type of DuckDB."""
        lower, cell = name.lower(), _SQL.identifier(name)
        is_nested = stored.startswith(("STRUCT", "MAP", "UNION", "VARIANT")) or stored.endswith("]")
        default = "JSON" if is_nested or NESTED.match(lower) else _kept_type(stored)
        kind = CANONICAL_COLUMNS.get(lower, default)
        value, may_fail = _conversion(cell, stored, kind)
        has_content = f"{cell} <> ''" if stored == "VARCHAR" else f"{cell} IS NOT NULL"
        return cls(lower, cell, kind, value, f"{has_content} AND ({value}) IS NULL" * may_fail)


@dataclass(frozen=True)
class _Export:
    connection: "duckdb.DuckDBPyConnection"
    path: Path
    parts: Sequence[Path]
    is_parquet: bool
    columns: Sequence[_Column]

    @classmethod
    def of(cls, connection: "duckdb.DuckDBPyConnection", path: Path) -> "_Export":
        parts = _parts(path)
        is_parquet = _is_parquet(path, parts)
        for part in parts if is_parquet else ():
            _check_names(part, pq.read_schema(part).names)
        source = _parquet(parts) if is_parquet else _text(parts)
        relation = connection.sql(f"SELECT * FROM {source} LIMIT 0")
        names = zip(relation.columns, relation.types, strict=True)
        columns = [_Column.of(name, str(kind)) for name, kind in names]
        export = cls(connection, path, parts, is_parquet, columns)
        if not is_parquet:
            connection.execute(f"CREATE TABLE prospect_rows AS {export._select(source)}")
        return export

    @property
    def source(self) -> str:
        """The export as it is."""
        return _parquet(self.parts) if self.is_parquet else _text(self.parts)

    def _select(self, source: str, more: str = "") -> str:
        """The converted rows; ``prospect_bad`` has the numbers of columns with a bad cell."""
        values = [f"{column.value} AS {_SQL.identifier(column.name)}" for column in self.columns]
        flags = [
            f"CASE WHEN {column.is_bad} THEN '{number} ' END"
            for number, column in enumerate(self.columns)
            if column.is_bad
        ]
        bad = f"CONCAT('', {', '.join(flags)})" if flags else "''"
        return f"SELECT {', '.join(values)}, {bad} AS prospect_bad{more} FROM {source}"

    @property
    def rows(self) -> str:
        """The converted rows."""
        return f"({self._select(self.source)})" if self.is_parquet else "prospect_rows"

    @property
    def numbered_rows(self) -> str:
        """The same with two columns that tell rows apart."""
        if not self.is_parquet:
            return "(SELECT *, '' AS prospect_part, rowid AS prospect_row FROM prospect_rows)"
        source = _parquet(self.parts, "filename = 'prospect_part', file_row_number = true")
        return f"({self._select(source, ', prospect_part, file_row_number AS prospect_row')})"

    def _query(self, sql: str) -> dict[str, Any]:
        """Return the one row of a statement."""
        row: dict[str, Any] = self.connection.sql(sql).to_arrow_table().to_pylist()[0]
        return row

    @cached_property
    def summary(self) -> dict[str, Any]:
        """How many events there are, with a time, with a collector time; which cells are bad."""
        collected = "COUNT(collector_tstamp)" if self._has("collector_tstamp") else "0"
        return self._query(
            f"SELECT COUNT(*) AS events, COUNT(derived_tstamp) AS timed, {collected} AS collected, "
            f"LIST(DISTINCT prospect_bad) FILTER (prospect_bad <> '') AS bad FROM {self.rows}"
        )

    def _has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)

    def check_cells(self) -> list[str]:
        """Return a sentence about each column with cells that cannot be converted."""
        if not self.summary["events"]:
            raise DataError(f"{self.path} has no events: it has columns, but no row.")
        numbers = {int(number) for text in self.summary["bad"] or [] for number in text.split()}
        if self.summary["timed"] < self.summary["events"]:
            numbers |= {n for n, c in enumerate(self.columns) if c.name == "derived_tstamp"}
        return [self._check(self.columns[number]) for number in sorted(numbers)]

    def _check(self, column: _Column) -> str:
        is_time = column.name == "derived_tstamp"
        is_bad = f"({column.value}) IS NULL" if is_time else column.is_bad
        sql = BAD_CELLS.format(cell=column.cell, is_bad=is_bad, source=self.source)
        bad, cells, row, cell = self._query(sql).values()
        value = "empty" if cell is None else repr(one_line(cell, 40))
        where = f"{bad:,} of {cells:,} (first: row {row:,}, {value})"
        expected = _EXPECTED[column.kind]
        if bad > BAD_SHARE * cells:
            raise DataError(
                f"{self.path}: cells of {column.name} that are no {expected}: {where}. Correct "
                f"the export{', or leave the column out' * (column.name not in REQUIRED)}."
            )
        if is_time:
            return f"Events left out, because their derived_tstamp is no time: {where}."
        return f"Cells of {column.name} that are no {expected} and count as empty: {where}."

    def find_duplicates(self) -> int:
        """Find all rows of an event but the one that was collected first; return how many."""
        if not self._has("event_id"):
            return 0
        slices = self.summary["events"] // IDS_AT_ONCE + 1
        repeated = np.concatenate([self._repeated_hashes(n, slices) for n in range(slices)])
        if not len(repeated):
            return 0
        self.connection.register("prospect_repeated", pa.table({"hash": repeated}))
        times = [name for name in ("collector_tstamp", "derived_tstamp") if self._has(name)]
        self.connection.execute(
            DUPLICATES.format(row=_ROW, order=", ".join(times), rows=self.numbered_rows)
        )
        self.connection.unregister("prospect_repeated")
        return int(self._query("SELECT COUNT(*) AS n FROM prospect_duplicates")["n"])

    def _repeated_hashes(self, number: int, slices: int) -> np.ndarray:
        """Return the hashes of ids that occur more than once; sorting is faster than GROUP BY."""
        sql = f"SELECT HASH(event_id) AS hash FROM {self.rows} WHERE event_id <> ''"
        if slices > 1:
            sql += f" AND HASH(event_id) % {slices} = {number}"
        hashes = np.sort(self.connection.sql(sql).to_arrow_table()["hash"].to_numpy())
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])

    def create_view(self, *, all_rows: bool) -> None:
        """Create ``events``, without duplicates and events without a time, if there are any."""
        hidden = {"collector_tstamp"} if not self.summary["collected"] else set()
        names = [_SQL.identifier(c.name) for c in self.columns if c.name not in hidden]
        select = f"SELECT {', '.join(names)} FROM "
        without_duplicates = f"{self.numbered_rows} ANTI JOIN prospect_duplicates USING ({_ROW})"
        select += self.rows if all_rows else without_duplicates
        if self.summary["timed"] < self.summary["events"]:
            select += " WHERE derived_tstamp IS NOT NULL"
        self.connection.execute(f"CREATE VIEW events AS {select}")


# --- types ------------------------------------------------------------------------------------


def _kept_type(stored: str) -> str:
    """Return the type of a column that is no standard one."""
    if stored.startswith("TIMESTAMP"):
        return "TIMESTAMP"
    if stored.startswith("DECIMAL"):  # long whole numbers are ids
        return "VARCHAR" if stored.endswith(",0)") else "DOUBLE"
    return stored


def _conversion(cell: str, stored: str, kind: str) -> tuple[str, bool]:
    """Return the SQL that converts a cell, and whether it may give NULL for one with content."""
    is_text, is_numeric = stored == "VARCHAR", _NUMERIC.fullmatch(stored) is not None
    if kind == stored:
        return cell, False
    if kind == "VARCHAR":
        is_float = stored in ("FLOAT", "DOUBLE")
        return _SQL.number_text(cell) if is_float else f"CAST({cell} AS VARCHAR)", False
    if kind == "JSON":
        return f"TRY_CAST({cell} AS JSON)", is_text
    if kind == "BOOLEAN":
        return f"TRY_CAST({cell} AS BOOLEAN)", not is_numeric
    if kind == "TIMESTAMP":
        if is_text:  # Snowflake writes a space before the offset
            return _SQL.timestamp(f"REPLACE(REPLACE({cell}, ' +', '+'), ' -', '-')"), True
        if "ZONE" in stored or "TZ" in stored:
            return f"CAST({cell} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'", False
        is_time = stored.startswith("TIMESTAMP") or stored == "DATE"
        return f"CAST({cell if is_time else 'NULL'} AS TIMESTAMP)", not is_time
    number = cell if is_numeric else _SQL.number(f"CAST({cell} AS VARCHAR)")
    if kind == "DOUBLE":
        return f"CAST({number} AS DOUBLE)", not is_numeric
    if is_numeric and stored.endswith(("INT", "INTEGER")):
        return cell, False
    return f"CASE WHEN {number} = FLOOR({number}) THEN TRY_CAST({number} AS INTEGER) END", True


# --- files ------------------------------------------------------------------------------------


def _parts(path: Path) -> list[Path]:
    """Return the files of an export."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"{path}: there is no such file; give a Parquet or CSV of events, or a folder of them."
        )
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] not in "._")
    parts = [file for file in files if file.name.lower().endswith(ENDINGS)]
    if not parts:
        raise DataError(
            f"{path}: the folder has no file whose name ends with {', '.join(ENDINGS)}."
        )
    return parts


def _is_parquet(path: Path, parts: Sequence[Path]) -> bool:
    kinds = set()
    for part in parts:
        start = _start(part)
        if not start:
            raise DataError(f"{part} is empty.")
        kinds.add(start == b"PAR1" or part.suffix.lower() == ".parquet")
    if len(kinds) > 1:
        raise DataError(f"{path} holds both Parquet and text files; give a folder of one kind.")
    return kinds.pop()


def _start(part: Path) -> bytes:
    with part.open("rb") as file:
        return file.read(4)


def _parquet(parts: Sequence[Path], options: str = "") -> str:
    more = f", {options}" * bool(options)
    return f"read_parquet({_SQL.files(parts)}, union_by_name = true, binary_as_string = true{more})"


def _text(parts: Sequence[Path]) -> str:
    selects = []
    for part in parts:
        is_zipped = _start(part).startswith(b"\x1f\x8b")
        names, delimiter = _header(part, is_zipped)
        _check_names(part, names)
        columns = ", ".join(f"{_SQL.text(name)}: 'VARCHAR'" for name in names)
        selects.append(
            f"SELECT * FROM read_csv({_SQL.files([part])}, columns = {{{columns}}}, header = true, "
            f"auto_detect = false, delim = {_SQL.text(delimiter)}, quote = '\"', escape = '\"', "
            f"nullstr = ['', '\\N'], compression = '{'gzip' if is_zipped else 'none'}')"
        )
    return f"({' UNION ALL BY NAME '.join(selects)})"


def _header(part: Path, is_zipped: bool) -> tuple[list[str], str]:
    """Return the names of a CSV's columns, and its delimiter."""
    unzip = gzip.open if is_zipped else open
    with unzip(part, "rt", encoding="utf-8-sig", newline="") as file:
        line = str(file.readline(_LONGEST_HEADER))
    if "\0" in line:
        raise DataError(f"{part} cannot be read: {_NO_TEXT}.")
    delimiter = max(",\t;|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    return [name or f"column {number}" for number, name in enumerate(names, 1)], delimiter


def _check_names(part: Path, names: Sequence[str]) -> None:
    by_name: dict[str, str] = {}
    for name in names:
        by_name.setdefault(name.lower(), name)
    if missing := REQUIRED - set(by_name):
        raise DataError(
            f"{part} lacks columns of Snowplow's events table (atomic.events): "
            f"{', '.join(sorted(missing))}. Export them too, a CSV with a line of column names."
        )
    for name in names:
        if (other := by_name[name.lower()]) is not name:
            raise DataError(
                f"{part} has the columns {other} and {name}, which are one; rename one."
            )


def _reason(error: Exception) -> str:
    """Return the cause in DuckDB's or Arrow's message, with the line of a CSV, as one line."""
    lines = str(error).splitlines() or [type(error).__name__]
    for line in lines:
        if number := re.search(r"CSV Error on Line: (\d+)", line):
            causes = [cause for cause in lines if cause.startswith(_CSV_CAUSES)]
            if any("unicode" in cause for cause in causes):
                return f"line {number[1]}: {_NOT_UTF8}"
            cause = one_line(" ".join(causes) or lines[0]).rstrip(".")
            return f"line {number[1]}: {cause}. Export it again, with quotes doubled, or as Parquet"
    return one_line(lines[0]).rstrip(".")
