"""Prove from a compiled statement alone that its joins multiply no rows.

A join gives each row of its left side at most one row if it is an ASOF join, or if the columns
that ON equates hold a key of its right side. Keys are those that a statement shows by itself:
``DISTINCT``, ``GROUP BY``, an aggregate of all rows, and ``ROW_NUMBER`` within its partition. Those
of a UNION are the keys of the only SELECT in it that meets a condition such as ``place = 2``.
Relations without a definition (events, anchors) have no key.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

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
    values = _values(condition, join.this.alias_or_name)
    return any(key <= equated for key in _keys_of(join.this, known, values))


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


def _values(condition: exp.Expr | None, name: str) -> dict[str, str]:
    """Columns of the relation ``name`` that must equal a literal, and that literal."""
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    return {
        part.left.name: part.right.sql()
        for part in parts
        if isinstance(part, exp.EQ)
        and isinstance(part.right, exp.Literal)
        and isinstance(part.left, exp.Column)
        and part.left.table in (name, "")
    }


def _keys_of(source: exp.Expr, known: Mapping[str, exp.Query], values: Mapping[str, str]) -> Keys:
    """Sets of columns that no two rows of a relation share, of those with the given values."""
    if isinstance(source, exp.Table):
        return _keys(known[source.name], known, values) if source.name in known else set()
    return _keys(source.this, known, values) if isinstance(source, exp.Subquery) else set()


def _keys(select: exp.Expr, known: Mapping[str, exp.Query], values: Mapping[str, str]) -> Keys:
    if isinstance(select, exp.Union):
        return _keys_of_union(select, known, values)
    if not isinstance(select, exp.Select):
        return set()
    keys: Keys = set()
    if select.args.get("distinct"):
        keys.add(frozenset(column.alias_or_name for column in select.selects))
    group = select.args.get("group")
    if group is None and all(isinstance(c.unalias(), exp.AggFunc) for c in select.selects):
        return {frozenset()}  # a single row
    names = [column.alias_or_name for column in select.selects]
    if group is not None:
        keys |= _named(select, names, {frozenset(each.name for each in group.expressions)})
    if group is None and all(_gives_one(join, known) for join in select.args.get("joins") or []):
        source, where = select.args["from_"].this, select.args.get("where")
        passed = {
            column.unalias().name: values[column.alias_or_name]
            for column in select.selects
            if isinstance(column.unalias(), exp.Column) and column.alias_or_name in values
        }
        passed = dict(values) if any(c.is_star for c in select.selects) else passed
        passed |= _values(where and where.this, source.alias_or_name)
        keys |= _named(select, names, _keys_of(source, known, passed))
    for column in select.selects:
        if isinstance(column.unalias(), exp.Window):
            window = column.unalias()
            if isinstance(window.this, exp.RowNumber):
                within = frozenset(each.name for each in window.args.get("partition_by") or [])
                keys |= {key | {column.alias} for key in _named(select, names, {within})}
    return keys


def _keys_of_union(
    union: exp.Union, known: Mapping[str, exp.Query], values: Mapping[str, str]
) -> Keys:
    """The keys of the only SELECT that may have these values; none if there are several."""
    selects: list[exp.Query] = [union]
    while isinstance(selects[0], exp.Union):
        selects[:1] = [selects[0].left, selects[0].right]
    names = [column.alias_or_name for column in selects[0].selects]
    possible = []
    for select in selects:
        columns = dict(zip(names, (column.unalias() for column in select.selects), strict=True))
        asked = [(columns[name], value) for name, value in values.items() if name in columns]
        if all(not isinstance(c, exp.Literal) or c.sql() == value for c, value in asked):
            passed = {c.name: value for c, value in asked if isinstance(c, exp.Column)}
            possible.append((select, passed))
    if len(possible) != 1 or possible[0][0].args.get("joins"):
        return set()
    ((select, passed),) = possible
    return _named(select, names, _keys_of(select.args["from_"].this, known, passed))


def _named(select: exp.Query, names: Sequence[str], keys: Keys) -> Keys:
    """Keys of a SELECT's source under the names of its columns, if it has them all."""
    if any(column.is_star for column in select.selects):
        return keys
    renamed: dict[str, list[str]] = {}
    for column, name in zip(select.selects, names, strict=True):
        if isinstance(column.unalias(), exp.Column):
            renamed.setdefault(column.unalias().name, []).append(name)
    return {
        frozenset(choice)
        for key in keys
        if key <= renamed.keys()
        for choice in product(*(renamed[name] for name in key))
    }
