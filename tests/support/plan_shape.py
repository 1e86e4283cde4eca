"""Prove from a compiled statement alone that its joins multiply no rows.

A join gives each row of its left side at most one row if it is an ASOF join, or if the columns
that ON equates hold a key of its right side. Keys are those that a statement shows by itself:
``DISTINCT``, ``GROUP BY``, an aggregate of all rows, and ``ROW_NUMBER`` within its partition.
Relations without a definition (events, anchors) have no key.
"""

from collections.abc import Iterator, Mapping

import sqlglot
from sqlglot import exp

Keys = set[frozenset[str]]


def multiplying(sql: str, dialect: str) -> list[str]:
    """Return the joins that may multiply rows, and anything else that may."""
    tree = sqlglot.parse_one(sql, dialect=dialect)
    known = {cte.alias: cte.this for cte in tree.find_all(exp.CTE)}
    joins = [join for join in tree.find_all(exp.Join) if not _gives_one(join, known)]
    makers = [*tree.find_all(exp.Lateral), *tree.find_all(exp.Unnest), *tree.find_all(exp.Explode)]
    return [node.sql(dialect=dialect) for node in [*joins, *makers]]


def joins(sql: str, dialect: str) -> int:
    """Return how many joins a statement has."""
    return len(list(sqlglot.parse_one(sql, dialect=dialect).find_all(exp.Join)))


def _gives_one(join: exp.Join, known: Mapping[str, exp.Query]) -> bool:
    if join.args.get("match_condition") is not None or str(join.method).upper() == "ASOF":
        return True
    condition = join.args.get("on")
    equated = frozenset(_equated(condition, join.this.alias_or_name) if condition else ())
    return any(key <= equated for key in _keys_of(join.this, known))


def _equated(condition: exp.Expr, name: str) -> Iterator[str]:
    """Columns of the relation ``name`` that must equal an expression of other relations."""
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    for part in parts:
        if not isinstance(part, exp.EQ):
            continue
        for side, other in ((part.left, part.right), (part.right, part.left)):
            is_own = isinstance(side, exp.Column) and side.table == name
            if is_own and all(column.table != name for column in other.find_all(exp.Column)):
                yield side.name


def _keys_of(source: exp.Expr, known: Mapping[str, exp.Query]) -> Keys:
    """Sets of columns that no two rows of a relation share."""
    if isinstance(source, exp.Table):
        return _keys(known[source.name], known) if source.name in known else set()
    return _keys(source.this, known) if isinstance(source, exp.Subquery) else set()


def _keys(select: exp.Expr, known: Mapping[str, exp.Query]) -> Keys:
    if not isinstance(select, exp.Select):
        return set()  # nothing is known of a UNION
    keys: Keys = set()
    if select.args.get("distinct"):
        keys.add(frozenset(column.alias_or_name for column in select.selects))
    group = select.args.get("group")
    if group is None and all(isinstance(c.unalias(), exp.AggFunc) for c in select.selects):
        return {frozenset()}  # a single row
    if group is not None:
        keys |= _named(select, {frozenset(each.name for each in group.expressions)})
    if group is None and all(_gives_one(join, known) for join in select.args.get("joins") or []):
        keys |= _named(select, _keys_of(select.args["from_"].this, known))
    for column in select.selects:
        if isinstance(column.unalias(), exp.Window):
            window = column.unalias()
            if isinstance(window.this, exp.RowNumber):
                within = frozenset(each.name for each in window.args.get("partition_by") or [])
                keys |= {key | {column.alias} for key in _named(select, {within})}
    return keys


def _named(select: exp.Select, keys: Keys) -> Keys:
    """Keys of a SELECT's source under the names that the SELECT gives them, if it has them all."""
    if any(column.is_star for column in select.selects):
        return keys
    names: dict[str, str] = {}
    for column in select.selects:
        if isinstance(column.unalias(), exp.Column):
            names.setdefault(column.unalias().name, column.alias_or_name)
    return {frozenset(names[name] for name in key) for key in keys if key <= names.keys()}
