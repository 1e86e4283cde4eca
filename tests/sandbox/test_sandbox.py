"""The sandbox as the real SDK and the real Python tracker see it, and what bad input does."""

import base64
import gzip
import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from snowplow_signals import AttributeKeyIdentifiers, InterventionInstance, SignalsSandbox
from snowplow_signals.api_client import SignalsAPIError
from snowplow_signals.models import WarehouseTable
from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, Subject, Tracker

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.sandbox.collector.enrichment import column_name, device_class, enrich
from prospect_lib.sandbox.collector.payloads import BadPayloadError
from prospect_lib.sandbox.simulation.traffic import conversion, scripted_visitor, send
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"


def page_view(**fields: str) -> dict[str, str]:
    return {"e": "pv", "eid": str(uuid4()), "duid": "u1", "aid": "website", **fields}


def publish(settings: Settings) -> SignalsSandbox:
    client = signals.connect(settings)
    client.publish([prospect_group, prospect_service])
    assert isinstance(client, SignalsSandbox)
    return client


# --- enrichment ------------------------------------------------------------------------------


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
    ("fields", "said"),
    [
        ({"e": "xx"}, "'e' is 'xx'"),
        ({"eid": "7"}, "'eid' is '7', expected a UUID"),
        ({"dtm": "soon"}, "'dtm' is 'soon', expected milliseconds"),
        ({"stm": "9" * 30}, "'stm'"),
        ({"vid": "many"}, "'vid' is 'many', expected a number"),
        ({"vid": "99999999999"}, "32-bit"),
        ({"e": "ue"}, "neither 'ue_pr' nor 'ue_px'"),
        ({"e": "ue", "ue_pr": "{"}, "is not JSON"),
        ({"e": "ue", "ue_pr": '{"data":{"schema":"x","data":{}}}'}, "schema 'x'"),
        ({"co": '{"data":5}'}, "list of entities"),
        ({"url": "http://[::1"}, "expected a URL"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, str], said: str) -> None:
    with pytest.raises(BadPayloadError) as caught:
        enrich(page_view(**fields), at=AT)
    assert said in str(caught.value)


def test_column_names_follow_the_loaders() -> None:
    assert (
        column_name("contexts", "nl.basjes", "yauaa_context", "1-0-4")
        == "contexts_nl_basjes_yauaa_context_1"
    )


# --- the SDK ---------------------------------------------------------------------------------


def test_publish_look_up_and_delete_with_the_sdk(running: Settings) -> None:
    client = publish(running)
    client.publish([prospect_group, prospect_service])  # again: 400, then PUT
    found = client.get_attribute_group(prospect_group.name)
    assert found.is_published and found.full_name == "prospect_scoring_tutorial_v1"
    assert [a.name for a in found.attributes or []] == [a.name for a in prospect_group.attributes]
    with pytest.raises(SignalsAPIError, match="still used by prospect_scoring_tutorial_service"):
        client.delete([prospect_group])
    client.unpublish([prospect_service, prospect_group])
    client.delete([prospect_service, prospect_group])
    with pytest.raises(SignalsAPIError, match="404"):
        client.get_attribute_group(prospect_group.name)


