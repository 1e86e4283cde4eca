"""Which moments of which visitors become training rows, and how each is labelled.

Example: ``Anchors(horizon=timedelta(hours=2)).sql(events="events")`` -> a SELECT.
"""

from prospect_lib.anchors.arguments import SESSION, Horizon
from prospect_lib.anchors.placement import SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors
from prospect_lib.attributes import HOUR

__all__ = ["HOUR", "SESSION", "SITE_ANCHORS", "TUTORIAL_ANCHORS", "Anchors", "Horizon"]
