"""Golden rows: events of the real trackers are stored as Snowplow stores them.

``golden/*.json`` contains one complete row per kind of event. Values that differ from run to run
are replaced by ``<id>``, ``<moment>``, ``<number>`` and ``<port>``, and are checked against the
tracker's own payloads.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from playwright.sync_api import Page, Request
from snowplow_tracker import (
    Emitter,
    PagePing,
    PageView,
    ScreenView,
    SelfDescribing,
    SelfDescribingJson,
    StructuredEvent,
    Subject,
    Tracker,
)

from prospect_lib.settings import Settings
from tests.support.chromium import chromium

GOLDEN = Path(__file__).parent / "golden"
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)
TYPED = {"name": "Ada Lovelace", "email": "ada@example.com", "company": "Analytical"}
SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"
UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOMENT_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
MEASURED = {"doc_height", "currentTime"}  # by the browser's layout and clock
#: Fields of a media session that are left out while they are zero, for some milliseconds.
FLEETING = {"timePaused", "timePlayed", "contentWatched", "avgPlaybackRate"}
BROWSER = [
    "page_view", "page_ping", "link_click", "event", "play_event", "pause_event", "focus_form",
    "change_form", "submit_form",
]  # fmt: skip
PYTHON = ["page_view", "page_ping", "event", "screen_view", "item"]


@dataclass(frozen=True)
class Sent:
    """The payloads of a tracker and the rows that were stored, by event id."""

    payloads: dict[str, dict[str, str]]
    rows: dict[str, dict[str, Any]]

    def first(self, name: str) -> dict[str, Any]:
        """The earliest row of an event's name."""
        return next(row for row in self.rows.values() if row["event_name"] == name)


def settled(value: Any, name: str = "") -> Any:
    """The value with placeholders for what differs from run to run."""
    if isinstance(value, dict):
        return {key: settled(inner, key) for key, inner in value.items() if key not in FLEETING}
    if isinstance(value, list):
        return [settled(inner) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        local = name == "page_urlport" and value != 443
        return "<port>" if local else "<number>" if name in MEASURED else value
    if not isinstance(value, str):
        return value
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:<port>", value)
    return MOMENT_TEXT.sub("<moment>", UUID_TEXT.sub("<id>", text))


def stored(settings: Settings, app: str) -> dict[str, dict[str, Any]]:
    """The rows of an app, oldest first."""
    filters = {"app_id": app}
    answer = requests.post(f"{settings.sandbox_url}/micro/good", json=filters, timeout=5)
    return {one["event"]["event_id"]: one["event"] for one in reversed(answer.json())}


def golden(name: str) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return rows


# --- the browser's tracker -------------------------------------------------------------------


@pytest.fixture(scope="module")
def browsed(running: Settings) -> Iterator[Sent]:
    """A visit with every kind of event."""
    payloads: dict[str, dict[str, str]] = {}

    def hear(request: Request) -> None:
        if request.url.endswith("/tp2") and request.post_data:
            payloads.update({one["eid"]: one for one in json.loads(request.post_data)["data"]})

    # set for the whole browser: a request sent while a page is left ignores the page's settings
    with chromium(f"--user-agent={CHROME}") as browser:
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="Europe/Paris"
        )
        page = context.new_page()
        page.on("request", hear)
        visit(page, running.sandbox_url)
    yield Sent(payloads, stored(running, "website"))


def visit(page: Page, site: str) -> None:
    def waits_for(what: str, action: Callable[[], object]) -> None:
        with page.expect_response(lambda r: what in (r.request.post_data or "")):
            action()

    def call(function: str, *arguments: object) -> None:
        page.evaluate(f"snowplowBrowserTracking.{function}(...{json.dumps(arguments)})")

    campaign = "utm_source=news&utm_medium=email&utm_campaign=spring&utm_content=a&utm_term=bread"
    start = f"{site}/?{campaign}#top"
    waits_for('"e":"pv"', lambda: page.goto(start, referer="https://www.google.com/search?q=x"))
    waits_for('"e":"pv"', lambda: page.goto(f"{site}/videos"))
    call("enableActivityTracking", {"minimumVisitLength": 1, "heartbeatDelay": 1})
    call("trackPageView")
    film = page.locator("video")
    waits_for("play_event", lambda: film.evaluate("film => film.play()"))
    waits_for('"e":"pp"', lambda: page.mouse.wheel(0, 200))
    waits_for("pause_event", lambda: film.evaluate("film => film.pause()"))
    link = {"schema": f"{SNOWPLOW}/link_click/jsonschema/1-0-1", "data": LINK}
    waits_for("link_click", lambda: call("trackSelfDescribingEvent", {"event": link}))
    shop = {"category": "shop", "action": "add", "label": "bread", "property": "n", "value": 2.5}
    waits_for('"e":"se"', lambda: call("trackStructEvent", shop))
    waits_for('"e":"pv"', lambda: page.goto(f"{site}/demo"))
    for name, text in TYPED.items():
        page.locator(f"#{name}").fill(text)
    page.get_by_label("How many shops?").select_option("6 to 20")
    page.get_by_role("button", name="Request a demo").click()
    page.wait_for_url("**/thank-you")
    waits_for('"e":"pv"', lambda: page.reload())


