"""docs/website.md on a page of another origin: real Chromium, tracker, plugin and sandbox."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from prospect_lib import signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.website.routes import BUNDLE, CDN, WEBSITE
from prospect_lib.server import Options, Server, Snippet, create_app
from prospect_lib.settings import Settings
from tests.support.foreign_site import ForeignSite, bundle, foreign_site, tracked
from tests.support.serving import Rule
from tests.support.waiting import wait_for

PLUGIN = "@snowplow/signals-browser-plugin"
TEXT = (Path(__file__).parents[1] / "docs" / "website.md").read_text(encoding="utf-8")
(BANNER,) = re.findall(r"^```html\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site() -> Iterator[ForeignSite]:
    with foreign_site() as site:
        yield site


def test_the_page_names_the_plugin_that_the_website_installs() -> None:
    (version,) = json.loads((WEBSITE / "package.json").read_text())["devDependencies"].values()
    assert f"{CDN}/{PLUGIN}@{version}/{BUNDLE}" in BANNER


def test_a_page_of_another_origin_is_scored_and_shows_the_invitation(
    running: Settings, site: ForeignSite, browser: Browser
) -> None:
    signals.connect(running).publish([prospect_group, prospect_service])
    options = Options(origins=(f"http://localhost:{site.port}",), threshold=0.0, served_days=0)
    app = create_app(Rule(), signals.reader(running), running, options=options)
    with Server(app, port=0) as server, browser.new_context() as context:
        tag = tracked(
            "snowplow",
            f'"newTracker", "sp", "{running.sandbox_url}", {{cookieSecure: false}}',
            '"trackPageView"',
        )
        banner = BANNER.replace("http://127.0.0.1:9090", running.sandbox_url)
        page = context.new_page()
        page.route(f"{CDN}/{PLUGIN}@*/**", lambda route: route.fulfill(body=bundle(PLUGIN)))
        with page.expect_console_message(lambda message: message.text.startswith("Prediction")):
            page.goto(site.page(f"<h1>Shop</h1>{tag}{banner}{Snippet(server.url, every=1).page()}"))
        invitation = page.get_by_role("status")
        expect(invitation).to_contain_text("Pick a time", timeout=30_000)
        page.get_by_role("button", name="Close the invitation").click()
        expect(invitation).to_have_count(0)
        wait_for(lambda: "intervention_handle" in names(running))


@pytest.mark.parametrize(
    "options",
    [
        'postPath: "/com.acme/track"',
        'eventMethod: "get", anonymousTracking: {withServerAnonymisation: true}',
    ],
)
def test_the_sandbox_takes_the_events_of_a_page_of_another_origin(
    running: Settings, site: ForeignSite, browser: Browser, options: str
) -> None:
    requests.post(f"{running.sandbox_url}/micro/reset", timeout=5)
    tracker = f'"newTracker", "sp", "{running.sandbox_url}", {{cookieSecure: false, {options}}}'
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(site.page(tracked("snowplow", tracker, '"trackPageView"')))
        wait_for(lambda: names(running) == ["page_view"])


def names(running: Settings) -> list[str]:
    """Return the names of the events that the sandbox stored."""
    rows = requests.get(f"{running.sandbox_url}/micro/good", timeout=5).json()
    return [row["event"]["event_name"] for row in rows]
