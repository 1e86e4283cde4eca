"""Rule-based interventions: no model, a condition on the attributes that turns true.

The condition is looked at before and after each batch of a visitor's events, from the events
themselves. There is no state to lose: after a restart, and when a tracker sends an event
again, a rule that held before does not fire.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from snowplow_signals import AttributeGroup, RuleIntervention
from snowplow_signals.models import InterventionInstance

from prospect_lib.aggregation.criteria import COMPARISONS, like
from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import event_time
from prospect_lib.errors import DefinitionError
from prospect_lib.sandbox.signals_api.online_attributes import OnlineAttributes, span
from prospect_lib.sandbox.signals_api.registry import Registry, Stored
from prospect_lib.sandbox.signals_api.subscribers import Subscribers

_log = logging.getLogger(__name__)
Values = Mapping[str, Any]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    **COMPARISONS,
    "not like": lambda a, b: not like(str(b), str(a)),
    "rlike": lambda a, b: re.search(str(b), str(a)) is not None,
    "not rlike": lambda a, b: re.search(str(b), str(a)) is None,
    "in": lambda a, b: a in (b if isinstance(b, list) else [b]),
    "not in": lambda a, b: a not in (b if isinstance(b, list) else [b]),
}


class Rules:
    """Fires the published rules of the registry."""

    def __init__(
        self, registry: Registry, attributes: OnlineAttributes, subscribers: Subscribers
    ) -> None:
        self._registry, self._attributes, self._subscribers = registry, attributes, subscribers

    @contextmanager
    def watching(self, visitors: Iterable[str]) -> Iterator[None]:
        """Fire what turns true for these visitors by what happens inside."""
        stored = [
            rule for rule in self._registry.every("interventions") if rule.get("is_published")
        ]
        rules = [RuleIntervention.model_validate(rule) for rule in stored]
        before = {visitor: self._values(rules, visitor) for visitor in visitors if rules}
        yield
        for visitor, was in before.items():
            now = self._values(rules, visitor)
            for rule in rules:
                if holds(rule.criteria, now, was) and not holds(rule.criteria, was, was):
                    self._fire(rule, visitor, now)

    def _fire(self, rule: RuleIntervention, visitor: str, values: Values) -> None:
        payload = {link.name: link.version for link in rule.payload_attribute_groups or []}
        carried = {}
        for name, value in values.items():
            group, _, attribute = name.partition(":")
            stem, _, version = group.rpartition("_v")
            if value is not None and str(payload.get(stem)) == version:
                carried[attribute] = value if isinstance(value, str) else json.dumps(value)
        message = InterventionInstance(
            name=rule.name, version=rule.version or 1, attributes=carried
        )
        text = message.model_dump_json(exclude_none=True)
        self._subscribers.post(f"domain_userid={visitor}", text)

    def _values(self, rules: list[RuleIntervention], visitor: str) -> dict[str, Any]:
        """``group_v1:attribute`` -> value, for every group that a rule tests or carries."""
        found: dict[str, Any] = {}
        events, now = self._attributes.events(visitor), datetime.now(UTC)
        for full, stored in self._groups(rules).items():
            since, until = span(stored, now)
            group = AttributeGroup.model_validate(stored)
            kept = [event for event in events if event_time(event) >= since]
            try:
                values = attribute_values(group, kept, until)
            except DefinitionError as error:  # no reason to lose the events
                _log.warning("no rule on %s can fire: %s", full, error)
                continue
            found |= {f"{full}:{name}": value for name, value in values.items()}
        return found

    def _groups(self, rules: list[RuleIntervention]) -> dict[str, Stored]:
        names = {name.partition(":")[0] for rule in rules for name in names_in(rule.criteria)}
        carried = [link for rule in rules for link in rule.payload_attribute_groups or []]
        names |= {f"{link.name}_v{link.version}" for link in carried}
        found = {}
        for full in names:
            stem, _, version = full.rpartition("_v")
            versioned = (stem, int(version)) if version.isdecimal() else (full, None)
            stored = self._registry.get("attribute_groups", *versioned)
            if stored is not None:
                found[full] = stored
        return found


def names_in(criteria: Any) -> set[str]:
    """The ``group_v1:attribute`` names in criteria, however nested."""
    parts = [getattr(criteria, part, None) or [] for part in ("all", "any", "none")]
    own = {criteria.attribute} if hasattr(criteria, "attribute") else set()
    return own | {name for part in parts for each in part for name in names_in(each)}


def holds(criteria: Any, values: Values, before: Values) -> bool:
    """Whether criteria hold; ``before`` is what ``changed`` compares with."""
    for part, combine in (("all", all), ("any", any)):
        if hasattr(criteria, part):
            return combine(holds(each, values, before) for each in getattr(criteria, part))
    if hasattr(criteria, "none"):
        return not any(holds(each, values, before) for each in criteria.none)
    value = values.get(criteria.attribute)
    if criteria.operator in ("is null", "is not null"):
        return bool((value is None) == (criteria.operator == "is null"))
    if criteria.operator == "changed":
        return bool(value != before.get(criteria.attribute))
    return _compare(criteria.operator, value, criteria.value)


def _compare(operator: str, value: Any, wanted: Any) -> bool:
    """As in SQL, nothing compares with null; a list counts as how many it has."""
    if isinstance(value, list):
        value = len(value)
    if value is None or wanted is None:
        return False
    try:
        return _COMPARE[operator](value, wanted)
    except (TypeError, re.error):  # "<" of a text and a number, a pattern that is none
        return False
