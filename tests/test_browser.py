"""A visit in a real browser: website, sandbox and prediction server together.

One visitor walks through the website once; most tests check the results of this visit.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect
from snowplow_signals import RuleIntervention, domain_sessionid

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.problem import problem_of, prospect_problem
from prospect_lib.sandbox.collector.fields import TEXTS
from prospect_lib.sandbox.simulation import history, traffic
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Options, create_app
from prospect_lib.server.interventions import pusher
from prospect_lib.server.predictor import Scorer
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse
from tests.conftest import free_port
from tests.support.hostile import SCRIPT_ADDRESS, SCRIPTS, page_that_runs_no_script
from tests.support.waiting import wait_for

SNOWPLOW, MEDIA = "com_snowplowanalytics_snowplow", "com_snowplowanalytics_snowplow_media"
TYPED = {"name": "Ada Lovelace", "email": "ada@example.com", "company": "Analytical", "wish": "Tea"}
SOME = re.compile(r"[1-9]\d*")  # a count above zero
HIDE = (
    "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
    "document.dispatchEvent(new Event('visibilitychange'))"
)


class Eager:
    """Stands in for a model: pages, films and fields raise the score, a form ends the interest."""

    version, threshold = "eager", 0.1  # reached on the third page

    def score(self, attributes: Mapping[str, Any], _at: datetime) -> SimpleNamespace:
        """Return a score whose log-odds are a weighted sum of the visitor's counts."""
        weights = {
            "num_page_views_l7d": 0.4,
            "num_media_events_l30d": 0.1,
            "num_form_engagements_l7d": 0.8,
            "num_conversions_l30d": -16.0,
        }
        moved = {name: w * (attributes[name] or 0) for name, w in weights.items()}
        moved["__sum_of_others"] = -0.2
        moved["__calibration"] = 0.1
        score = 1 / (1 + math.exp(3 - sum(moved.values())))
        return SimpleNamespace(
            score=score, features=dict(attributes), explanations=moved, base_value=-3.0
        )


@dataclass
class Watched:
    """A page with its console lines, errors and failed requests."""

    page: Page
    console: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._printed)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", self._failed)

    def _printed(self, message: ConsoleMessage) -> None:
        lines = self.problems if message.type in ("error", "warning") else self.console
        lines.append(message.text)

    def _failed(self, request: Request) -> None:
        # leaving a page aborts the video's download and requests under way
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.url}: {request.failure}")

    def score_after(self, action: Callable[[], object], timeout: float = 5_000) -> float:
        """Act, and return the next score, which the panel and the console line agree on.

        Args:
            timeout: milliseconds to wait for the score.
        """
        with self.page.expect_console_message(_is_prediction, timeout=timeout) as line:
            action()
        printed = float(line.value.text.split()[3])
        expect(self.page.locator("#panel-score")).to_have_text(f"{printed:.1%}")
        return printed