def test_live_attributes_follow_a_scripted_visit(running: Settings) -> None:
    client = publish(running)
    visitor, session = str(uuid4()), str(uuid4())
    cold = client.get_service_attributes(prospect_service.name, "domain_userid", visitor)
    assert all(value is None for name, value in cold.items() if name != "domain_userid")
    now = datetime.now(UTC) + timedelta(seconds=90)
    steps = [p for _, p in scripted_visitor(visitor, session, "https://s.example", start=now)]
    steps = [{**p, "ttm": str(int(datetime.now(UTC).timestamp() * 1000))} for p in steps]
    send(running.sandbox_url, steps)
    ttm = {"ttm": str(int(datetime.now(UTC).timestamp() * 1000))}
    send(
        running.sandbox_url, [{**conversion(visitor, session, "https://s.example", at=now), **ttm}]
    )
    warm = client.get_service_attributes(prospect_service.name, "domain_userid", visitor)
    assert warm["num_page_views_l7d"] == 7 and warm["num_pricing_views_l30d"] == 2
    assert warm["num_page_pings_l7d"] == 2 and warm["num_form_engagements_l7d"] == 2
    assert warm["num_media_events_l30d"] == 1 and warm["num_conversions_l7d"] == 1
    assert warm["num_sessions_l7d"] == [session] and warm["num_apps_l30d"] == ["website"]
    assert warm["latest_device_class"] == "Desktop" and warm["first_mkt_medium_l30d"] == "cpc"
    some = client.get_group_attributes(
        prospect_group.name, 1, ["num_page_views_l7d"], "domain_userid", visitor
    )
    assert some == {"domain_userid": visitor, "num_page_views_l7d": 7}
    tested = client.test(prospect_group, attribute_key_ids=[visitor])
    assert tested.loc[0, "num_page_views_l7d"] == 7
    assert visitor in set(client.test(prospect_group)["domain_userid"])


def test_values_begin_when_a_group_is_published(running: Settings) -> None:
    visitor = str(uuid4())
    long_ago = str(int((datetime.now(UTC) - timedelta(days=2)).timestamp() * 1000))
    send(running.sandbox_url, [page_view(duid=visitor, ttm=long_ago)])
    client = publish(running)

    def views() -> Any:
        found = client.get_service_attributes(prospect_service.name, "domain_userid", visitor)
        return found["num_page_views_l7d"]

    assert views() is None
    since = datetime.now(UTC) - timedelta(days=5)
    client.publish([prospect_group.model_copy(update={"backfill_since_tstamp": since})])
    assert views() == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("get-online-attributes", {}, 422),
        (
            "get-online-attributes",
            {"service": "no", "attribute_keys": {"domain_userid": ["u"]}},
            404,
        ),
        ("get-online-attributes", {"service": "s", "attribute_keys": {"k": ["u"] * 101}}, 422),
        ("registry/attribute_groups/", {"name": "?"}, 422),
        ("registry/unheard_of/", {}, 404),
        ("testing/attribute_groups/", {"window": "x"}, 422),
    ],
)
def test_bad_calls_of_the_api(
    running: Settings, path: str, body: dict[str, Any], status: int
) -> None:
    bearer = {"Authorization": f"Bearer {sandbox.token(running.home)}"}
    answer = requests.post(
        f"{running.sandbox_url}/api/v1/{path}", json=body, headers=bearer, timeout=5
    )
    assert answer.status_code == status and "detail" in answer.json()
    refused = requests.post(f"{running.sandbox_url}/api/v1/{path}", json=body, timeout=5)
    assert refused.status_code == 401


def test_interventions_are_pushed_and_pulled_with_the_sdk(running: Settings) -> None:
    client = signals.connect(running)
    targets = AttributeKeyIdentifiers(root={"domain_userid": ["pulled", "also"]})
    other = AttributeKeyIdentifiers(root={"domain_userid": ["another"]})
    sent = InterventionInstance(name="offer", version=2, attributes={"title": "Tea & Törtchen"})
    assert client.push_intervention(targets, sent) == "undelivered"
    with client.pull_interventions(targets) as subscription:
        until(lambda: client.push_intervention(targets, sent) == "success")
        assert subscription.get(timeout=5) == sent
        assert client.push_intervention(other, sent) == "undelivered"
    until(lambda: client.push_intervention(targets, sent) == "undelivered")  # it has left


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_unpublishing_freezes_values_and_publishing_begins_anew(running: Settings) -> None:
    client, visitor = publish(running), str(uuid4())
    other = prospect_group.model_copy(update={"name": "frozen"})

    def views() -> Any:
        name = ["num_page_views_l7d"]
        return client.get_group_attributes("frozen", 1, name, "domain_userid", visitor)[name[0]]

    client.publish([other])
    send(running.sandbox_url, [page_view(duid=visitor)])
    assert views() == 1
    for _ in range(2):  # the second changes nothing
        client.unpublish([other])
        send(running.sandbox_url, [page_view(duid=visitor)])
        assert views() == 1
    client.publish([other])
    assert views() is None
    client.unpublish([other])
    client.delete([other])


