"""The model's features as functions of the attributes and the scoring moment.

The rules, in one place for training (:meth:`Feature.sql`) and serving
(:func:`from_attributes`): a list or a map of values becomes how many there are; a
``num_conversions_*`` count becomes the flag ``had_conversions_*``; every other attribute
is a feature as it is; ``day_of_week`` (ISO, Monday 1, UTC) is that of the scoring moment.
``None`` (nothing matched) stays ``None``; only a flag says no.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError

Kind = Literal["number", "flag", "category"]


@dataclass(frozen=True)
class Feature:
    """One input of the model.

    Attributes:
        name: the column's name.
        kind: ``number`` (int or float), ``flag`` (bool) or ``category`` (text).
        attribute: the attribute it is made from; ``None`` for the scoring moment's own.
        rule: how: ``as_is``, ``length``, ``any`` (at least one) or ``day_of_week``.
    """

    name: str
    kind: Kind
    attribute: str | None
    rule: Literal["as_is", "length", "any", "day_of_week"] = "as_is"

    def value(self, attributes: Mapping[str, Any], at: datetime) -> Any:
        """The feature from attribute values and the aware scoring moment ``at``."""
        if self.attribute is None:
            return at.astimezone(UTC).isoweekday()
        value = attributes[self.attribute]
        if self.rule == "any":
            return bool(value)
        return len(value) if self.rule == "length" and value is not None else value


def features_of(group: AttributeGroup) -> tuple[Feature, ...]:
    """The features that a model of this group takes, in order, ``day_of_week`` last."""
    made = [_feature(attribute) for attribute in group.attributes or []]
    return (*made, Feature("day_of_week", "number", None, "day_of_week"))


def _feature(attribute: Attribute) -> Feature:
    name = attribute.name
    if attribute.aggregation in ("unique_list", "category_count"):
        return Feature(name, "number", name, "length")
    if name.startswith("num_conversions_"):
        return Feature(name.replace("num_", "had_", 1), "flag", name, "any")
    kinds: dict[str, Kind] = {"string": "category", "bool": "flag"}
    return Feature(name, kinds.get(attribute.type, "number"), name)


#: The 20 features of the prospect model, in their order.
FEATURES = features_of(prospect_group)


def from_attributes(
    values: Mapping[str, Any], at: datetime, features: Sequence[Feature] = FEATURES
) -> dict[str, Any]:
    """Features by name, from attribute values as Signals gives them.

    Raises:
        DataError: an attribute is not in ``values`` at all (``None`` is a value), or ``at``
            has no time zone.

    Example: ``{"num_apps_l7d": ["website"], ...}`` -> ``{"num_apps_l7d": 1, ...}``.
    """
    if at.tzinfo is None:
        raise DataError(f"at={at!r} has no time zone; pass an aware datetime such as UTC.")
    missing = [f.attribute for f in features if f.attribute and f.attribute not in values]
    if missing:
        raise DataError(
            f"attributes missing from the service's answer: {', '.join(missing)}. Publish the "
            "group and the service again, or train a model on the attributes there are."
        )
    return {feature.name: feature.value(values, at) for feature in features}
