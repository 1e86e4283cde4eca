"""Enrichment: a tracker's payload becomes the row that Snowplow stores."""

import base64
import json
from datetime import UTC, datetime

import pytest
from snowplow_signals import EventProperty

from prospect_lib.aggregation.properties import property_text
from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.collector.enrichment import device_class, enrich
from prospect_lib.sandbox.collector.payloads import BadPayloadError
from tests.support.sandbox import page_view

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"


def test_a_page_view_becomes_the_row_that_snowplow_would_store() -> None:
    eid = "6b86b273-ff34-4ce1-9d6b-804eff5a3f57"
    payload = page_view(
        eid=eid, tv="js-4.10.1", tna="sp", p="web", sid="s1", vid="3", page="Pricing",
        dtm="1767606000000", stm="1767606001000", res="1440x900", lang="en",
        url="https://shop.example/pricing?utm_medium=cpc&utm_campaign=spring#plans",
        refr="https://www.google.com/search",
    )  # fmt: skip
    assert enrich(payload, at=AT, user_agent=CHROME) == {
        "event": "page_view",
        "event_vendor": "com.snowplowanalytics.snowplow",
        "event_name": "page_view",
        "event_format": "jsonschema",
        "event_version": "1-0-0",
        "event_id": eid,
        "collector_tstamp": "2026-01-05T10:00:00.000000Z",
        "derived_tstamp": "2026-01-05T09:59:59.000000Z",
        "dvce_created_tstamp": "2026-01-05T09:40:00.000000Z",
        "dvce_sent_tstamp": "2026-01-05T09:40:01.000000Z",
        "platform": "web",
        "app_id": "website",
        "name_tracker": "sp",
        "v_tracker": "js-4.10.1",
        "domain_userid": "u1",
        "domain_sessionid": "s1",
        "domain_sessionidx": 3,
        "page_title": "Pricing",
        "page_url": payload["url"],
        "page_referrer": "https://www.google.com/search",
        "br_lang": "en",
        "dvce_screenwidth": 1440,
        "dvce_screenheight": 900,
        "page_urlscheme": "https",
        "page_urlhost": "shop.example",
        "page_urlport": 443,
        "page_urlpath": "/pricing",
        "page_urlquery": "utm_medium=cpc&utm_campaign=spring",
        "page_urlfragment": "plans",
        "mkt_medium": "cpc",
        "mkt_campaign": "spring",
        "refr_urlscheme": "https",
        "refr_urlhost": "www.google.com",
        "refr_urlport": 443,
        "refr_urlpath": "/search",
        "refr_medium": "search",
        "refr_source": "www.google.com",
        "useragent": CHROME,
        "contexts_nl_basjes_yauaa_context_1": [{"deviceClass": "Desktop"}],
    }


@pytest.mark.parametrize("encoded", [False, True])
def test_self_describing_events_and_entities_are_read_in_both_encodings(encoded: bool) -> None:
    event = {
        "schema": "s",
        "data": {"schema": "iglu:com.acme/addToCart/jsonschema/2-0-1", "data": {"n": 1}},
    }
    entities = {
        "schema": "s",
        "data": [{"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"a": "é"}}],
    }
    pack = (
        (lambda v: base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip("="))
        if encoded
        else json.dumps
    )
    names = ("ue_px", "cx") if encoded else ("ue_pr", "co")
    payload = page_view(e="ue", **dict(zip(names, (pack(event), pack(entities)), strict=True)))
    row = enrich(payload, at=AT)
    assert (row["event_vendor"], row["event_name"], row["event_version"]) == (
        "com.acme",
        "addToCart",
        "2-0-1",
    )
    assert row["unstruct_event_com_acme_add_to_cart_2"] == {"n": 1}
    assert row["contexts_com_acme_user_1"] == [{"a": "é"}]


@pytest.mark.parametrize(
    ("referrer", "medium"),
    [
        ("https://shop.example/", "internal"),
        ("https://duckduckgo.com/", "search"),
        ("https://www.linkedin.com/feed", "social"),
        ("https://mail.example.com/", "email"),
        ("https://news.example.org/", "unknown"),
        ("", None),
    ],
)
def test_referrer_medium(referrer: str, medium: str | None) -> None:
    row = enrich(page_view(url="https://shop.example/x", refr=referrer), at=AT)
    assert row.get("refr_medium") == medium


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (CHROME, "Desktop"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile Safari/604.1", "Phone"),
        ("Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140.0 Mobile Safari/537.36", "Phone"),
        ("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) Safari/604.1", "Tablet"),
        ("Googlebot/2.1 (+http://www.google.com/bot.html)", "Robot"),
        ("", "Unknown"),
    ],
)
def test_device_class(agent: str, expected: str) -> None:
    assert device_class(agent) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"e": "xx"}, "'e' is 'xx'"),
        ({"eid": "7"}, "'eid' is '7', expected a UUID"),
        ({"dtm": "soon"}, "'dtm' is 'soon', expected milliseconds"),
        ({"stm": "9" * 30}, "'stm'"),
        ({"vid": "many"}, "'vid' is 'many', expected a number"),
        ({"vid": "99999999999"}, "32-bit"),
        ({"e": "ue"}, "neither field 'ue_pr' nor 'ue_px'"),
        ({"e": "ue", "ue_pr": "{"}, "is not JSON"),
        ({"e": "ue", "ue_pr": '{"data":{"schema":"x","data":{}}}'}, "schema 'x'"),
        ({"co": '{"data":5}'}, "list of entities"),
        ({"url": "http://[::1"}, "expected a URL"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, str], message: str) -> None:
    with pytest.raises(BadPayloadError) as caught:
        enrich(page_view(**fields), at=AT)
    assert message in str(caught.value)


def test_columns_of_events_and_entities_are_those_that_attributes_read() -> None:
    data = {"schema": "iglu:com.acmeCorp/signUp/jsonschema/1-0-3", "data": {"plan": "free"}}
    outer = {"schema": f"iglu:{SNOWPLOW}/unstruct_event/jsonschema/1-0-0", "data": data}
    row = enrich(page_view(e="ue", ue_pr=json.dumps(outer)), at=AT)
    plan = EventProperty(vendor="com.acmeCorp", name="signUp", major_version=1, path="plan")
    assert row["unstruct_event_com_acmecorp_sign_up_1"] == {"plan": "free"}
    assert property_text(plan, row) == "free"


def test_an_event_sent_before_it_was_created_happened_when_it_arrived() -> None:
    """Some trackers cut the time of sending to whole seconds."""
    row = enrich(page_view(dtm="1767607200700", stm="1767607200000"), at=AT)
    assert row["derived_tstamp"] == row["collector_tstamp"]