def test_versions_of_a_group_live_side_by_side(running: Settings) -> None:
    client = signals.connect(running)
    since = datetime.now(UTC) - timedelta(hours=1)
    first = prospect_group.model_copy(update={"backfill_since_tstamp": since})
    second = first.model_copy(update={"version": 2, "attributes": first.attributes[:1]})
    client.publish([first, second])
    assert client.get_attribute_group(prospect_group.name).version == 2
    assert len(client.get_attribute_group(prospect_group.name, 1).attributes or []) == 19
    names = [second.attributes[0].name]
    visitor = str(uuid4())
    send(running.sandbox_url, [page_view(duid=visitor)])
    for version in (1, 2):
        found = client.get_group_attributes(
            prospect_group.name, version, names, "domain_userid", visitor
        )
        assert found[names[0]] == "website"
    client.unpublish([second])
    client.delete([second])
    assert client.get_attribute_group(prospect_group.name).version == 1


def test_what_the_sandbox_does_not_have_is_said(running: Settings) -> None:
    client = signals.connect(running)
    with pytest.raises(SignalsAPIError, match="no GET event_log"):
        client.get_agentic_context("log", "session")
    with pytest.raises(SignalsAPIError, match="event_logs are not kept"):
        client.get_event_log("log")


def test_data_sets_are_refused_with_the_way_to_build_one(running: Settings) -> None:
    client = publish(running)
    with pytest.raises(SignalsAPIError, match=r"501.*prospect_lib\.training_set\.extract"):
        client.build_dataset_with_custom_anchors([prospect_group], WarehouseTable(table="mine"))
    with pytest.raises(SignalsAPIError, match=r"501.*prospect_lib\.training_set\.extract"):
        client.get_dataset_run_status(uuid4())
    address = f"{running.sandbox_url}/api/v1/datasets/sql"
    assert requests.post(address, json={}, timeout=5).status_code == 401  # without the token


# --- the collector ---------------------------------------------------------------------------


def test_the_real_python_tracker(running: Settings) -> None:
    emitter = Emitter(running.sandbox_url, batch_size=1)
    subject = Subject().set_platform("web").set_domain_user_id("py-visitor")
    tracker = Tracker("py", [emitter], app_id="website", subject=subject)
    tracker.track(PageView("https://s.example/pricing", "Pricing"))
    item = SelfDescribingJson("iglu:com.acme/item/jsonschema/1-0-0", {"price": 2})
    tracker.track(SelfDescribing(item))
    tracker.flush()
    rows = requests.get(f"{running.sandbox_url}/micro/good", timeout=5).json()
    mine = [row["event"] for row in rows if row["event"].get("domain_userid") == "py-visitor"]
    assert {row["event_name"] for row in mine} == {"page_view", "item"}
    assert next(r for r in mine if r["event_name"] == "item")["unstruct_event_com_acme_item_1"] == {
        "price": 2
    }


def test_a_bad_neighbour_does_no_harm_and_an_event_counts_once(running: Settings) -> None:
    before = requests.get(f"{running.sandbox_url}/micro/all", timeout=5).json()
    good = page_view()
    address = f"{running.sandbox_url}/com.snowplowanalytics.snowplow/tp2"
    for _ in range(2):
        body = gzip.compress(json.dumps({"data": [good, {"e": "?"}, 7]}).encode())
        answer = requests.post(address, data=body, headers={"Content-Encoding": "gzip"}, timeout=5)
        assert answer.status_code == 200
    after = requests.get(f"{running.sandbox_url}/micro/all", timeout=5).json()
    assert after["good"] - before["good"] == 1 and after["bad"] - before["bad"] == 4
    reasons = [
        row["reason"] for row in requests.get(f"{running.sandbox_url}/micro/bad", timeout=5).json()
    ]
    assert any("'e' is '?'" in reason for reason in reasons)


