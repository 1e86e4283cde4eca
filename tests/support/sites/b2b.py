"""A site for companies: will this session ask for a demo within half an hour?"""

from datetime import timedelta

from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    Event,
    EventProperty,
    Service,
    StreamAttributeGroup,
    domain_sessionid,
)

from prospect_lib import Anchors, ScoringProblem

OWNER = "b2b@example.com"

page_view = Event(name="page_view")
demo = Event(name="requestDemo", vendor="com.acmeCorp")
section = EventProperty(
    vendor="com.acmeCorp", name="readSection", major_version=1, path="sectionName"
)

group = StreamAttributeGroup(
    name="b2b_sessions",
    attribute_key=domain_sessionid,
    owner=OWNER,
    ttl=timedelta(days=1),
    attributes=[
        Attribute(name="num_page_views", type="int64", events=[page_view], aggregation="counter"),
        Attribute(
            name="num_prices_read",
            type="int64",
            events=[Event(vendor="com.acmeCorp", name="readSection")],
            aggregation="counter",
            criteria=Criteria(all=[Criterion.eq(section, "prices")]),
        ),
        Attribute(
            name="last_section",
            type="string",
            events=[Event(vendor="com.acmeCorp", name="readSection")],
            aggregation="last",
            property=section,
        ),
        Attribute(
            name="first_page",
            type="string",
            events=[page_view],
            aggregation="first",
            property=AtomicProperty(name="page_urlpath"),
        ),
        Attribute(
            name="time_since_first_page",
            type="double",
            events=[page_view],
            aggregation="time_since_first",
            time_unit="min",
        ),
    ],
)

problem = ScoringProblem(
    name="b2b",
    group=group,
    service=Service(name="b2b_service", owner=OWNER, attribute_groups=[group]),
    anchors=Anchors(
        at=[page_view, Event(vendor="com.acmeCorp", name="readSection")],
        goal=[demo],
        horizon=timedelta(minutes=30),
        until_goal=True,
    ),
)
