"""The collector as trackers and browsers see it, through a running sandbox."""

import gzip
import json
from uuid import uuid4

import requests
from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, Subject, Tracker

from prospect_lib.settings import Settings
from tests.support.sandbox import page_view


def test_the_real_python_tracker(running: Settings) -> None:
    emitter = Emitter(running.sandbox_url, batch_size=1)
    subject = Subject().set_platform("web").set_domain_user_id("py-visitor")
    tracker = Tracker("py", [emitter], app_id="website", subject=subject)
    tracker.track(PageView("https://s.example/pricing", "Pricing"))
    item = SelfDescribingJson("iglu:com.acme/item/jsonschema/1-0-0", {"price": 2})
    tracker.track(SelfDescribing(item))
    tracker.flush()
    rows = requests.get(f"{running.sandbox_url}/micro/good", timeout=5).json()
    tracked = [row["event"] for row in rows if row["event"].get("domain_userid") == "py-visitor"]
    assert {row["event_name"] for row in tracked} == {"page_view", "item"}
    [item_row] = [row for row in tracked if row["event_name"] == "item"]
    assert item_row["unstruct_event_com_acme_item_1"] == {"price": 2}


def test_a_bad_event_does_not_harm_its_neighbour_and_a_repeated_event_counts_once(
    running: Settings,
) -> None:
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


def test_events_without_a_visitor_are_stored(running: Settings) -> None:
    event = {"e": "pv", "eid": str(uuid4()), "p": "srv"}
    assert requests.get(f"{running.sandbox_url}/i", params=event, timeout=5).status_code == 200
    (latest,) = requests.get(f"{running.sandbox_url}/micro/good?limit=1", timeout=5).json()
    assert latest["event"]["event_id"] == event["eid"]


def test_the_collector_recognises_a_browser_by_its_cookie_unless_it_is_anonymous(
    running: Settings,
) -> None:
    with requests.Session() as browser:

        def known(**headers: str) -> str | None:
            address, event = f"{running.sandbox_url}/i", page_view()
            answer = browser.get(address, params=event, headers=headers, timeout=5)
            assert ("sp" in answer.cookies) == (not headers)
            (latest,) = browser.get(f"{running.sandbox_url}/micro/good?limit=1", timeout=5).json()
            network_userid: str | None = latest["event"].get("network_userid")
            return network_userid

        first = known()
        assert first == known() == browser.cookies["sp"]
        assert known(**{"SP-Anonymous": "*"}) is None
        browser.cookies.clear()
        browser.cookies.set("sp", "no UUID")
        assert known() not in (None, first, "no UUID")