def test_browsers_of_any_origin_may_send(running: Settings) -> None:
    address = f"{running.sandbox_url}/com.snowplowanalytics.snowplow/tp2"
    answer = requests.options(address, headers={"Origin": "https://a.example"}, timeout=5)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    pixel = requests.get(f"{running.sandbox_url}/i", params=page_view(), timeout=5)
    assert pixel.headers["Content-Type"] == "image/gif"


def test_events_of_nobody_are_kept(running: Settings) -> None:
    event = {"e": "pv", "eid": str(uuid4()), "p": "srv"}
    assert requests.get(f"{running.sandbox_url}/i", params=event, timeout=5).status_code == 200
    (latest,) = requests.get(f"{running.sandbox_url}/micro/good?limit=1", timeout=5).json()
    assert latest["event"]["event_id"] == event["eid"]


def test_the_collector_knows_a_browser_by_its_cookie_unless_that_is_unwanted(
    running: Settings,
) -> None:
    with requests.Session() as browser:

        def known(**headers: str) -> str | None:
            address, event = f"{running.sandbox_url}/i", page_view()
            answer = browser.get(address, params=event, headers=headers, timeout=5)
            assert ("sp" in answer.cookies) == (not headers)
            (latest,) = browser.get(f"{running.sandbox_url}/micro/good?limit=1", timeout=5).json()
            found: str | None = latest["event"].get("network_userid")
            return found

        first = known()
        assert first == known() == browser.cookies["sp"]
        assert known(**{"SP-Anonymous": "*"}) is None
        browser.cookies.clear()
        browser.cookies.set("sp", "no UUID")
        assert known() not in (None, first, "no UUID")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["e", "eid", "data", "ue_pr", "url"]), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=ANY_JSON | st.binary(max_size=40))
def test_no_payload_makes_the_collector_fail(running: Settings, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps({"data": body}).encode()
    address = f"{running.sandbox_url}/com.snowplowanalytics.snowplow/tp2"
    assert requests.post(address, data=data, timeout=5).status_code == 200


# --- durability and starting -----------------------------------------------------------------


def test_other_processes_read_events_while_the_sandbox_writes(running: Settings) -> None:
    send(running.sandbox_url, [page_view(duid="reader")])
    warehouse = DuckDBWarehouse.over_home(running.home)
    rows = warehouse.query("SELECT * FROM events WHERE domain_userid = 'reader'").to_pylist()
    warehouse.close()
    assert len(rows) == 1 and isinstance(rows[0]["derived_tstamp"], datetime)


def test_a_port_in_use_by_something_else_is_named(home_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", home_settings.sandbox_port)):
        with pytest.raises(ServiceError, match=rf"port {home_settings.sandbox_port} is in use"):
            sandbox.ensure_running(home_settings)
        with pytest.raises(SettingsError, match="PROSPECT_PORT"):
            sandbox.serve(home_settings)


def test_a_home_that_is_a_file_is_refused(home_settings: Settings) -> None:
    home_settings.home.write_text("a file")
    with pytest.raises(SettingsError, match="Set PROSPECT_HOME"):
        sandbox.ensure_running(home_settings)


def test_ensure_running_reuses_stop_stops_and_reset_forgets(home_settings: Settings) -> None:
    sandbox.ensure_running(home_settings)
    pid = (home_settings.home / "sandbox.pid").read_text()
    sandbox.ensure_running(home_settings)
    assert (home_settings.home / "sandbox.pid").read_text() == pid
    publish(home_settings)
    sandbox.stop(home_settings)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{home_settings.sandbox_url}/health", timeout=2)
    assert (home_settings.home / "registry.json").exists()
    sandbox.reset(home_settings)
    assert not (home_settings.home / "registry.json").exists()
    sandbox.stop(home_settings)  # harmless
