"""The browser client on pages of somebody else: real Chromium, Snowplow's tracker, every reason.

Each page prints one line per reason, with its remedy, and is scored as soon as it can be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from playwright.sync_api import Browser, Page, Request, Route

from prospect_lib.server import Options, Server, Snippet, create_app
from tests.conftest import free_port
from tests.support.chromium import chromium
from tests.support.foreign_site import ForeignSite, foreign_site, tracked
from tests.support.serving import MemoryAttributes, Rule
from tests.support.waiting import wait_for

ANONYMOUS = '"newTracker", "sp", collector, {cookieSecure: false, anonymousTracking: true}'
CONSENT = "snowplow('disableAnonymousTracking')"
SECURE, PLAIN = "shop.example", "plain.example"  # names of the public site


@pytest.fixture(scope="module")
def site() -> Iterator[ForeignSite]:
    with foreign_site() as site:
        yield site


@pytest.fixture(scope="module")
def public() -> Iterator[ForeignSite]:
    """A site that Chromium takes for one on the internet."""
    with foreign_site() as site:
        yield site


@pytest.fixture(scope="module")
def browser(public: ForeignSite) -> Iterator[Browser]:
    with chromium(
        f"--ip-address-space-overrides=127.0.0.1:{public.port}=public",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
        f"--unsafely-treat-insecure-origin-as-secure=http://{SECURE}:{public.port}",
    ) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(site: ForeignSite, public: ForeignSite) -> Iterator[Server]:
    names = [f"http://localhost:{site.port}"]
    names += [f"http://{name}:{public.port}" for name in (SECURE, PLAIN)]
    options = Options(origins=tuple(names))
    with Server(create_app(Rule(), MemoryAttributes(), options=options), port=0) as server:
        yield server


@dataclass
class Visit:
    """A page with what the client prints."""

    page: Page
    scored: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    open_requests: set[Request] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.clock.install()
        self.page.on("console", lambda message: self._printed(message.text))
        self.page.on("pageerror", lambda error: self.lines.append(str(error)))
        self.page.on("request", lambda request: self.open_requests.add(request))
        for ended in ("requestfinished", "requestfailed"):
            self.page.on(ended, lambda request: self.open_requests.discard(request))

    def _printed(self, text: str) -> None:
        if text.startswith("Prediction"):
            self.scored.append(text.split()[1])
        if text.startswith("prospect.js"):
            self.lines.append(text)

    def run(self, script: str) -> object:
        """Run JavaScript in the page, as its console does."""
        return self.page.evaluate(f"() => {{ {script} }}")

    def later(self, seconds: float) -> None:
        """Move the page's clock on."""
        self.page.clock.run_for(round(seconds * 1000))

    def later_when_answered(self, seconds: float) -> None:
        """Move the clock on, unless the page waits for an answer: its time limit would end."""
        self.run("")  # what the page's requests do arrives during a call
        if not self.open_requests:
            self.later(seconds)

    def line(self) -> str:
        """Return the one line that is printed."""
        wait_for(lambda: self.later_when_answered(1) or self.lines)
        wait_for(lambda: self.run("") or not self.open_requests)
        self.later(20)
        (line,) = self.lines
        assert self.scored == []
        return line

    def next_score(self) -> str:
        """Return the visitor of the next score, which does not wait for the interval."""
        before = len(self.scored)
        wait_for(lambda: self.later_when_answered(0.1) or len(self.scored) > before)
        return self.scored[-1]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with browser.new_context() as context:
        yield Visit(context.new_page())


def seldom(url: str, **options: str) -> Snippet:
    """Return the snippet of a page whose interval never comes."""
    return Snippet(url, every=3000, **options)


def id_of(visit: Visit, name: str, namespace: str) -> object:
    script = f"new Promise(r => {name}(function () {{ r(this.{namespace}.getDomainUserId()) }}))"
    return visit.page.evaluate(script)


# --- trackers --------------------------------------------------------------------------------


def test_a_tracker_is_found_under_any_global_and_namespace(visit, site, server):
    tag = tracked("acmeTrack", '"newTracker", "acme", collector, {cookieSecure: false}')
    visit.page.goto(site.page(tag + seldom(server.url).page()))
    assert visit.next_score() == id_of(visit, "acmeTrack", "acme")
    assert visit.lines == []


def test_a_tracker_that_comes_later_is_scored_at_once(visit, site, server):
    visit.page.goto(site.page(seldom(server.url).page()))
    assert "no Snowplow tracker on this page" in visit.line()
    visit.page.add_script_tag(
        content="""
        window.GlobalSnowplowNamespace = ["late"];
        window.late = (...call) => (late.q = late.q ?? []).push(call);
        late("newTracker", "sp", location.origin, {cookieSecure: false});"""
    )
    visit.later(1)
    visit.page.add_script_tag(url="/sp.js")
    assert visit.next_score() == id_of(visit, "late", "sp")


