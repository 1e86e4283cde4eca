"""A scoring problem: which visitors of this website will reach the goal within the hour?

Change the parts below, then check them against your events:

    python -m prospect_lib train --data events.parquet --problem THIS_FILE

`docs/your_site.md` explains each part. The objects are those of Snowplow Signals' own Python SDK.
"""

from datetime import timedelta

from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    Event,
    Service,
    StreamAttributeGroup,
    domain_userid,
)

from prospect_lib import Anchors, ScoringProblem

# EVENTS IN THE DATA

WEEK, MONTH = timedelta(days=7), timedelta(days=30)

# --- events: a name, a vendor, a version; what is left out matches any ------------------------

page_view = Event(name="page_view")
goal = Event(name="submit_form")

# --- attributes: whom they are about, and for each: which events count, over which period, and how
# they become one value ---------------------------------------------------------------------------

group = StreamAttributeGroup(
    name="my_site",
    version=1,  # a published version never changes: count up when you change an attribute
    attribute_key=domain_userid,  # or user_id, network_userid, domain_sessionid, AttributeKey(...)
    owner="you@example.com",  # published as SP_OWNER, where that is set
    ttl=MONTH,
    attributes=[
        Attribute(
            name="num_page_views_l7d",
            type="int64",
            events=[page_view],
            aggregation="counter",
            period=WEEK,
        ),
        Attribute(
            name="num_pricing_views_l30d",
            type="int64",
            events=[page_view],
            aggregation="counter",
            # `%` stands for any characters; see also Criterion.eq, .gt, .in_list, .is_null ...
            criteria=Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%pricing%")]),
            period=MONTH,
        ),
        Attribute(
            name="num_sessions_l30d",
            type="string_list",
            events=[page_view],
            aggregation="unique_list",  # the model's feature is how many values the list has
            property=AtomicProperty(name="domain_sessionid"),
            period=MONTH,
        ),
        Attribute(
            name="first_mkt_medium_l30d",
            type="string",
            events=[page_view],
            aggregation="first",
            property=AtomicProperty(name="mkt_medium"),
            period=MONTH,
        ),
        Attribute(
            name="num_conversions_l30d",
            type="int64",
            events=[goal],
            aggregation="counter",
            period=MONTH,
        ),
    ],
)

problem = ScoringProblem(
    name="my_site",
    group=group,
    service=Service(name="my_site_service", owner="you@example.com", attribute_groups=[group]),
    # A training row is a moment at which you would ask for a score. Here: at every page view; the
    # row is positive if the goal follows within the horizon.
    anchors=Anchors(
        at=[page_view],
        goal=[goal],
        horizon=timedelta(hours=1),
        # app_ids=["website"],  # only visitors whose first event has one of these
    ),
    # Counts of which only "none, or at least one" matters: attribute -> name of the feature.
    flags={"num_conversions_l30d": "had_conversions_l30d"},
    # Features that may raise the score when they grow, and never lower it.
    never_lower=["num_pricing_views_l30d"],
)
