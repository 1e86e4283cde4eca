"""The browser client in Chromium, on a page of another origin, with the real server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page
from snowplow_signals import AttributeKey, domain_sessionid, user_id

from prospect_lib.attributes import prospect_group
from prospect_lib.server import Options, Server, Snippet, create_app
from prospect_lib.server.tunnel import open_tunnel
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.serving import COLD, DOWN, VISITOR, MemoryAttributes, Rule
from tests.support.waiting import wait_for

SCRIPT = Path(__file__).parents[2] / "prospect_lib" / "server" / "prospect.js"


@contextmanager
def shop() -> Iterator[str]:
    """A website on an origin of its own; every path is the same empty page."""

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
    """The shop's page, whose clock stands still, and the server that it calls."""

    page: Page
    server: Server
    attributes: MemoryAttributes
    console: list[str] = field(default_factory=list)

    def start(self, **options: object) -> None:
        """Call prospect.start with a tracker object; keep answers and errors in the page."""
        options = {"url": self.server.url, "every": 10, "after": 0, **options}
        self.page.evaluate(
            """(options) => {
                window.scores = []; window.errors = [];
                const tracker = {
                  getDomainUserId: () => options.visitor,
                  getDomainUserInfo: () => ["0", options.visitor, 1, 1, 1, 1, "session-1"],
                  getUserId: () => window.user,
                };
                window.prospect.start({ tracker, ...options,
                  onScore: (response) => scores.push(response),
                  onError: (error) => errors.push({ status: error.status, text: error.message }),
                });
            }""",
            {"visitor": VISITOR, **options},
        )

    def count(self, kind: str = "scores") -> int:
        """Return how many scores or errors there are."""
        return int(self.page.evaluate(f"{kind}.length"))

    def wait(self, number: int, kind: str = "scores") -> None:
        """Return when there are that many scores or errors."""
        for _ in range(1000):
            if self.count(kind) >= number:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{self.count(kind)} {kind}, expected {number}")

    def let_pass(self, seconds: float) -> None:
        """Move the page's clock, and let requests that became due reach the server."""
        self.page.clock.run_for(round(seconds * 1000))
        self.page.evaluate("fetch('/').then((answer) => answer.text())")

    def hide(self, hidden: bool) -> None:
        """Hide or show the tab."""
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
        attributes = MemoryAttributes()
        options = Options(origins=(site,), stale_seconds=0)
        with Server(create_app(Rule(), attributes, options=options), port=0) as server:
            page = browser.new_page()
            world = World(page, server, attributes)
            page.on("console", lambda message: world.console.append(message.text))
            page.clock.install(time=0)
            page.goto(f"{site}/")
            page.clock.pause_at(60_000)
            page.add_script_tag(url=f"{server.url}/prospect.js")
            yield world
            page.close()


def test_the_client_is_small():
    assert len(SCRIPT.read_bytes()) < 14_000


def test_a_page_view_requests_one_score_and_prints_it(world):
    world.start(on=["page_view"])
    world.let_pass(0.1)
    world.wait(1)
    (line,) = [text for text in world.console if text.startswith("Prediction")]
    assert line.startswith(f"Prediction:  {VISITOR}  -  0.6  -  {{")
    assert world.page.evaluate("scores[0].decision.act") is True
    world.let_pass(60)
    assert world.count() == 1


def test_the_interval_requests_a_score_again_and_again(world):
    world.start(on=["interval"], every=10)
    world.wait(1)
    for number in (2, 3, 4):
        world.let_pass(9.9)
        assert world.count() == number - 1
        world.let_pass(0.1)
        world.wait(number)


def test_a_page_change_of_a_single_page_application_requests_a_score(world):
    world.start(on=["page_view"])
    world.let_pass(0.1)
    world.wait(1)
    world.page.evaluate("history.pushState({}, '', '/pricing')")
    world.let_pass(0.5)
    world.wait(2)


