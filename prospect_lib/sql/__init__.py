"""Compile an attribute group into one SQL statement, for each dialect.

:mod:`~prospect_lib.sql.compiler` puts the statement together. Each kind of attribute has a
module with its steps and their templates: :mod:`~prospect_lib.sql.running_totals` (counts,
distinct counts, first and last values), :mod:`~prospect_lib.sql.windows` (sums, extremes, expiring
counts) and :mod:`~prospect_lib.sql.lists` (lists, and values ranked by how often they occurred).
"""

from prospect_lib.sql.compiler import attributes_sql, features_sql
from prospect_lib.sql.dialects import Dialect, dialect_of

__all__ = ["Dialect", "attributes_sql", "dialect_of", "features_sql"]
