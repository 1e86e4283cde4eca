"""How Databricks spells the compiled statements: as Spark, but for temporary tables.

Spark's own SQL has none that hold rows, so it caches a view instead. Everything else that the
statements use is the same in both (``QUALIFY``, ``TRY_CAST``, ``TIMESTAMP_NTZ``, ``EXCEPT`` of
columns, lambdas): https://docs.databricks.com/aws/en/sql/language-manual.
"""

from prospect_lib.sql.dialects.spark import SparkDialect


class DatabricksDialect(SparkDialect):
    """Databricks SQL on a SQL warehouse, or on a cluster of Databricks Runtime 18.1 or later."""

    name = "databricks"
    create_temporary = "CREATE TEMPORARY TABLE"
