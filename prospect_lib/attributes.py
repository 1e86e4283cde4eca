"""The catalogue: 23 attributes of a visitor, their attribute group and their service.

These are plain ``snowplow_signals`` objects. The training set's SQL, the live values, the model's
features and the server's checks are all derived from them: to add an attribute, add one
``Attribute`` here, write the next ``version`` of the group, publish and train again.

The first nineteen, ``tutorial_group``, are those of Snowplow's "real-time prospect scoring"
tutorial (https://docs.snowplow.io/tutorials/signals-ml-prospect-scoring/). They know a visitor's
weeks; four more see this visit: the open page, the first one, how many pages in the last hour, and
how many of those that people look at who compare and decide.
"""

from datetime import timedelta
from typing import Literal

from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    EntityProperty,
    Event,
    Service,
    StreamAttributeGroup,
    domain_userid,
)

SNOWPLOW = "com.snowplowanalytics.snowplow"
OWNER = "prospect-scoring@example.com"
WEEK, MONTH = timedelta(days=7), timedelta(days=30)
HOUR = timedelta(hours=1)


def _snowplow_event(name: str) -> Event:
    return Event(vendor=SNOWPLOW, name=name, version="1-0-0")


PAGE_VIEW = _snowplow_event("page_view")
PAGE_PING = _snowplow_event("page_ping")
FOCUS_FORM = _snowplow_event("focus_form")
CHANGE_FORM = _snowplow_event("change_form")
SUBMIT_FORM = _snowplow_event("submit_form")
ANY_MEDIA_EVENT = Event(vendor=f"{SNOWPLOW}.media")

_PERIODS = {"l7d": WEEK, "l30d": MONTH}


def _counter(
    name: str, events: list[Event], period: timedelta, criteria: Criteria | None = None
) -> Attribute:
    return Attribute(
        name=name,
        type="int64",
        events=events,
        aggregation="counter",
        criteria=criteria,
        period=period,
    )


def _page_view_value(
    name: str,
    aggregation: Literal["first", "last", "unique_list"],
    prop: AtomicProperty | EntityProperty,
    period: timedelta | None = None,
) -> Attribute:
    return Attribute(
        name=name,
        type="string_list" if aggregation == "unique_list" else "string",
        events=[PAGE_VIEW],
        aggregation=aggregation,
        property=prop,
        period=period,
        ttl=None if period else MONTH,
    )


_DEVICE_CLASS = EntityProperty(
    vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass"
)


def _url_contains(text: str) -> Criteria:
    return Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), f"%{text}%")])


def _weekly_and_monthly() -> list[Attribute]:
    """The counts over 7 and over 30 days, in the catalogue's order."""
    page_view, pricing = [PAGE_VIEW], _url_contains("pricing")
    session, app = AtomicProperty(name="domain_sessionid"), AtomicProperty(name="app_id")
    rows: list[list[Attribute]] = []
    for label, period in _PERIODS.items():
        rows.append(
            [
                _page_view_value(f"num_sessions_{label}", "unique_list", session, period),
                _page_view_value(f"num_apps_{label}", "unique_list", app, period),
                _counter(f"num_page_views_{label}", page_view, period),
                _counter(f"num_page_pings_{label}", [PAGE_PING], period),
                _counter(f"num_pricing_views_{label}", page_view, period, pricing),
                _counter(f"num_conversions_{label}", [SUBMIT_FORM], period),
            ]
        )
    return [attribute for pair in zip(*rows, strict=True) for attribute in pair]


_TUTORIAL = [
    _page_view_value("latest_app_id", "last", AtomicProperty(name="app_id")),
    _page_view_value("latest_device_class", "last", _DEVICE_CLASS),
    *_weekly_and_monthly(),
    _counter("num_form_engagements_l7d", [FOCUS_FORM, CHANGE_FORM], WEEK),
    _counter("num_media_events_l30d", [ANY_MEDIA_EVENT], MONTH),
    _page_view_value("first_refr_medium_l30d", "first", AtomicProperty(name="refr_medium"), MONTH),
    _page_view_value("first_mkt_medium_l30d", "first", AtomicProperty(name="mkt_medium"), MONTH),
    _page_view_value(
        "num_engaged_campaigns_l30d", "unique_list", AtomicProperty(name="mkt_campaign"), MONTH
    ),
]
#: The pages of those who compare and decide.
KEY_PAGES = ["/pricing", "/customers", "/videos", "/demo"]
_PAGE = AtomicProperty(name="page_urlpath")
_THIS_VISIT = [
    _page_view_value("last_page_path", "last", _PAGE),
    _page_view_value("first_page_path_l1h", "first", _PAGE, HOUR),
    _counter("num_page_views_l1h", [PAGE_VIEW], HOUR),
    _counter(
        "num_key_page_views_l1h",
        [PAGE_VIEW],
        HOUR,
        Criteria(all=[Criterion.in_list(_PAGE, KEY_PAGES)]),
    ),
]


def _group(name: str, *attributes: Attribute) -> StreamAttributeGroup:
    return StreamAttributeGroup(
        name=name,
        version=1,
        attribute_key=domain_userid,
        owner=OWNER,
        description="What a visitor of the marketing website did over up to 30 days.",
        ttl=MONTH,
        attributes=[*attributes],
    )


#: The nineteen attributes of Snowplow's tutorial.
tutorial_group = _group("prospect_lib_tutorial", *_TUTORIAL)
#: The nineteen, and the four that see this visit.
prospect_group = _group("prospect_lib_visitor", *_TUTORIAL, *_THIS_VISIT)


def _service(name: str, group: StreamAttributeGroup) -> Service:
    return Service(
        name=name,
        owner=OWNER,
        description="The attributes that the prospect model scores.",
        attribute_groups=[group],
    )


tutorial_service = _service("prospect_lib_tutorial_service", tutorial_group)
prospect_service = _service("prospect_lib_service", prospect_group)

#: The catalogue's counts that become flags: the attribute, and the name of the feature.
COUNTS_AS_FLAGS = {f"num_conversions_{label}": f"had_conversions_{label}" for label in _PERIODS}
#: The catalogue's features that never lower the score when they grow, by knowledge of the business.
NEVER_LOWER = (
    "num_pricing_views_l7d",
    "num_pricing_views_l30d",
    "num_media_events_l30d",
    "num_form_engagements_l7d",
)

#: The three attributes that Snowplow's published sample of events can support.
sample_group = StreamAttributeGroup(
    name="prospect_lib_sample",
    version=1,
    attribute_key=domain_userid,
    owner=OWNER,
    description="Lifetime page-view counts, for the published sample of events.",
    attributes=[
        Attribute(
            name=name,
            type="int64",
            events=[PAGE_VIEW],
            aggregation="counter",
            criteria=criteria,
        )
        for name, criteria in {
            "num_page_views": None,
            "num_pricing_views": _url_contains("pricing"),
            "num_customers_views": _url_contains("customers"),
        }.items()
    ],
)
