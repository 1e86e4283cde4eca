"""Whose fault it may be: event types that one side of the audit never saw."""

from collections import defaultdict

import pandas as pd
from snowplow_signals import AttributeGroup, Event


def missing_events(group: AttributeGroup, unexplained: pd.DataFrame) -> list[str]:
    """Event types whose loss explains every mismatch that nothing else does, in words.

    The fewest types that all attributes in question share, and which side has less.

    Args:
        unexplained: ``attribute``, ``served`` and ``rebuilt`` of each mismatch.
    """
    found: list[str] = []
    known = _by_events(group)
    hit = {t for t, names in known.items() if unexplained["attribute"].isin(names).any()}
    if len(hit) == len(known) > 1:
        return ["Every attribute differs for some visitors: look at the examples of those first."]
    for types, attributes in known.items():
        theirs = unexplained[unexplained["attribute"].isin(attributes)]
        if theirs.empty:
            continue
        more = _size(theirs["served"]) > _size(theirs["rebuilt"])
        lacking = "the warehouse lacks" if more.mean() > 0.5 else "Signals did not count"
        found.append(
            f"Dropped event type: {lacking} events {' / '.join(types)} "
            f"({len(theirs):,} values of {', '.join(sorted(set(theirs['attribute'])))})."
        )
    return found


def _by_events(group: AttributeGroup) -> dict[tuple[str, ...], list[str]]:
    """Attributes by the events that they count."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for attribute in group.attributes or []:
        found[tuple(_name(event) for event in attribute.events)].append(attribute.name)
    return found


def _name(event: Event) -> str:
    return event.name or f"of {event.vendor or 'any vendor'}"


def _size(values: "pd.Series[str]") -> "pd.Series[float]":
    """Counts as they are; lists by their items; texts as one; nothing as none."""
    numbers = pd.to_numeric(values, errors="coerce")
    texts = values.fillna("").astype(str)
    items = texts.str.count(",") + (texts != "").astype(float)
    return numbers.astype(float).fillna(items)