def test_of_two_trackers_one_is_scored_and_a_line_says_which(visit, site, server):
    two = [
        f'"newTracker", "{name}", collector, {{cookieSecure: false, cookieName: "{name}"}}'
        for name in ("blue", "green")
    ]
    visit.page.goto(site.page(tracked("acmeTrack", *two) + seldom(server.url).page()))
    assert visit.next_score() == id_of(visit, "acmeTrack", "blue")
    (line,) = visit.lines
    assert 'trackers "blue", "green"' in line and "set tracker in prospect.start()" in line
    visit.page.clock.fast_forward(3000_000)
    visit.next_score()
    visit.run(seldom(server.url, tracker="green").console())
    assert visit.next_score() == id_of(visit, "acmeTrack", "green")
    assert visit.lines == [line]


def test_a_namespace_that_the_page_does_not_have(visit, site, server):
    visit.page.goto(site.page(tracked() + Snippet(server.url, tracker="acme").page()))
    assert 'no tracker "acme", but "sp"' in visit.line()


def test_a_blocked_tracker(visit, site, server):
    visit.page.route("**/sp.js", lambda route: route.abort("blockedbyclient"))
    visit.page.goto(site.page(tracked("acmeTrack") + Snippet(server.url).page()))
    assert "acmeTrack() has not loaded: blocked by an extension" in visit.line()


# --- consent and page views ------------------------------------------------------------------


def test_consent_is_scored_at_once(visit, site, server):
    visit.page.goto(site.page(tracked("snowplow", ANONYMOUS) + seldom(server.url).page()))
    assert "no domain_userid yet: tracking is anonymous, or consent is open" in visit.line()
    visit.run(CONSENT)
    assert visit.next_score() == id_of(visit, "snowplow", "sp")


def test_a_page_view_is_scored_at_once_by_path_query_or_hash(visit, site, server):
    visit.page.goto(site.page(tracked() + seldom(server.url).page()))
    visit.next_score()
    for change in (
        "history.pushState({}, '', '/pricing')",
        "history.pushState({}, '', '?plan=pro')",
    ):
        visit.run(change)
        visit.next_score()
    visit.run("location.hash = 'pricing'")
    visit.next_score()


def test_a_server_that_was_away_is_back_at_the_next_page_view(visit, site):
    port, origin = free_port(), f"http://localhost:{site.port}"
    app = create_app(Rule(), MemoryAttributes(), options=Options(origins=(origin,)))
    visit.page.goto(site.page(tracked()))
    visit.run(seldom(f"http://127.0.0.1:{port}").console())
    assert "cannot be reached: does it run?" in visit.line()
    with Server(app, port=port):
        visit.run("location.hash = 'pricing'")
        assert visit.next_score() == id_of(visit, "snowplow", "sp")
        assert len(visit.lines) == 1


# --- the way to the server -------------------------------------------------------------------


def test_a_policy_without_connect_src(visit, site, server):
    policy = f"connect-src 'self'; script-src 'self' 'unsafe-inline' {server.url}"
    visit.page.goto(site.page(tracked() + Snippet(server.url).page(), policy=policy))
    line = visit.line()
    assert (
        "Content-Security-Policy forbids" in line and f"{server.url}: add it to connect-src" in line
    )


def test_an_extension_that_blocks_the_server(visit, site, server):
    visit.page.goto(site.page(tracked()))
    visit.page.route(f"{server.url}/**", lambda route: route.abort("blockedbyclient"))
    visit.run(Snippet(server.url).console())
    assert "an extension, such as an ad blocker, blocks it here" in visit.line()


def test_an_origin_that_the_server_does_not_allow(visit, site, server):
    address = site.page(tracked() + Snippet(server.url).page(), host="127.0.0.1")
    visit.page.goto(address)
    assert f"start it with --origin http://127.0.0.1:{site.port}" in visit.line()


def test_a_browser_that_does_not_let_pages_call_this_machine(visit, public, server):
    visit.page.goto(public.page(tracked(), host=SECURE))
    visit.run(Snippet(server.url).console())
    wait_for(lambda: visit.later(0.1) or len(visit.lines) == 2)
    visit.later(20)
    asks, refuses = visit.lines
    assert "the browser asks whether this page may call this machine" in asks
    assert "does not let this page call this machine" in refuses
    visit.page.context.grant_permissions(["local-network-access"])
    visit.run("location.hash = 'allowed'")
    assert visit.next_score() == id_of(visit, "snowplow", "sp")


def test_pages_on_http_may_not_call_this_machine(visit, public, server):
    visit.page.goto(public.page(tracked(), host=PLAIN))
    visit.run(Snippet(server.url).console())
    assert "use the page's https address" in visit.line()