def test_chosen_events_request_a_score(world):
    world.start(on=["focusin", "my-event"])
    world.let_pass(60)
    assert world.count() == 0
    world.page.evaluate("document.getElementById('i').focus()")
    world.let_pass(0.1)
    world.wait(1)
    world.page.evaluate("document.dispatchEvent(new Event('my-event'))")
    world.let_pass(0.1)
    world.wait(2)


def test_two_calls_at_once_share_one_request(world):
    world.start(on=[])
    score = world.page.evaluate(
        """async () => {
            const [one, two] = await Promise.all([prospect.score(), prospect.score()]);
            return one === two && one.score;
        }"""
    )
    assert score == 0.6
    assert world.count() == 1


@pytest.mark.parametrize("namespace", ["sp", None])
def test_the_visitor_is_found_through_the_global_function(world, namespace):
    world.page.evaluate(
        f"""() => {{
            const trackers = {{ sp: {{ getDomainUserId: () => "{VISITOR}" }} }};
            window.snowplow = (callback) => Promise.resolve().then(() => callback.call(trackers));
        }}"""
    )
    world.start(on=["page_view"], tracker=namespace)
    world.let_pass(0.1)
    world.wait(1)


@pytest.mark.parametrize("nobody", ["", None, "00000000-0000-0000-0000-000000000000"])
def test_while_nobody_is_known_nothing_is_requested_and_one_line_says_why(world, nobody):
    world.start(on=["interval"], every=10, visitor=nobody)
    world.let_pass(60)
    assert (world.count(), world.count("errors"), world.attributes.calls) == (0, 0, 0)
    (line,) = world.console
    assert "no domain_userid yet: tracking is anonymous" in line
    assert world.page.evaluate("prospect.score()") is None


@dataclass
class Keyed:
    """Attributes by another key, and whom they were read for."""

    key: str
    read_for: list[str] = field(default_factory=list)

    def read(self, identifier: str) -> dict[str, object]:
        self.read_for.append(identifier)
        return {self.key: identifier, **COLD}


@contextmanager
def keyed(world: World, key: AttributeKey) -> Iterator[Keyed]:
    """Let the page request scores from a server whose visitors have another key."""
    group = prospect_group.model_copy(update={"attribute_key": key})
    attributes = Keyed(str(key.name))
    options = Options(origins=(world.page.evaluate("location.origin"),))
    app = create_app(Rule(), attributes, options=options, problem=group)
    with Server(app, port=0) as server:
        world.server = server
        yield attributes


def test_a_user_is_scored_from_the_login_on(world):
    with keyed(world, user_id) as attributes:
        world.start(on=["interval"], every=10, key="user_id")
        world.let_pass(30)
        assert (world.count("errors"), attributes.read_for) == (0, [])
        assert ["nobody is signed in" in line for line in world.console] == [True]
        world.page.evaluate("window.user = 'grace@shop.example'")
        world.let_pass(10)
        world.wait(1)
        assert attributes.read_for == ["grace@shop.example"]


def test_a_session_is_scored_by_its_id_in_the_trackers_cookie(world):
    with keyed(world, domain_sessionid) as attributes:
        world.start(on=["interval"], key="domain_sessionid")
        world.wait(1)
    assert attributes.read_for == ["session-1"]


@pytest.mark.parametrize("code", ["17", "Promise.resolve('17')", "undefined"])
def test_the_page_names_the_identifier_of_another_key(world, code):
    with keyed(world, AttributeKey(name="customer_id")) as attributes:
        add_tracker(world.page)
        text = Snippet(world.server.url, key="customer_id", identifier=code).console()
        world.page.evaluate(f"() => {{ {text} }}")
        world.let_pass(1)
        if code == "undefined":
            assert "no customer_id yet" in world.console[-1]
        else:
            wait_for(lambda: attributes.read_for == ["17"])


def test_a_key_that_the_tracker_does_not_know_needs_an_identifier(world):
    started = "(async () => prospect.start({ url: '/', key: 'network_userid' }))()"
    assert "needs { id: () => <the visitor's network_userid> }" in refusal(world.page, started)
    assert (
        "write here where the page has its"
        in Snippet("http://x.example", key="network_userid").page()
    )