LINK = {"targetUrl": "https://s.example/order", "elementId": "go", "elementClasses": ["big"]}


@pytest.mark.parametrize("name", BROWSER)
def test_rows_of_the_browser_tracker(browsed: Sent, name: str) -> None:
    assert settled(browsed.first(name)) == golden("browser")[name]


def test_ids_and_times_are_those_that_the_browser_sent(browsed: Sent) -> None:
    assert set(browsed.rows) <= set(browsed.payloads) and len(browsed.rows) >= 15
    assert not set(browsed.payloads) - set(browsed.rows)
    assert len({row["network_userid"] for row in browsed.rows.values()}) == 1
    for identifier, row in browsed.rows.items():
        sent = browsed.payloads[identifier]
        assert row["domain_userid"] == sent["duid"] == str(UUID(sent["duid"]))
        assert (row["domain_sessionid"], row["domain_sessionidx"]) == (sent["sid"], 1)
        assert f"{row['doc_width']}x{row['doc_height']}" == sent["ds"]
        assert row["page_url"] == sent["url"] and f":{row['page_urlport']}/" in sent["url"]
        created, sent_at = (moment_of(sent[name]) for name in ("dtm", "stm"))
        assert at(row, "dvce_created_tstamp") == created
        assert at(row, "dvce_sent_tstamp") >= created
        assert at(row, "derived_tstamp") == at(row, "collector_tstamp") - (
            at(row, "dvce_sent_tstamp") - created
        )
        assert sent_at >= created and abs(datetime.now(UTC) - created) < timedelta(minutes=5)


def test_no_row_contains_typed_text(browsed: Sent) -> None:
    text = json.dumps(browsed.rows)
    assert '"***"' in text
    for typed in (*TYPED.values(), "6 to 20"):
        assert typed not in text


def moment_of(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def at(row: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(row[name])


# --- the Python tracker ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked(running: Settings) -> Sent:
    """Every kind of event of the Python tracker, in its own encoding."""
    payloads: dict[str, dict[str, str]] = {}

    class Heard(Emitter):
        def input(self, payload: dict[str, str]) -> None:
            payloads[payload["eid"]] = payload
            super().input(payload)

    subject = Subject().set_platform("srv").set_domain_user_id("py-visitor").set_user_id("u-7")
    subject.set_domain_session_id("py-session").set_domain_session_index(3)
    subject.set_lang("de").set_timezone("Europe/Berlin").set_color_depth(24)
    subject.set_screen_resolution(1920, 1080).set_viewport(800, 600).set_useragent(CHROME)
    emitter = Heard(running.sandbox_url, batch_size=1)
    tracker = Tracker("py", [emitter], app_id="backend", subject=subject)
    shop = SelfDescribingJson("iglu:com.acme/shop/jsonschema/1-0-2", {"city": "Zürich"})
    item = SelfDescribingJson("iglu:com.acme/item/jsonschema/2-0-0", {"price": 2, "tags": ["a"]})
    page = "https://s.example/pricing?utm_campaign=spring"
    true = int(datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp() * 1000)
    for event in (
        PageView(page, "Pricing", "https://s.example/", event_subject=subject),
        PagePing(page, "Pricing", min_y=0, max_y=640),
        StructuredEvent("shop", "add", "bread", "size", 2.5),
        ScreenView("6b86b273-ff34-4ce1-9d6b-804eff5a3f57", "Orders"),
        SelfDescribing(item, context=[shop], true_timestamp=true),
    ):
        tracker.track(event)
    tracker.flush()
    return Sent(payloads, stored(running, "backend"))


@pytest.mark.parametrize("name", PYTHON)
def test_rows_of_the_python_tracker(tracked: Sent, name: str) -> None:
    assert settled(tracked.first(name)) == golden("python")[name]


def test_what_the_python_tracker_encodes_is_what_is_stored(tracked: Sent) -> None:
    row = tracked.first("item")
    sent = tracked.payloads[row["event_id"]]
    event = json.loads(decoded(sent["ue_px"]))
    assert event["data"]["data"] == row["unstruct_event_com_acme_item_2"]
    (entity,) = json.loads(decoded(sent["cx"]))["data"]
    assert [entity["data"]] == row["contexts_com_acme_shop_1"] == [{"city": "Zürich"}]
    assert row["derived_tstamp"] == row["true_tstamp"] == "2026-01-05T10:00:00.000000Z"


def decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "==").decode()