def test_pages_on_https_may_not_call_http(visit, site):
    https = {"": f"<!doctype html>{tracked()}", "sp.js": site.answers["/sp.js"][1]}
    for path, body in https.items():
        visit.page.route(f"https://{SECURE}/{path}", partial(fulfil, body))
    visit.page.goto(f"https://{SECURE}/")
    visit.run(Snippet("http://scores.example").console())
    assert "page on https may not call http://scores.example" in visit.line()


def fulfil(body: str | bytes, route: Route) -> None:
    route.fulfill(
        body=body, content_type="text/html" if isinstance(body, str) else "text/javascript"
    )


@pytest.mark.parametrize(
    ("kind", "body", "readable", "expected"),
    [
        ("text/html", b"<h1>502 Bad Gateway</h1>", True, "answers with text/html (status 502)"),
        ("text/html", b"<h1>You are about to visit</h1>", False, "a proxy or a tunnel?"),
        ("application/json", b'{"score": "high"}', True, "application/json (status 200) and no"),
    ],
)
def test_an_answer_that_is_not_the_servers(visit, site, kind, body, readable, expected):
    headers = {"Content-Type": kind, "status": "502" if b"502" in body else "200"}
    if readable:
        headers |= {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
    path = f"/{len(site.answers)}"
    site.answers[f"{path}/predict"] = site.answers[f"{path}/prospect.js"] = headers, body
    visit.page.goto(site.page(tracked()))
    visit.run(Snippet(f"http://127.0.0.1:{site.port}{path}").console())
    assert expected in visit.line()


# --- loading the client ----------------------------------------------------------------------

STRICT = "default-src 'none'; connect-src 'self' {url}; script-src 'nonce-abc'"


@pytest.mark.parametrize("way", ["page", "tag"])
def test_script_elements_load_the_client_under_a_policy_with_nonces(visit, site, server, way):
    html = (tracked() + getattr(Snippet(server.url), way)()).replace("<script", "<script nonce=abc")
    html += '<script nonce=abc src="/sp.js"></script>'  # the tag's own element has no nonce
    visit.page.goto(site.page(html, policy=STRICT.format(url=server.url)))
    visit.next_score()
    assert visit.lines == []


def test_the_console_needs_only_connect_src(visit, site, server):
    policy = f"default-src 'none'; script-src 'self'; connect-src {server.url} 'self'"
    site.answers["/own.js"] = (
        {"Content-Type": "text/javascript"},
        b"window.snowplow = (f) => snowplow.q.push([f]); snowplow.q = [];"
        b"GlobalSnowplowNamespace = ['snowplow'];",
    )
    html = '<script src="/own.js"></script><script src="/sp.js"></script>'
    visit.page.goto(site.page(html, policy=policy))
    visit.run("snowplow.q.push(['newTracker', 'sp', location.origin, {cookieSecure: false}])")
    visit.run(Snippet(server.url).console())
    assert visit.next_score() == id_of(visit, "snowplow", "sp")
    assert visit.lines == []


@pytest.mark.parametrize(
    ("way", "policy", "expected"),
    [
        ("page", "script-src 'self' 'unsafe-inline'", "needs {url} under script-src"),
        ("tag", "script-src 'self' 'unsafe-inline'", "needs blob: under script-src, or a nonce"),
        ("tag", "connect-src 'self'", "needs it under connect-src"),
        ("tag", "blocked", "cannot be reached: does it run?"),
    ],
)
def test_a_client_that_does_not_load(visit, site, server, way, policy, expected):
    if policy == "blocked":
        visit.page.route(f"{server.url}/**", lambda route: route.abort("blockedbyclient"))
    html = tracked() + getattr(Snippet(server.url), way)()
    visit.page.goto(site.page(html, policy="" if policy == "blocked" else policy))
    assert expected.format(url=server.url) in visit.line()


def test_the_client_behind_an_address_of_ngrok_is_loaded_with_its_header(visit, site, server):
    """ngrok's free plan answers a browser without this header with a page of its own."""
    snippet = Snippet(f"http://abc.ngrok.example:{server.port}")

    def ngrok(route: Route) -> None:
        path, headers = route.request.url.removeprefix(snippet.url), route.request.headers
        if route.request.method != "OPTIONS" and "ngrok-skip-browser-warning" not in headers:
            return fulfil("<h1>You are about to visit a site</h1>", route)
        return route.continue_(url=server.url + path)

    visit.page.route(f"{snippet.url}/**", ngrok)
    visit.page.goto(site.page(tracked() + snippet.page()))
    visit.next_score()
    assert visit.lines == []


def test_an_address_that_answers_with_another_page(visit, site):
    headers = {"Content-Type": "text/html", "Access-Control-Allow-Origin": "*"}
    site.answers["/gone/prospect.js"] = headers | {"Access-Control-Allow-Headers": "*"}, b"<h1>"
    snippet = Snippet(f"http://127.0.0.1:{site.port}/gone")
    visit.page.goto(site.page(tracked() + snippet.tag()))
    assert "answers with another page (status 200)" in visit.line()