def test_a_hidden_tab_requests_nothing_until_it_is_shown(world):
    world.start(on=["interval"], every=10)
    world.wait(1)
    world.hide(True)
    world.let_pass(60)
    assert world.count() == 1
    world.hide(False)
    world.wait(2)
    world.let_pass(10)
    world.wait(3)


def test_errors_double_the_pause_and_an_answer_ends_it(world):
    world.attributes.error = DOWN
    world.start(on=["interval"], every=10)
    world.wait(1, "errors")
    assert world.page.evaluate("errors[0].status") == 503
    assert "cannot be reached" in world.page.evaluate("errors[0].text")
    for number, pause in ((2, 20), (3, 40), (4, 80)):
        world.let_pass(pause - 0.1)
        assert world.count("errors") == number - 1
        world.let_pass(0.1)
        world.wait(number, "errors")
    world.attributes.error = None
    assert world.page.evaluate("prospect.score().then((r) => r.score)") == 0.6
    world.let_pass(10)
    world.wait(2)


def test_the_header_retry_after_is_respected(world):
    world.attributes.error = DOWN
    world.start(on=["interval"], every=0.1)
    world.wait(1, "errors")
    world.let_pass(0.9)
    assert world.count("errors") == 1
    world.let_pass(0.2)
    world.wait(2, "errors")


def test_a_call_that_fails_returns_null(world):
    world.attributes.error = DOWN
    world.start(on=[])
    assert world.page.evaluate("prospect.score()") is None
    assert world.count("errors") == 1


def test_a_server_that_cannot_be_reached_is_an_error_without_status(world):
    world.start(on=["interval"], url="http://127.0.0.1:9")
    wait_for(lambda: world.let_pass(0.1) or world.count("errors"))
    assert world.page.evaluate("errors[0].status") is None


def test_after_stop_nothing_is_requested(world):
    world.start(on=["interval", "page_view", "click"], every=10)
    world.let_pass(0.1)
    world.wait(1)
    world.page.evaluate("prospect.stop()")
    world.page.evaluate("document.body.click()")
    world.page.evaluate("history.pushState({}, '', '/pricing')")
    world.let_pass(60)
    assert world.count() == 1
    assert "call prospect.start" in refusal(world.page, "prospect.score()")


def test_a_second_start_replaces_the_first(world):
    world.start(on=["interval"], every=10)
    world.wait(1)
    world.start(on=[])
    world.let_pass(60)
    assert world.count() == 0


def test_an_address_is_required(world):
    assert "needs { url" in refusal(world.page, "(async () => prospect.start({}))()")


def refusal(page: Page, code: str) -> str:
    return str(page.evaluate(f"{code}.then(() => '', (error) => error.message)"))


def test_a_page_of_another_origin_cannot_read_scores(world, browser):
    with shop() as elsewhere:
        page = browser.new_page()
        page.goto(elsewhere)
        page.add_script_tag(url=f"{world.server.url}/prospect.js")
        other = World(page, world.server, world.attributes)
        other.start(on=["interval"])
        other.wait(1, "errors")
        assert other.count() == 0
        assert page.evaluate("errors[0].text").endswith(f"start it with --origin {elsewhere}")
        page.close()
    assert world.attributes.calls == 0


def is_prediction(message: ConsoleMessage) -> bool:
    return message.text.startswith("Prediction")


def add_tracker(page: Page) -> None:
    """Give the page a tracker, and take the client away."""
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
    add_tracker(world.page)
    with open_tunnel(world.server, settings, ngrok_path=agent) as tunnel:
        with world.page.expect_console_message(is_prediction):
            world.page.evaluate(f"() => {{ {tunnel.snippet().console()} }}")
            world.let_pass(1)
        assert len([text for text in world.console if text.startswith("Prediction")]) == 1
        world.start(url=tunnel.url, token="wrong", on=["interval"])
        world.wait(1, "errors")
        assert world.page.evaluate("errors[0].status") == 401
        assert "does not accept the token of this page" in world.console[-1]
