"""Rule-based interventions: pushed when a condition on attributes becomes true.

The condition is evaluated before and after each batch of a visitor's events, from the stored
events. No other state is needed: after a restart, and when a tracker sends an event again, a
rule that held before does not fire.
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from snowplow_signals import AttributeGroup, RuleIntervention
from snowplow_signals.models import InterventionInstance

from prospect_lib.aggregation.criteria import COMPARISONS, like
from prospect_lib.aggregation.keys import identifier
from prospect_lib.errors import DefinitionError
from prospect_lib.sandbox.events import Row
from prospect_lib.sandbox.home import Clock
from prospect_lib.sandbox.signals_api.online_attributes import OnlineAttributes, span
from prospect_lib.sandbox.signals_api.registry import Registry, Stored, group_of, name_and_version
from prospect_lib.sandbox.signals_api.subscribers import Subscribers

_log = logging.getLogger(__name__)
Values = Mapping[str, Any]
Groups = dict[str, tuple[Stored, AttributeGroup]]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    **COMPARISONS,
    "not like": lambda a, b: not like(str(b), str(a)),
    "rlike": lambda a, b: re.search(str(b), str(a)) is not None,
    "not rlike": lambda a, b: re.search(str(b), str(a)) is None,
    "in": lambda a, b: a in (b if isinstance(b, list) else [b]),
    "not in": lambda a, b: a not in (b if isinstance(b, list) else [b]),
}


class Rules:
    """Push interventions of the registry's published rules."""

    def __init__(
        self,
        registry: Registry,
        attributes: OnlineAttributes,
        subscribers: Subscribers,
        clock: Clock,
    ) -> None:
        self._registry, self._attributes, self._subscribers = registry, attributes, subscribers
        self._clock = clock

    @contextmanager
    def watching(self, rows: Iterable[Row]) -> Iterator[None]:
        """Push the interventions whose conditions become true in the block, which stores events.

        Args:
            rows: the events, each of which may be about one visitor per attribute key.
        """
        stored = [
            rule for rule in self._registry.every("interventions") if rule.get("is_published")
        ]
        rules = [RuleIntervention.model_validate(rule) for rule in stored]
        groups = self._groups(rules)
        by_key: dict[str, Groups] = defaultdict(dict)
        for full_name, (known, group) in groups.items():
            by_key[str(group.attribute_key.name)][full_name] = known, group
        before = {
            (key, visitor): self._values(by_key[key], visitor)
            for key, visitor in _visitors(by_key, rows)
        }
        yield
        for (key, visitor), old in before.items():
            new = self._values(by_key[key], visitor)
            for rule in rules:
                keyed = _tested(rule) <= by_key[key].keys()
                if keyed and holds(rule.criteria, new, old) and not holds(rule.criteria, old, old):
                    self._push(rule, f"{key}={visitor}", new)

    def _push(self, rule: RuleIntervention, target: str, values: Values) -> None:
        payload = {link.name: link.version for link in rule.payload_attribute_groups or []}
        attributes = {}
        for qualified_name, value in values.items():
            group, _, attribute = qualified_name.partition(":")
            name, _, version = group.rpartition("_v")
            if value is not None and str(payload.get(name)) == version:
                attributes[attribute] = value if isinstance(value, str) else json.dumps(value)
        message = InterventionInstance(
            name=rule.name, version=rule.version or 1, attributes=attributes
        )
        text = message.model_dump_json(exclude_none=True)
        self._subscribers.post(target, text)

    def _values(self, groups: Groups, visitor: str) -> dict[str, Any]:
        """Return the values of groups that have one attribute key, by ``group_v1:attribute``."""
        result: dict[str, Any] = {}
        now = self._clock()
        for full_name, (stored, group) in groups.items():
            since, until = span(stored, now)
            try:
                values = self._attributes.values(group, visitor, until, since)
            except DefinitionError as error:  # the events must be stored all the same
                _log.warning("rules on %s cannot be evaluated: %s", full_name, error)
                continue
            result |= {f"{full_name}:{name}": value for name, value in values.items()}
        return result

    def _groups(self, rules: list[RuleIntervention]) -> Groups:
        """Return the groups that rules test or carry, by ``group_v1``."""
        names = {name for rule in rules for name in _tested(rule)}
        carried = [link for rule in rules for link in rule.payload_attribute_groups or []]
        names |= {f"{link.name}_v{link.version}" for link in carried}
        groups = {}
        for full_name in names:
            name, version = name_and_version(full_name)
            named = (full_name, None) if version < 0 else (name, version)  # the latest version
            stored = self._registry.get("attribute_groups", *named)
            if stored is not None:
                groups[full_name] = stored, group_of(stored, self._registry)
        return groups


def _tested(rule: RuleIntervention) -> set[str]:
    """Return the groups in a rule's criteria, as ``group_v1``."""
    return {name.partition(":")[0] for name in names_in(rule.criteria)}


def _visitors(by_key: Mapping[str, Groups], rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Return whom events are about: attribute keys and identifiers."""
    one_of_key = {key: next(iter(groups.values()))[1] for key, groups in by_key.items()}
    return {
        (key, visitor)
        for row in rows
        for key, group in one_of_key.items()
        if (visitor := identifier(group, row)) is not None
    }


def names_in(criteria: Any) -> set[str]:
    """Return the ``group_v1:attribute`` names in nested criteria."""
    parts = [getattr(criteria, part, None) or [] for part in ("all", "any", "none")]
    own = {criteria.attribute} if hasattr(criteria, "attribute") else set()
    return own | {name for part in parts for each in part for name in names_in(each)}


def holds(criteria: Any, values: Values, before: Values) -> bool:
    """Return whether criteria hold for values; ``changed`` compares them with ``before``."""
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


def _compare(operator: str, value: Any, operand: Any) -> bool:
    """Compare as SQL does: never true with null. A list is compared by its length."""
    if isinstance(value, list):
        value = len(value)
    if value is None or operand is None:
        return False
    try:
        return _COMPARE[operator](value, operand)
    except (TypeError, re.error):  # "<" of a text and a number, an invalid pattern
        return False