@dataclass(frozen=True)
class Visit:
    """The results of one walk through the website.

    Attributes:
        visitor: the ``domain_userid`` in the panel.
        scores: the score of each step.
        decisions: the text of the panel's decision at each step.
        suppressed: the tooltip of the decision after the form.
        invitations: the invitation's title at each step; empty without one.
        in_words: the text of the panel's reasons.
        reasons: the text of the fold with their log-odds.
        signals: the panel's attributes: label -> value.
        watched: the page.
        events: the visitor's events in the sandbox, oldest first.
    """

    visitor: str
    scores: dict[str, float]
    decisions: dict[str, str]
    suppressed: str
    invitations: dict[str, str]
    in_words: str
    reasons: str
    signals: dict[str, str]
    watched: Watched
    events: list[dict[str, Any]]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name, oldest first."""
        return [event for event in self.events if event["event_name"] == name]


def _is_prediction(message: ConsoleMessage) -> bool:
    return message.text.startswith("Prediction")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running sandbox in which the attributes are published."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), sandbox_port=free_port())
    sandbox.ensure_running(settings)
    signals.connect(settings).publish([prospect_group, prospect_service])
    yield settings
    sandbox.stop(settings)


@contextmanager
def predictions(
    settings: Settings, scorer: Scorer | None = None, threshold: float | None = None
) -> Iterator[Server]:
    """A prediction server that is announced to the website."""
    options = Options(served_days=0, threshold=threshold)
    app = create_app(scorer or Eager(), signals.reader(settings), settings, options=options)
    with Server(app, port=0) as server:
        announce(settings.home, server.url)
        yield server
    announce(settings.home, None)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        yield Watched(context.new_page())


@pytest.fixture(scope="module")
def visit(settings: Settings, browser: Browser) -> Visit:
    """A visit that is scored by the stand-in, which invites on the page with the video."""
    with predictions(settings):
        return walk(settings, browser, invited="video")


def walk(settings: Settings, browser: Browser, *, invited: str) -> Visit:
    """Take the steps of ``traffic.scripted_visitor`` on the real pages, then three pages more.

    Args:
        invited: the step at which the invitation is expected.
    """
    # the user agent of a person: that of an automated browser is a robot's
    window = browser.new_context(
        viewport={"width": 1440, "height": 900}, user_agent=traffic.USER_AGENT
    )
    with window as context:
        watched = Watched(context.new_page())
        page, name = watched.page, watched.page.locator("#name")
        scores, decisions, invitations = dict[str, float](), dict[str, str](), dict[str, str]()

        def follow(link: str) -> None:
            page.get_by_role("link", name=link, exact=True).first.click()

        def scored(step: str, shown: Mapping[str, str | re.Pattern[str]]) -> None:
            """Note the score of a visitor with these attributes, by their labels in the panel."""
            for label, value in shown.items():
                row = page.locator("[data-slot=signals] > div").filter(has_text=label)
                expect(row.locator("dd")).to_have_text(value, timeout=15_000)
            scores[step] = float(page.locator("#panel-score").inner_text().rstrip("%")) / 100
            decisions[step] = page.locator(".decision").inner_text()
            if step == invited:
                expect(page.locator(".invitation")).to_be_visible()
            invitations[step] = invitation(page)

        page.goto(f"{settings.sandbox_url}/?utm_medium=email&utm_campaign=spring")
        scored("home", {"Last page path": "/"})
        follow("Pricing")
        scored("pricing", {"Last page path": "/pricing"})
        follow("Videos")
        wait_for_tracker(page)
        watch_video(page)
        scored("video", {"Last page path": "/videos", "Media events, 30 days": SOME})
        wait_for_a_ping(page)
        follow("Pricing")
        scored("pricing again", {"Last page path": "/pricing"})
        follow("Request a demo")
        scored("demo page", {"Last page path": "/demo"})
        name.focus()
        scored("focus", {"Form engagements, 7 days": "1"})
        name.fill(TYPED["name"])
        name.blur()
        scored("change", {"Form engagements, 7 days": "2"})
        fill_in(page)
        scored("after the form", {"Last page path": "/thank-you", "Conversions, 30 days": "1"})
        suppressed = page.locator(".decision").get_attribute("title") or ""
        in_words = page.locator(".reasons").inner_text()
        page.locator("[data-slot=fold] summary").click()
        reasons = page.locator("[data-slot=fold]").inner_text()
        labels = page.locator("[data-slot=signals] dt").all_text_contents()
        values = page.locator("[data-slot=signals] dd").all_text_contents()
        for path in ("demo", "pricing", "product"):
            watched.score_after(lambda path=path: page.goto(f"{settings.sandbox_url}/{path}"))
            invitations[f"{path} after the form"] = invitation(page)
        visitor = page.locator("[data-slot=visitor]").inner_text()
    events = stored(settings, visitor)
    return Visit(
        visitor=visitor,
        scores=scores,
        decisions=decisions,
        suppressed=suppressed,
        invitations=invitations,
        in_words=in_words,
        reasons=reasons,
        signals=dict(zip(labels, values, strict=True)),
        watched=watched,
        events=events,
    )


def wait_for_tracker(page: Page) -> None:
    """Wait until the tracker is loaded, which a script can outrun and a person cannot."""
    expect(page.locator("[data-slot=visitor]")).not_to_have_text("–")


def watch_video(page: Page) -> None:
    """Start the film."""
    page.locator("video").evaluate("video => video.play()")


def wait_for_a_ping(page: Page) -> None:
    """Keep watching until the first page ping, which is sent after five seconds; then pause."""
    with page.expect_request(lambda r: '"e":"pp"' in (r.post_data or ""), timeout=20_000):
        page.mouse.wheel(0, 200)
    page.locator("video").evaluate("video => video.pause()")
    page.wait_for_function("document.querySelector('video').paused")


def fill_in(page: Page) -> None:
    """Fill in and submit the demo form."""
    for name, text in TYPED.items():
        page.locator(f"#{name}").fill(text)
    page.get_by_label("How many shops?").select_option("6 to 20")
    page.locator("#news").check()
    page.get_by_role("button", name="Request a demo").click()


def invitation(page: Page) -> str:
    """Return the title of the page's invitation; empty without one."""
    cards = page.locator(".invitation h2")
    return cards.inner_text() if cards.count() else ""


