"""The causes of values that were served and would be different in training.

:mod:`prospect_lib.monitoring.hypotheses` lists what may have gone wrong in one audit, and
:mod:`prospect_lib.monitoring.search` tests it.
"""

LATE, FRESHNESS, DEFINITION = "late events", "freshness", "definition"
HISTORY, EVENT_TYPE, VALUES = "not backfilled", "event type", "renamed value"
PROPERTY, COUNTED_TWICE, WINDOW = "empty property", "duplicates", "window length"
FILTER, DAY, FROZEN = "filter", "missing day", "frozen values"
CLOCK, UNEXPLAINED = "clock", "not known"
#: Each cause of a mismatch, and what to do about it. Of two that explain equally many values the
#: first is named.
CAUSES = {
    LATE: "Events happened before the score and arrived after it: trackers send late, or the "
    "collector is busy. Nothing to do unless the share grows; then train on what had arrived.",
    FRESHNESS: "Signals, or the server's cache, was some seconds behind. Request the score a "
    "moment after the event, or lower Options(fresh_seconds=).",
    DEFINITION: "The attributes were served under a different definition. Publish the group "
    "again, or train a model on the definition that is served.",
    HISTORY: "These visitors have events from before Signals began to count. Publish the group "
    "with backfill_since_tstamp, or train only on events since it was published.",
    EVENT_TYPE: "One side has no events of a type. Check the tracker, the failed events and the "
    "loader; train without the attributes that count them until both sides have them.",
    DAY: "One side has no events of a day. Load that day again, or leave it out of training.",
    FILTER: "One side leaves out some visitors, such as robots. Filter both sides alike: add the "
    "criterion to the attributes, or the condition to the events that are trained on.",
    PROPERTY: "One side has no values of a property. Check its enrichment or its schema's version.",
    VALUES: "One side knows a value by another name, such as a renamed page. Change the criterion "
    "or the property's values so that both sides agree, publish the group and train again.",
    COUNTED_TWICE: "One side counts events twice. Remove duplicates by event_id.",
    WINDOW: "Signals counts over another length of time than training. Publish the group again, or "
    "train on the period that is served.",
    FROZEN: "Signals' values stopped changing. Check that its stream runs and that nothing "
    "caches them for longer than Options(fresh_seconds=).",
    CLOCK: "The scoring times are all wrong by the same amount. Set the server's clock (NTP), "
    "and score in UTC.",
    UNEXPLAINED: "No known cause explains them. Look at the examples.",
}
#: Causes that a correct system has in small numbers.
EXPECTED_CAUSES = (LATE, FRESHNESS)
