"""Purchase propensity: will the rest of this session bring a purchase?

The question of Snowplow's purchase-propensity tutorial
(https://docs.snowplow.io/tutorials/signals-ml-purchase-propensity/): every event of a session
before its first purchase is a row, and at most five negatives are kept for each positive.
"""

from snowplow_signals import (
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

OWNER = "propensity@example.com"
ECOMMERCE = "com.snowplowanalytics.snowplow.ecommerce"

page_view = Event(name="page_view")
action = Event(vendor=ECOMMERCE, name="snowplow_ecommerce_action")
kind = EventProperty(
    vendor=ECOMMERCE, name="snowplow_ecommerce_action", major_version=1, path="type"
)


def count(name: str, action_type: str) -> Attribute:
    """Return a count of one kind of ecommerce action in the session."""
    return Attribute(
        name=name,
        type="int64",
        events=[action],
        aggregation="counter",
        criteria=Criteria(all=[Criterion.eq(kind, action_type)]),
    )


group = StreamAttributeGroup(
    name="purchase_propensity",
    attribute_key=domain_sessionid,
    owner=OWNER,
    attributes=[
        Attribute(name="num_page_views", type="int64", events=[page_view], aggregation="counter"),
        count("num_product_views", "product_view"),
        count("num_cart_additions", "add_to_cart"),
        count("num_cart_removals", "remove_from_cart"),
        count("num_checkout_steps", "checkout_step"),
        Attribute(
            name="seconds_since_first_event",
            type="double",
            events=[],
            aggregation="time_since_first",
            time_unit="s",
        ),
    ],
)

problem = ScoringProblem(
    name="propensity",
    group=group,
    service=Service(name="propensity_service", owner=OWNER, attribute_groups=[group]),
    anchors=Anchors(
        at=[Event()],
        goal=[action],
        goal_criteria=Criteria(all=[Criterion.eq(kind, "transaction")]),
        horizon="session",
        until_goal=True,
        negatives_per_positive=5,
    ),
    decision="offer_discount",
)