def stored(settings: Settings, visitor: str) -> list[dict[str, Any]]:
    """Return the visitor's events in the sandbox, oldest first."""
    accepted = requests.get(f"{settings.sandbox_url}/micro/good", timeout=5).json()
    events = [entry["event"] for entry in accepted if entry["event"]["domain_userid"] == visitor]
    return sorted(events, key=lambda event: str(event["derived_tstamp"]))


def test_the_visit_has_no_errors_and_no_failed_requests(visit: Visit) -> None:
    assert visit.watched.problems == []


def rises_to_the_form_and_falls_after_it(scores: Mapping[str, float]) -> None:
    steps = ["home", "pricing", "video", "pricing again", "demo page", "focus", "change"]
    *before, after = scores
    assert (before, after) == (steps, "after the form")
    assert sorted(before, key=lambda step: scores[step]) == steps
    assert len({scores[step] for step in before}) == len(steps)
    assert scores[after] < scores["home"]


def test_the_story_of_the_visit_rises_to_the_form_and_falls_after_it(visit: Visit) -> None:
    rises_to_the_form_and_falls_after_it(visit.scores)


def test_the_story_of_the_visit_by_a_trained_model(
    settings: Settings, browser: Browser, tmp_path: Path
) -> None:
    history.write(tmp_path, visitors=4000, days=60, end=datetime(2026, 7, 1, tzinfo=UTC), seed=0)
    warehouse = DuckDBWarehouse.over_home(tmp_path)
    table = extract(warehouse, prospect_problem).table
    warehouse.close()
    model = ProspectModel.fit(table, calibrate=False)
    with predictions(settings, model, threshold=0.0):
        visit = walk(settings, browser, invited="home")
    rises_to_the_form_and_falls_after_it(visit.scores)
    assert visit.decisions.pop("after the form") == "Wait"
    assert set(visit.decisions.values()) == {"Invite"}
    assert visit.watched.problems == []


def test_a_form_is_focused_then_changed_then_sent(visit: Visit) -> None:
    form = [e["event_name"] for e in visit.events if e["event_name"].endswith("_form")]
    assert form[:2] == ["focus_form", "change_form"]
    assert form[-1] == "submit_form"


def test_the_decision_is_to_invite_before_the_form_and_suppressed_after_it(visit: Visit) -> None:
    invited = [step for step, decision in visit.decisions.items() if decision == "Invite"]
    assert invited == ["video", "pricing again", "demo page", "focus", "change"]
    assert visit.decisions["after the form"] == "Wait"
    assert visit.suppressed == "suppressed by Conversions, 30 days"


