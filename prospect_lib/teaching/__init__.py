"""What the notebooks share: the followed visitor, the exercises, a replay of past visits.

Example::

    ensure_prerequisites(settings)
    visitor = followed_visitor(warehouse)
    events = visitor_events(warehouse, visitor.identifier)
"""

from prospect_lib.teaching import exercises
from prospect_lib.teaching.experiment import experiment
from prospect_lib.teaching.replay import replay
from prospect_lib.teaching.series import (
    ensure_prerequisites,
    explain_missing_names,
    recent_events,
    series_picture,
)
from prospect_lib.teaching.visitor import (
    FollowedVisitor,
    followed_visitor,
    scripted_visit,
    steps_picture,
    visitor_events,
)

__all__ = [
    "FollowedVisitor",
    "ensure_prerequisites",
    "exercises",
    "experiment",
    "followed_visitor",
    "recent_events",
    "replay",
    "scripted_visit",
    "series_picture",
    "steps_picture",
    "visitor_events",
]

explain_missing_names()
