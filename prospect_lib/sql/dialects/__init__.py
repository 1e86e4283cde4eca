"""How each warehouse spells the compiled statements, and the one place where SQL is quoted.

To support another warehouse, write a subclass of :class:`Dialect` and add it to ``_DIALECTS``;
the other classes stay as they are.

Example: ``dialect_of("snowflake").identifier("app_id")`` -> ``"APP_ID"`` in double quotes.
"""

from prospect_lib.errors import DefinitionError
from prospect_lib.sql.dialects.base import Dialect
from prospect_lib.sql.dialects.databricks import DatabricksDialect
from prospect_lib.sql.dialects.duckdb import DuckDB
from prospect_lib.sql.dialects.snowflake import Snowflake
from prospect_lib.sql.dialects.spark import SparkDialect

__all__ = ["DatabricksDialect", "Dialect", "DuckDB", "Snowflake", "SparkDialect", "dialect_of"]

_DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (DuckDB(), Snowflake(), SparkDialect(), DatabricksDialect())
}


def dialect_of(name: str) -> Dialect:
    """Return the dialect of this name.

    Raises:
        DefinitionError: there is no such dialect; the message lists those there are.
    """
    if name not in _DIALECTS:
        choices = " or ".join(repr(known) for known in _DIALECTS)
        raise DefinitionError(f"dialect {name!r} is not known; choose {choices}.")
    return _DIALECTS[name]