def test_the_console_has_a_line_per_score(visit: Visit) -> None:
    lines = [line for line in visit.watched.console if line.startswith("Prediction")]
    assert len(lines) >= 5
    assert lines[0].startswith(f"Prediction:  {visit.visitor}  -  0.")


def test_reasons_are_readable_and_strongest_first(visit: Visit) -> None:
    places = [
        visit.reasons.index(text)
        for text in (
            "Conversions, 30 days",
            "Form engagements, 7 days",
            "Page views, 7 days",
            "All other features",
        )
    ]
    assert places == sorted(places)


def test_reasons_are_in_words_and_their_log_odds_in_a_fold_with_what_they_are_added_to(
    visit: Visit,
) -> None:
    assert "lowers it a lot" in visit.in_words and not re.search(r"[+−]\d", visit.in_words)
    lines = visit.reasons.splitlines()
    assert lines.index("Before anything is known") < lines.index("All other features")
    assert lines[lines.index("Before anything is known") + 1] == "−3.00"
    assert lines[lines.index("Calibration") + 1] == "+0.10"


def test_the_panel_labels_the_attributes_of_the_moment(visit: Visit) -> None:
    assert int(visit.signals["Page views, 1 hour"]) >= 6
    assert visit.signals["First page path, 1 hour"] == "/"


def test_the_invitation_is_shown_once_per_session(visit: Visit) -> None:
    shown = {page for page, title in visit.invitations.items() if title}
    assert shown == {"video"}
    assert "order" in visit.invitations["video"]


def test_an_invitation_waits_for_a_page_that_can_show_it(
    settings: Settings, watched: Watched
) -> None:
    page = watched.page
    with page.expect_response("**/api/v1/interventions?*"):
        page.goto(f"{settings.sandbox_url}/demo")
    visitor = page.locator("[data-slot=visitor]").inner_text()
    push = pusher(settings, "by_hand")
    wait_for(lambda: push(visitor, {"title": "<b>Tea?</b>", "cta": "Yes"}) == "success")
    page.wait_for_function("localStorage.getItem('invitation')")
    expect(page.locator(".invitation")).to_have_count(0)  # the page with the form shows none
    page.goto(f"{settings.sandbox_url}/pricing")
    expect(page.locator(".invitation h2")).to_have_text("<b>Tea?</b>")
    page.get_by_role("button", name="Not now").click()
    page.goto(f"{settings.sandbox_url}/product")
    wait_for(lambda: push(visitor, {}) == "success")
    expect(page.locator(".invitation")).to_have_count(0)
    page.evaluate(HIDE)  # closes the stream: no page can receive one
    wait_for(lambda: push(visitor, {}) == "undelivered")


def test_a_session_is_scored_and_invited_by_the_id_in_the_trackers_cookie(
    settings: Settings, watched: Watched
) -> None:
    group = prospect_group.model_copy(
        update={"name": "by_session", "attribute_key": domain_sessionid}
    )
    problem = problem_of(group)
    signals.connect(settings).publish([problem.group, problem.service])
    options = Options(served_days=0, threshold=0.0)
    app = create_app(
        Eager(), signals.reader(settings, problem), settings, problem=problem, options=options
    )
    with Server(app, port=0) as server:
        announce(settings.home, server.url, predict_key=problem.key)
        with watched.page.expect_console_message(_is_prediction) as line:
            watched.page.goto(f"{settings.sandbox_url}/pricing")
        expect(watched.page.locator(".invitation")).to_be_visible()
    announce(settings.home, None)
    cookies = {each["name"]: each["value"] for each in watched.page.context.cookies()}
    session = next(value for name, value in cookies.items() if name.startswith("_sp_id"))
    assert line.value.text.split()[1] == session.split(".")[5]
    assert watched.problems == []


