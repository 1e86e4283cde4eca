"""What can be computed from the columns that the events have.

Example: ``Available.of(problem, ["domain_userid", "page_url", …]).left_out`` ->
``{"latest_device_class": ["contexts_nl_basjes_yauaa_context_1"]}``
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError
from prospect_lib.features import Feature
from prospect_lib.problem import ScoringProblem
from prospect_lib.warehouse.events import columns_of, missing_columns

#: Arguments of anchors that need a column, besides their events and criteria.
_COLUMN_OF = {
    "app_ids": "app_id",
    "excluded": "event_name",
    "every": "domain_sessionid",
    "per_session": "domain_sessionid",
}


@dataclass(frozen=True)
class Available:
    """The part of a problem's group whose columns the events have.

    Attributes:
        group: the attributes that can be computed.
        features: the features that can be computed, in order.
        left_out: the other attributes, with the columns that the events lack.
    """

    group: AttributeGroup
    features: tuple[Feature, ...]
    left_out: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, problem: ScoringProblem, columns: Sequence[str]) -> "Available":
        """Leave out the attributes whose columns the events lack.

        Raises:
            DataError: no attribute is left.
        """
        group = problem.group
        left_out = missing_columns(group, columns)
        attributes = [a for a in group.attributes or [] if a.name not in left_out]
        if not attributes:
            lacking = sorted({column for names in left_out.values() for column in names})
            raise DataError(
                f"no attribute of {group.name!r} can be computed: the events have no column "
                f"{', '.join(lacking)}. Add the columns, or use a group of other attributes."
            )
        if left_out:
            group = group.model_copy(update={"attributes": attributes})
        features = tuple(f for f in problem.features if f.attribute not in left_out)
        return cls(group, features, left_out)

    def notes(self) -> list[str]:
        """Return one sentence per attribute that is left out."""
        return [
            f"{name} is left out: the events have no column {', '.join(columns)}."
            for name, columns in self.left_out.items()
        ]


def key_columns(group: AttributeGroup) -> set[str]:
    """Return the columns of the events that hold the identifier."""
    (columns,) = columns_of(_group_of(_key_attribute(group))).values()
    return columns


def columns_of_anchors(anchors: Anchors) -> set[str]:
    """Return the columns of the events that rows and their labels need, besides key and time."""
    parts = columns_of(_group_of(anchors.goal_attribute, anchors.at_attribute)).values()
    arguments = {column for name, column in _COLUMN_OF.items() if getattr(anchors, name)}
    return arguments.union(*parts)


def refuse_missing_columns(anchors: Anchors, group: AttributeGroup, columns: Sequence[str]) -> None:
    """Raise DataError if the events lack a column that key, goal or anchors need."""
    parts = [_key_attribute(group), anchors.goal_attribute, anchors.at_attribute]
    missing = missing_columns(_group_of(*parts), columns)
    for argument, column in _COLUMN_OF.items():
        if getattr(anchors, argument) and column not in columns:
            missing[f"{argument} of the anchors"] = [column]
    if "derived_tstamp" not in columns:
        missing["every event"] = ["derived_tstamp"]
    if missing:
        needs = "; ".join(f"{part} needs {', '.join(names)}" for part, names in missing.items())
        raise DataError(
            f"the events lack columns: {needs}. Add the columns, or change the problem's anchors."
        )


def _key_attribute(group: AttributeGroup) -> Attribute:
    return Attribute.model_construct(
        name=f"the key {key_name(group)}",
        events=[],
        criteria=None,
        property=key_property(group),
    )


def _group_of(*attributes: Attribute) -> AttributeGroup:
    return AttributeGroup.model_construct(name="parts", attributes=list(attributes))
