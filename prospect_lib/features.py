"""The model's features as functions of the attributes and the time of the score.

The rules are the same in training (:func:`prospect_lib.sql.compiler.features_sql`) and in serving
(:func:`from_attributes`): a list or an object becomes the number of its values; a count that is
stated to be a flag becomes whether it is at least one; every other attribute is a feature as it is;
``day_of_week`` (ISO, Monday is 1, UTC) is that of the score. ``None`` (no event matched) stays
``None``, but a flag becomes ``False``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.attributes import COUNTS_AS_FLAGS, prospect_group, tutorial_group
from prospect_lib.errors import DataError, wrong_type

Kind = Literal["number", "flag", "category"]


@dataclass(frozen=True)
class Feature:
    """One input of the model.

    Attributes:
        name: the column's name.
        kind: ``number`` (int or float), ``flag`` (bool) or ``category`` (text).
        attribute: the attribute it is made from; ``None`` if it is made from the time.
        rule: how it is made: ``as_is``, ``length``, ``any`` (at least one) or ``day_of_week``.
    """

    name: str
    kind: Kind
    attribute: str | None
    rule: Literal["as_is", "length", "any", "day_of_week"] = "as_is"

    def value(self, attributes: Mapping[str, Any], at: datetime) -> Any:
        """Return the feature from attribute values and the time of the score, an aware datetime.

        Raises:
            DataError: the value is no number, where it is counted, or has no length.
        """
        if self.attribute is None:
            return at.astimezone(UTC).isoweekday()
        value = attributes[self.attribute]
        if self.rule == "any":
            if not isinstance(value, int | float | None):
                raise wrong_type(f"attribute {self.attribute}", value, "a number")
            return bool(value)
        if self.rule == "length" and value is not None:
            if not isinstance(value, list | dict):
                raise wrong_type(f"attribute {self.attribute}", value, "a list")
            return len(value)
        return value


def features_of(
    group: AttributeGroup, flags: Mapping[str, str] | None = None
) -> tuple[Feature, ...]:
    """Return the features of a model of this group, in order, ``day_of_week`` last.

    Args:
        group: the attributes.
        flags: the counts that become flags: attribute -> name of the feature; by default those of
            the catalogue's groups, and none for another one.
    """
    if flags is None:
        catalogue = (prospect_group.name, tutorial_group.name)
        flags = COUNTS_AS_FLAGS if group.name in catalogue else {}
    features = [_feature(attribute, flags) for attribute in group.attributes or []]
    return (*features, Feature("day_of_week", "number", None, "day_of_week"))


def _feature(attribute: Attribute, flags: Mapping[str, str]) -> Feature:
    name = attribute.name
    if name in flags:
        return Feature(flags[name], "flag", name, "any")
    if attribute.aggregation in ("unique_list", "category_count"):
        return Feature(name, "number", name, "length")
    kinds: dict[str, Kind] = {"string": "category", "bool": "flag"}
    return Feature(name, kinds.get(attribute.type, "number"), name)


#: The 24 features of the prospect model, in order.
FEATURES = features_of(prospect_group)


def is_unknown(values: Mapping[str, Any], key: str) -> bool:
    """Return whether nothing is known of a visitor: no attribute but the key has a value.

    Null, zero, false and what is empty are no values; Signals may answer with any of them.

    >>> is_unknown({"domain_userid": "u", "num_page_views_l7d": 0, "num_apps_l7d": []}, \
    "domain_userid")
    True
    """
    return not any(value for name, value in values.items() if name != key)


def from_attributes(
    values: Mapping[str, Any], at: datetime, features: Sequence[Feature] = FEATURES
) -> dict[str, Any]:
    """Return the features by name, from attribute values as Signals returns them.

    Raises:
        DataError: an attribute is missing from ``values`` (``None`` is a value), or ``at`` has no
            time zone.

    Example: ``{"num_apps_l7d": ["website"], ...}`` -> ``{"num_apps_l7d": 1, ...}``.
    """
    if at.tzinfo is None:
        raise DataError(f"at={at!r} has no time zone; pass an aware datetime such as UTC.")
    missing = [f.attribute for f in features if f.attribute and f.attribute not in values]
    if missing:
        raise DataError(
            f"attributes missing from the service's response: {', '.join(missing)}. Publish the "
            "group and the service again, or train a model on the attributes that it returns."
        )
    return {feature.name: feature.value(values, at) for feature in features}