def test_a_rule_invites_without_a_model(settings: Settings, watched: Watched) -> None:
    full = f"{prospect_group.name}_v{prospect_group.version}"
    twice = {"attribute": f"{full}:num_pricing_views_l7d", "operator": ">=", "value": 2}
    rule = RuleIntervention(name="pricing_twice", version=1, owner="a@example.com", criteria=twice)
    client, page = signals.connect(settings), watched.page
    client.publish([rule])
    try:
        for path in ("pricing", "product", "pricing"):
            expect(page.locator(".invitation")).to_have_count(0)
            with page.expect_response("**/tp2"):
                page.goto(f"{settings.sandbox_url}/{path}")
        expect(page.locator(".invitation")).to_be_visible()
    finally:
        client.unpublish([rule])
        client.delete([rule])


def test_each_page_sends_a_page_view_of_one_session(visit: Visit) -> None:
    views = visit.named("page_view")
    assert [view["page_urlpath"] for view in views] == [
        "/",
        "/pricing",
        "/videos",
        "/pricing",
        "/demo",
        "/thank-you",
        "/demo",
        "/pricing",
        "/product",
    ]
    assert {view["app_id"] for view in views} == {"website"}
    assert views[0]["mkt_medium"] == "email"
    assert len({view["domain_sessionid"] for view in views}) == 1


def test_reading_a_page_sends_page_pings(visit: Visit) -> None:
    assert "/videos" in {ping["page_urlpath"] for ping in visit.named("page_ping")}


def test_playing_the_video_sends_media_events(visit: Visit) -> None:
    (play,) = visit.named("play_event")
    assert play["event_vendor"] == "com.snowplowanalytics.snowplow.media"
    assert f"unstruct_event_{MEDIA}_play_event_1" in play
    (player,) = play[f"contexts_{SNOWPLOW}_media_player_2"]
    assert (player["label"], player["mediaType"]) == ("One morning with Samphire", "video")
    (pause,) = visit.named("pause_event")
    (paused,) = pause[f"contexts_{SNOWPLOW}_media_player_2"]
    assert 1 < paused["currentTime"] < paused["duration"] == 20


def test_form_events_have_their_schema_and_no_values(visit: Visit) -> None:
    assert len(visit.named("focus_form")) >= 4
    changes = [e[f"unstruct_event_{SNOWPLOW}_change_form_1"] for e in visit.named("change_form")]
    assert {change["elementId"] for change in changes} == {*TYPED, "shops", "news"}
    assert {change["value"] for change in changes} == {"***"}
    (submit,) = visit.named("submit_form")
    sent = submit[f"unstruct_event_{SNOWPLOW}_submit_form_1"]
    assert sent["formId"] == "request-demo"
    assert {element["value"] for element in sent["elements"]} == {"***"}


def test_no_file_contains_what_the_visitor_typed(visit: Visit, settings: Settings) -> None:
    assert visit.visitor
    content = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert visit.visitor.encode() in content
    for text in (*TYPED.values(), "6 to 20"):
        assert text.encode() not in content


def test_the_landing_page_has_its_own_app_id(settings: Settings, watched: Watched) -> None:
    with watched.page.expect_response("**/tp2"):
        watched.page.goto(f"{settings.sandbox_url}/landing")
    visitor = watched.page.locator("[data-slot=visitor]").inner_text()
    assert [event["app_id"] for event in stored(settings, visitor)] == ["hs-landing"]


def test_both_tracker_apis_return_the_visitor(settings: Settings, watched: Watched) -> None:
    watched.page.goto(settings.sandbox_url)
    shown = watched.page.locator("[data-slot=visitor]").inner_text()
    script = "new Promise(r => snowplow(function () { r(this.sp.getDomainUserId()) }))"
    assert watched.page.evaluate(script) == shown


def test_the_new_visitor_button_changes_the_id(settings: Settings, watched: Watched) -> None:
    watched.page.goto(f"{settings.sandbox_url}/pricing")
    visitor = watched.page.locator("[data-slot=visitor]")
    before = visitor.inner_text()
    watched.page.get_by_role("button", name="New visitor").click()
    watched.page.wait_for_url(f"{settings.sandbox_url}/")
    expect(visitor).not_to_have_text(before)


