"""Put together one SQL statement for an attribute group; it reads every event once.

The first steps are the same for every group: the distinct visitors and instants of the anchors
(``visitors``, ``anchor_times``), and the value that each event has for each attribute
(``matched``). Then come the steps of each kind of attribute. Events are never joined with
events, so the cost grows with their number, not with its square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.definitions import check_definitions
from prospect_lib.aggregation.fold import MAX_VALUES, SECONDS_IN
from prospect_lib.features import Feature, features_of
from prospect_lib.sql.context import Context, lines
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.sql.lists import LISTS, RANKINGS, Lists
from prospect_lib.sql.running_totals import COUNTS, DISTINCT, FIRST, LAST, RunningTotals
from prospect_lib.sql.windows import Windows

_ROUNDED = {"sum", "mean", "min", "max"}  # to whole numbers, if the attribute's type is integer

FIRST_STEPS = """\
-- the anchors, with the visitor as text and the instant in UTC
anchor_rows AS (
  SELECT {anchor_columns}
  FROM {anchors} AS a{anchors_once}
),
-- the visitors of the anchors
visitors AS {materialized}(
  SELECT visitor_key, {visitor_number} AS visitor
  FROM (
    SELECT DISTINCT a.{key} AS visitor_key
    FROM anchor_rows AS a
    WHERE a.{key} NOT IN ({nobody})
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS {materialized}(
  SELECT DISTINCT v.visitor, {anchor_time} AS ts
  FROM anchor_rows AS a
  JOIN visitors AS v ON v.visitor_key = a.{key}
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS {materialized}(
  SELECT
    v.visitor,
    {ts} AS ts,
{values}
  FROM {events} AS e
  JOIN visitors AS v ON v.visitor_key = {event_key}{events_once}
)"""

STATEMENT = """\
WITH
{steps}
-- each anchor with its values
SELECT
  a.*,
{columns}
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a.{key}
{joins}
ORDER BY a.{key}, a.{anchor_ts}"""


def attributes_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
) -> str:
    """Return one statement that computes every attribute of ``group`` at every anchor.

    Args:
        group: a Signals attribute group.
        events: a relation with the columns of Snowplow's atomic events table: its name, or a
            SELECT in parentheses.
        anchors: a relation with a column named as the group's key, and ``anchor_ts``: a time
            with or without zone, or ISO 8601 text. Its other columns are passed through.
        dialect: ``duckdb``, ``snowflake`` or ``spark``.
        include_anchor: whether events exactly at ``anchor_ts`` count. Snowplow's tutorials leave
            them out.

    Returns:
        SQL whose rows are the anchors' columns (the key as text, ``anchor_ts`` in UTC), then one
        column per attribute in the group's order, sorted by key and ``anchor_ts``. An anchor of
        nobody, with an empty or nil identifier, has no values. A ``unique_list`` is an array, a
        ``category_count`` a JSON object, an attribute without a matching event NULL or its
        default. The values are those of :func:`prospect_lib.aggregation.fold.attribute_values`.

    Raises:
        DefinitionError: an attribute cannot be compiled, or the dialect is not known.

    Example:
        >>> from prospect_lib.attributes import tutorial_group
        >>> sql = attributes_sql(
        ...     tutorial_group, events="ATOMIC.EVENTS", anchors="ANCHORS", dialect="snowflake"
        ... )
        >>> print(sql.splitlines()[-1])
        ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
    """
    check_definitions(group)
    context = Context(group, dialect_of(dialect), events, anchors, include_anchor)
    compiler = Compiler.of(context, only_counted=set())
    return compiler.statement([(a.name, compiler.value(a)) for a in context.attributes])


def features_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
    features: Sequence[Feature] | None = None,
) -> str:
    """Return one statement that computes the model's features of ``group`` at every anchor.

    The arguments are those of :func:`attributes_sql`; the columns after the anchors' are those
    of ``features``, by default :func:`prospect_lib.features.features_of`. Of a list only the
    number of values is computed.

    Example:
        >>> from prospect_lib.attributes import sample_group
        >>> sql = features_sql(sample_group, events="events", anchors="anchors")
        >>> 'AS "day_of_week"' in sql
        True
    """
    if features is None:
        check_definitions(group)
        features = features_of(group)
    else:
        flagged = [feature for feature in features if feature.rule == "any"]
        check_definitions(group, {str(f.attribute): f.name for f in flagged})
    context = Context(group, dialect_of(dialect), events, anchors, include_anchor)
    only_counted = {f.attribute for f in features if f.rule == "length" and f.attribute}
    compiler = Compiler.of(context, only_counted)
    return compiler.statement([(f.name, compiler.feature(f)) for f in features])


def reading_once(statement: str, name: str, select: str, dialect: str = "duckdb") -> str:
    """Return a compiled statement whose relation ``name`` is a SELECT that runs once.

    Example:
        >>> from prospect_lib.attributes import sample_group
        >>> sql = features_sql(sample_group, events="part", anchors="anchors")
        >>> print(reading_once(sql, "part", "SELECT * FROM events")[:34])
        WITH
        part AS MATERIALIZED (
        SELECT
    """
    materialized = dialect_of(dialect).materialized
    return f"WITH\n{name} AS {materialized}(\n{select}\n),\n{statement.removeprefix('WITH')[1:]}"


@dataclass(frozen=True)
class Compiler:
    """The parts of one statement; each attribute is in exactly one of them."""

    context: Context
    totals: RunningTotals
    windows: Windows
    lists: Lists

    @classmethod
    def of(cls, context: Context, only_counted: set[str]) -> "Compiler":
        """Assign each attribute to a part.

        Args:
            only_counted: names of lists of which only the number of values is needed.
        """
        totals, windows, lists = [], [], []
        for attribute in context.attributes:
            if _by_running_totals(context, attribute, only_counted):
                totals.append(attribute)
            elif attribute.aggregation in LISTS | RANKINGS:
                lists.append(attribute)
            else:
                windows.append(attribute)
        ranked = [a for a in lists if a.aggregation in RANKINGS]
        timelines = Windows(context, [*windows, *ranked])
        return cls(
            context, RunningTotals(context, totals), timelines, Lists(context, lists, timelines)
        )

    @property
    def parts(self) -> tuple[RunningTotals, Windows, Lists]:
        return self.totals, self.windows, self.lists

    def statement(self, columns: list[tuple[str, str]]) -> str:
        """Return the statement that selects the named expressions at every anchor."""
        context, sql = self.context, self.context.sql
        steps = [self._first_steps(), *(step for part in self.parts for step in part.steps())]
        return STATEMENT.format(
            steps=",\n".join(steps),
            columns=lines((f"{value} AS {sql.identifier(name)}" for name, value in columns), 2),
            key=context.key,
            anchor_ts=sql.identifier("anchor_ts"),
            joins="\n".join(join for part in self.parts if (join := part.join())),
        )

    def _first_steps(self) -> str:
        context, sql = self.context, self.context.sql
        return FIRST_STEPS.format(
            materialized=sql.materialized,
            anchors_once=sql.once(context.key),
            events_once=sql.once("visitor"),
            visitor_number=sql.visitor_number("visitor_key"),
            key=context.key,
            event_key=context.event_key,
            nobody=context.nobody,
            anchors=context.anchors,
            anchor_ts=sql.identifier("anchor_ts"),
            anchor_time=context.anchor_time,
            anchor_columns=sql.replaced(
                "a",
                {
                    context.key: sql.as_text(f"a.{context.key}"),
                    sql.identifier("anchor_ts"): sql.utc(context.anchor_ts),
                },
            ),
            ts=sql.utc(f"e.{sql.identifier('derived_tstamp')}"),
            values=lines(self._values()),
            events=context.events,
        )

    def _values(self) -> list[str]:
        """Each column of ``matched``, under a comment with the attributes that use it."""
        columns = []
        for expression, column in self.context.value_columns.items():
            users = [a.name for a in self.context.attributes if self.context.column(a) == column]
            columns.append(f"-- {', '.join(users)}\n    {expression} AS {column}")
        return columns

    def value(self, attribute: Attribute) -> str:
        """Return the attribute at the anchor, with its default if it has no value."""
        value, default = self._value_or_null(attribute), attribute.default_value
        if default is None:
            return value
        return f"COALESCE({value}, {self.context.sql.literal(default)})"

    def _value_or_null(self, attribute: Attribute) -> str:
        context, sql = self.context, self.context.sql
        part = next(part for part in reversed(self.parts) if attribute in part.attributes)
        value = part.value(attribute)
        if attribute.aggregation.startswith("time_since"):
            unit = float(SECONDS_IN[attribute.time_unit or "s"])
            return f"{sql.seconds_between(value, context.anchor_ts)} / {unit}"
        whole = attribute.type.startswith("int") and attribute.aggregation in _ROUNDED
        return sql.whole(value) if whole else value

    def feature(self, feature: Feature) -> str:
        """Return a feature at the anchor, by the rules of :mod:`prospect_lib.features`."""
        context = self.context
        if feature.attribute is None:
            return f"CAST({context.sql.date_part('day_of_week', context.anchor_ts)} AS INTEGER)"
        attribute = next(a for a in context.attributes if a.name == feature.attribute)
        if feature.rule == "length":
            return self._length(attribute)
        value = self.value(attribute)
        return f"COALESCE({value} <> 0, FALSE)" if feature.rule == "any" else value

    def _length(self, attribute: Attribute) -> str:
        if attribute not in self.totals.attributes:
            is_array = attribute.aggregation == "unique_list"
            return self.context.sql.size(self.value(attribute), is_array=is_array)
        count = self._value_or_null(attribute)
        count = f"CASE WHEN {count} > {MAX_VALUES} THEN {MAX_VALUES} ELSE {count} END"
        default = attribute.default_value
        return f"COALESCE({count}, {len(default)})" if isinstance(default, list) else count


def _by_running_totals(context: Context, attribute: Attribute, only_counted: set[str]) -> bool:
    """Whether running totals are enough: not for expiring counts, nor for the items of a list."""
    aggregation = attribute.aggregation
    if aggregation in LAST:
        return True
    if aggregation == "unique_list" and attribute.name not in only_counted:
        return False
    return aggregation in COUNTS | FIRST | DISTINCT and context.ttl(attribute) is None
