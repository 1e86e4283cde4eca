"""The browser client in Chromium, on a page of another origin, against the real server."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from prospect_lib.server import Options, Server, create_app, snippet
from prospect_lib.server.tunnel import open_tunnel
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.serving import DOWN, VISITOR, Profiles, Rule

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SCRIPT = Path(__file__).parents[2] / "prospect_lib" / "server" / "prospect.js"

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and "CI" not in os.environ,
    reason=f"no Chromium at {CHROMIUM}: apt-get install chromium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def shop() -> Iterator[str]:
    """A website of its own origin: every address is the same empty page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>Shop</title><form><input id=i></form>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class World:
    """The shop's page, the server it asks, and what came of it."""

    page: Page
    server: Server
    profiles: Profiles
    console: list[str] = field(default_factory=list)

    def start(self, **options: object) -> None:
        """prospect.start with a tracker object, answers and errors kept in the page."""
        given = {"url": self.server.url, "every": 60, "after": 0, **options}
        self.page.evaluate(
            """(given) => {
                window.scores = []; window.errors = [];
                const tracker = { getDomainUserId: () => given.visitor };
                window.prospect.start({ tracker, ...given,
                  onScore: (response) => scores.push(response),
                  onError: (error) => errors.push({ status: error.status, text: error.message }),
                });
            }""",
            {"visitor": VISITOR, **given},
        )

    def count(self, what: str = "scores") -> int:
        return int(self.page.evaluate(f"{what}.length"))

    def wait(self, number: int, what: str = "scores") -> None:
        self.page.wait_for_function(f"{what}.length >= {number}", timeout=5000)

    def hide(self, hidden: bool) -> None:
        self.page.evaluate(
            """(hidden) => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )


@pytest.fixture
def world(browser: Browser) -> Iterator[World]:
    with shop() as site:
        profiles = Profiles()
        options = Options(origins=(site,), stale_seconds=0)
        with Server(create_app(Rule(), profiles, options=options), port=0) as server:
            page = browser.new_page()
            world = World(page, server, profiles)
            page.on("console", lambda message: world.console.append(message.text))
            page.goto(f"{site}/")
            page.add_script_tag(url=f"{server.url}/prospect.js")
            yield world
            page.close()


def test_it_is_small():
    assert len(SCRIPT.read_bytes()) < 8000


def test_it_asks_at_the_page_view_and_prints_the_line(world):
    world.start(on=["page_view"])
    world.wait(1)
    (line,) = [text for text in world.console if text.startswith("Prediction")]
    assert line.startswith(f"Prediction:  {VISITOR}  -  0.6  -  {{")
    assert world.page.evaluate("scores[0].decision.act") is True
    time.sleep(0.3)
    assert world.count() == 1


def test_it_asks_every_so_often(world):
    world.start(on=["interval"], every=0.2)
    start = time.monotonic()
    world.wait(5)
    assert time.monotonic() - start > 0.7


def test_it_asks_when_an_application_changes_the_page(world):
    world.start(on=["page_view"])
    world.wait(1)
    world.page.evaluate("history.pushState({}, '', '/pricing')")
    world.wait(2)


def test_it_asks_after_chosen_events(world):
    world.start(on=["focusin", "my-event"])
    assert world.count() == 0
    world.page.focus("#i")
    world.wait(1)
    world.page.evaluate("document.dispatchEvent(new Event('my-event'))")
    world.wait(2)


def test_it_asks_on_demand_and_shares_the_answer(world):
    world.start(on=[])
    same = world.page.evaluate(
        """async () => {
            const [one, two] = await Promise.all([prospect.score(), prospect.score()]);
            return one === two && one.score;
        }"""
    )
    assert same == 0.6
    assert world.count() == 1


@pytest.mark.parametrize("namespace", ["'sp'", "null"])
def test_it_finds_the_visitor_through_the_global_function(world, namespace):
    world.page.evaluate(
        f"""() => {{
            const trackers = {{ sp: {{ getDomainUserId: () => "{VISITOR}" }} }};
            window.snowplow = (callback) => setTimeout(() => callback.call(trackers), 20);
        }}"""
    )
    world.start(on=["page_view"], tracker=namespace.strip("'") if "sp" in namespace else None)
    world.wait(1)


@pytest.mark.parametrize(
    ("setup", "tracker", "says"),
    [
        ("", "sp", "no Snowplow tracker on this page"),
        ("window.snowplow = (f) => f.call({})", "sp", "no Snowplow tracker sp on this page"),
        ("window.snowplow = (f) => f.call({})", None, "no Snowplow tracker"),
        ("window.snowplow = (f) => f.call({sp: {getDomainUserId() {}}})", "sp", "no visitor id"),
    ],
)
def test_it_says_when_there_is_no_visitor(world, setup, tracker, says):
    world.page.evaluate(f"() => {{ {setup} }}")
    world.start(on=["page_view"], tracker=tracker)
    world.wait(1, "errors")
    assert says in world.page.evaluate("errors[0].text")


def test_a_hidden_tab_does_not_ask_and_asks_when_it_is_shown(world):
    world.start(on=["interval"], every=0.1)
    world.wait(2)
    world.hide(True)
    time.sleep(0.2)
    before = world.count()
    time.sleep(0.5)
    assert world.count() == before
    world.hide(False)
    world.wait(before + 2)


def test_it_backs_off_while_there_are_errors_and_recovers(world):
    world.profiles.error = DOWN
    world.start(on=["interval"], every=0.1)
    world.wait(1, "errors")
    time.sleep(1.5)
    assert world.count("errors") <= 3, "Retry-After says a second, and the pause doubles"
    assert world.page.evaluate("errors[0].status") == 503
    assert "cannot be reached" in world.page.evaluate("errors[0].text")
    world.profiles.error = None
    assert world.page.evaluate("prospect.score().then((r) => r.score)") == 0.6
    world.wait(3)


def test_a_failed_question_on_demand_gives_null(world):
    world.profiles.error = DOWN
    world.start(on=[])
    assert world.page.evaluate("prospect.score()") is None
    assert world.count("errors") == 1


def test_a_server_that_is_gone(world):
    world.start(on=["page_view"], url="http://127.0.0.1:9")
    world.wait(1, "errors")
    assert world.page.evaluate("errors[0].status") is None


def test_stop(world):
    world.start(on=["interval", "page_view", "click"], every=0.1)
    world.wait(1)
    world.page.evaluate("prospect.stop()")
    before = world.count()
    world.page.click("body")
    world.page.evaluate("history.pushState({}, '', '/pricing')")
    time.sleep(0.5)
    assert world.count() == before
    assert "call prospect.start" in refusal(world.page, "prospect.score()")


def test_starting_anew_replaces_the_first(world):
    world.start(on=["interval"], every=0.1)
    world.wait(1)
    world.start(on=[])
    time.sleep(0.4)
    assert world.count() == 0


def test_it_needs_an_address(world):
    assert "needs { url" in refusal(world.page, "(async () => prospect.start({}))()")


def refusal(page: Page, code: str) -> str:
    return str(page.evaluate(f"{code}.then(() => '', (error) => error.message)"))


def test_an_origin_that_is_not_allowed_cannot_read(world, browser):
    with shop() as elsewhere:
        page = browser.new_page()
        page.goto(elsewhere)
        page.add_script_tag(url=f"{world.server.url}/prospect.js")
        stranger = World(page, world.server, world.profiles)
        stranger.start(on=["page_view"])
        stranger.wait(1, "errors")
        assert stranger.count() == 0
        page.close()
    assert world.profiles.calls == 0


@pytest.mark.parametrize("pasted", [True, False], ids=["console", "bookmark"])
def test_a_page_that_does_not_include_the_client_can_ask_too(world, pasted):
    visitor_of_the_page(world.page)
    given = {"every": 60}
    line: Callable[[Any], bool] = lambda m: m.text.startswith("Prediction")  # noqa: E731
    with world.page.expect_console_message(line, timeout=5000) as printed:
        if pasted:
            world.page.evaluate(f"() => {{ {snippet.console(world.server.url, **given)} }}")
        else:
            address = snippet.bookmarklet(world.server.url, **given)
            world.page.evaluate("(address) => { location.href = address }", address)
    assert VISITOR in printed.value.text
    assert world.page.url.endswith("/"), "the page stays"


def visitor_of_the_page(page: Page) -> None:
    """A page with a tracker and without the client."""
    page.evaluate(
        f"""() => {{
            delete window.prospect;
            const trackers = {{ sp: {{ getDomainUserId: () => "{VISITOR}" }} }};
            window.snowplow = (callback) => callback.call(trackers);
        }}"""
    )


def test_the_tunnels_snippet_works_from_a_second_origin(world, tmp_path):
    agent = write_agent(tmp_path)
    settings = Settings(home=tmp_path / "home", values={"NGROK_TOKEN": "t"})
    visitor_of_the_page(world.page)
    predictions: Callable[[], list[str]] = lambda: [  # noqa: E731
        text for text in world.console if text.startswith("Prediction")
    ]
    with open_tunnel(world.server, settings, ngrok_path=agent) as tunnel:
        world.page.evaluate(f"() => {{ {tunnel.snippet()} }}")
        world.page.wait_for_event("console", lambda m: m.text.startswith("Prediction"))
        assert len(predictions()) == 1
        world.start(url=tunnel.url, token="wrong", on=["page_view"])
        world.wait(1, "errors")
        assert world.page.evaluate("errors[0].status") == 401