def test_the_panel_reports_a_missing_server_and_recovers(
    settings: Settings, watched: Watched
) -> None:
    watched.page.goto(settings.sandbox_url)
    status = watched.page.get_by_role("status")
    expect(status).to_contain_text("No prediction server has been started yet.")
    with predictions(settings):
        assert 0 < watched.score_after(lambda: None, timeout=20_000) < 1
    watched.page.get_by_role("button", name="Score now").click()
    expect(status).to_contain_text("does not answer")


def test_the_keyboard_closes_and_opens_the_panel(settings: Settings, watched: Watched) -> None:
    watched.page.goto(settings.sandbox_url)
    toggle = watched.page.get_by_role("button", name="Live score")
    expect(toggle).to_have_attribute("aria-expanded", "true")
    toggle.focus()
    watched.page.keyboard.press("Escape")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    expect(toggle).to_be_focused()
    watched.page.keyboard.press("Enter")
    expect(watched.page.get_by_role("button", name="New visitor")).to_be_visible()


def hostile_payloads(visitor: str) -> list[dict[str, str]]:
    """Events of two visitors with hostile text in every field, and rejected ones."""
    query = urlencode({"utm_medium": SCRIPTS, "utm_campaign": SCRIPTS, "q": SCRIPTS})
    address = f"https://s.example/{SCRIPTS}?{query}#{SCRIPTS}"
    data = {SCRIPTS: SCRIPTS, "value": [SCRIPTS]}
    entity = {"schema": "iglu:com.acme/a_script_alert/jsonschema/1-0-0", "data": data}
    fields = dict.fromkeys(TEXTS, SCRIPTS) | {"ua": SCRIPTS, "url": address, "refr": address}
    fields["co"] = json.dumps({"schema": SCRIPTS, "data": [entity]})
    event = {"e": "ue", "ue_pr": json.dumps({"schema": SCRIPTS, "data": entity})}
    good = [
        {**fields, **kind, "eid": str(uuid4()), "duid": duid}
        for kind in ({"e": "pv"}, event, {"e": "se"})
        for duid in (visitor, SCRIPTS)
    ]
    good.append({**good[0], "url": SCRIPT_ADDRESS, "refr": SCRIPT_ADDRESS, "eid": str(uuid4())})
    names = {**fields, **event, "ue_pr": json.dumps({"schema": SCRIPTS, "data": data})}
    return [*good, {**fields, "e": SCRIPTS}, {**fields, "e": "pv", "eid": SCRIPTS}, names]


def test_text_of_strangers_is_shown_and_never_run(settings: Settings, browser: Browser) -> None:
    with predictions(settings), page_that_runs_no_script(browser) as page:
        page.goto(f"{settings.sandbox_url}/pricing")
        wait_for_tracker(page)
        visitor = page.locator("[data-slot=visitor]").inner_text()
        traffic.send(settings.sandbox_url, hostile_payloads(visitor))
        page.reload()
        expect(page.locator("[data-slot=signals]")).to_contain_text("<img src=x", timeout=15_000)
        page.goto(f"{settings.sandbox_url}/board")
        expect(page.locator(".feed")).to_contain_text("sends an event")
        expect(page.locator("body")).not_to_contain_text("alert")
        expect(page.locator("[href^='javascript:']")).to_have_count(0)
        for shown in ("good", "bad"):
            page.goto(f"{settings.sandbox_url}/micro/{shown}")
            expect(page.locator("body")).to_contain_text("<img src=x")
        with closing(DuckDBWarehouse.over_home(settings.home)) as warehouse:
            rows = warehouse.query("SELECT * FROM events").to_pandas()
        page.set_content(rows.to_html())  # as a notebook shows them
        expect(page.locator("table")).to_contain_text("<img src=x")
