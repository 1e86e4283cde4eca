"""A shop whose customers sign in: will this customer order within two hours?"""

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
    user_id,
)

from prospect_lib import Anchors, ScoringProblem

OWNER = "shop@example.com"
DAY = timedelta(days=1)

page_view = Event(name="page_view", vendor="com.snowplowanalytics.snowplow")
product_view = Event(name="product_view", vendor="com.acme.shop", version="1-0-0")
transaction = Event(name="transaction", vendor="com.acme.shop", version="1-0-0")
price = EventProperty(vendor="com.acme.shop", name="product_view", major_version=1, path="price")

group = StreamAttributeGroup(
    name="shop",
    attribute_key=user_id,
    owner=OWNER,
    ttl=30 * DAY,
    attributes=[
        # names that our own statements use as well
        Attribute(
            name="visitor",
            type="int64",
            events=[page_view],
            aggregation="counter",
            period=7 * DAY,
        ),
        Attribute(
            name="num_products_viewed_l1d",
            type="int64",
            events=[product_view],
            aggregation="counter",
            period=DAY,
        ),
        Attribute(
            name="highest_price_l7d",
            type="double",
            events=[product_view],
            aggregation="max",
            property=price,
            period=7 * DAY,
        ),
        Attribute(
            name="num_basket_views_l1d",
            type="int64",
            events=[page_view],
            aggregation="counter",
            criteria=Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%/basket%")]),
            period=DAY,
        ),
        Attribute(
            name="campaigns_l30d",
            type="string_list",
            events=[page_view],
            aggregation="unique_list",
            property=AtomicProperty(name="mkt_campaign"),
            period=30 * DAY,
        ),
        Attribute(
            name="num_orders_l30d",
            type="int64",
            events=[transaction],
            aggregation="counter",
            period=30 * DAY,
        ),
        Attribute(
            name="device",
            type="string",
            events=[page_view],
            aggregation="last",
            property=AtomicProperty(name="dvce_type"),
        ),
    ],
)

problem = ScoringProblem(
    name="shop",
    group=group,
    service=Service(name="shop_service", owner=OWNER, attribute_groups=[group]),
    anchors=Anchors(at=[page_view, product_view], goal=[transaction], horizon=timedelta(hours=2)),
    flags={"num_orders_l30d": "has_ordered_l30d"},
    decision="offer_help",
)
