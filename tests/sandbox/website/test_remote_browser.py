"""The demo website for a browser on another machine: Colab's proxy, and ngrok's warning page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, expect

from prospect_lib import colab, signals
from prospect_lib.server import Options, Server, announce, create_app, open_tunnel
from prospect_lib.settings import Settings
from tests.support import fake_colab
from tests.support.chromium import profile
from tests.support.colab_proxy import ColabProxy, colab_proxy
from tests.support.fake_ngrok import write_agent
from tests.support.sandbox import publish
from tests.support.serving import Rule

DENIED = """
for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, {
    get: () => { throw new DOMException("Access is denied", "SecurityError"); }, configurable: true,
  });
"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[ColabProxy]:
    with colab_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A Chromium with a profile, which lets pages in frames of other sites store something."""
    folder = tmp_path_factory.mktemp("profile")
    with profile(folder, "--host-resolver-rules=MAP *.example 127.0.0.1") as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()
    context.clear_cookies()


@pytest.fixture(scope="module")
def published(running: Settings) -> Settings:
    publish(running)
    return running


@pytest.fixture
def server(published: Settings) -> Iterator[Server]:
    app = create_app(Rule(), signals.reader(published), published, options=Options(served_days=0))
    with Server(app, port=0) as server:
        yield server
    announce(published.home, None)


def is_prediction(message: ConsoleMessage) -> bool:
    return message.text.startswith("Prediction")


def scored(page: Page, address: str) -> str:
    """Open a page; returns the visitor of whom the console has a score."""
    with page.expect_console_message(is_prediction, timeout=30_000) as line:
        page.goto(address)
    return line.value.text.split()[1]


@pytest.mark.parametrize("framed", [True, False], ids=["in a notebook", "in a tab"])
def test_the_panel_scores_through_colabs_proxy(
    published: Settings, server: Server, proxy: ColabProxy, page: Page,
    monkeypatch: pytest.MonkeyPatch, framed: bool,
) -> None:  # fmt: skip
    fake_colab.enter(monkeypatch)
    colab.open_site(published, server)
    proxy.requested.clear()
    proxy.rewrites = not framed
    problems: list[str] = []
    page.on(
        "console", lambda line: line.type in ("error", "warning") and problems.append(line.text)
    )
    address = proxy.notebook if framed else proxy.address
    visitors = {scored(page, address(published.sandbox_port, path)) for path in ("/", "/pricing")}
    site = page.frames[-1]
    assert visitors == {site.locator("[data-slot=visitor]").inner_text()}
    expect(site.locator("#panel-score")).to_have_text("30.0%")  # of a view of the pricing page
    expect(site.locator("[data-slot=signals] > div")).not_to_have_count(0)  # trusted, by its token
    assert {port for port, _, _ in proxy.requested} == {published.sandbox_port}
    assert {status for _, _, status in proxy.requested} <= {200, 204, 304}
    assert problems == []


def test_a_browser_that_denies_storage_in_frames_has_a_new_visitor_on_each_page(
    published: Settings, server: Server, proxy: ColabProxy, page: Page,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_colab.enter(monkeypatch)
    colab.open_site(published, server)
    page.add_init_script(DENIED)
    visitors = {scored(page, proxy.notebook(published.sandbox_port, "/pricing")) for _ in range(2)}
    assert len(visitors) == 2
    expect(page.frames[-1].locator("[data-slot=status]")).to_contain_text("Allow its cookies")


def test_the_website_passes_on_only_who_has_the_token(
    published: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, body = f"{published.sandbox_url}/scores/predict", {"domain_userid": "v1"}
    announce(published.home, None)
    assert requests.post(url, json=body, timeout=30).status_code == 503
    fake_colab.enter(monkeypatch)
    colab.open_site(published, server)
    config = requests.get(f"{published.sandbox_url}/config.json", timeout=30).json()
    bearer = {"Authorization": f"Bearer {config['predict_token']}"}
    answers = [requests.post(url, json=body, headers=h, timeout=30) for h in ({}, bearer)]
    assert [answer.status_code for answer in answers] == [401, 200]
    assert "signals" in answers[1].json()
    foreign = requests.options(url, headers={"Origin": "https://evil.example"}, timeout=30)
    assert "Access-Control-Allow-Origin" not in foreign.headers
    server.stop()
    assert requests.post(url, json=body, headers=bearer, timeout=30).status_code == 503


def test_panel_and_snippet_skip_the_warning_page_of_ngrok(
    published: Settings, server: Server, page: Page, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", values={"NGROK_TOKEN": "t"})
    with open_tunnel(server, settings, ngrok_path=write_agent(tmp_path)) as tunnel:
        announce(published.home, tunnel.url, tunnel.token)
        assert scored(page, f"{published.sandbox_url}/pricing")
        expect(page.locator("[data-slot=signals] > div")).not_to_have_count(0)
        page.evaluate("window.prospect.stop(); delete window.prospect")
        with pytest.raises(Error, match="Failed to load"):  # a script element cannot skip it
            page.add_script_tag(url=f"{tunnel.url}/prospect.js?again")
        tag = tunnel.snippet().tag().removeprefix("<script>").removesuffix("</script>")
        with page.expect_console_message(is_prediction, timeout=30_000):
            page.add_script_tag(content=tag)
