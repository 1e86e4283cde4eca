"""The board: what it shows, what it hides, and how it looks in a browser."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, expect

from prospect_lib.sandbox import token
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.simulation.traffic import scripted_visitor, send
from prospect_lib.sandbox.website import board
from prospect_lib.sandbox.website.board import (
    MAX_BOARD_VISITORS,
    MAX_CARDS,
    MAX_CONVERSIONS,
    MAX_EVENTS,
    MAX_FEED,
    MAX_SCORES,
    Board,
)
from prospect_lib.sandbox.website.disguise import disguised, plain_path
from prospect_lib.sandbox.website.routes import WEBSITE
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def row(visitor: str | None = "u1", name: str = "page_view", path: str = "/pricing") -> Any:
    return {
        "event_id": str(uuid4()), "event_name": name, "domain_userid": visitor,
        "page_urlpath": path, "page_title": "Orders of Ada",
        "user_id": visitor and "ada@example.com",
    }  # fmt: skip


def record(score: Any, visitor: Any = "u1", act: Any = False) -> dict[str, Any]:
    decision = {"name": "invite", "threshold": 0.5, "act": act}
    return {"domain_userid": visitor, "score": score, "decision": decision}


# --- what it shows ---------------------------------------------------------------------------


def test_a_visit_from_the_first_page_to_the_form() -> None:
    live_board = Board()
    for second, name in enumerate(["page_view", "page_ping", "focus_form", "submit_form"]):
        live_board.add_events([row(name=name)], NOW + second * SECOND)
        live_board.add_score(record(second / 10, act=second > 1), NOW + second * SECOND)
    state = live_board.state(NOW + 4 * SECOND)
    (one,) = state["visitors"]
    assert (one["name"], one["page"]) == (disguised("u1").name, "/pricing")
    assert one["events"] == ["view", "ping", "form", "goal"] and one["count"] == 4
    start = NOW.timestamp()
    assert one["scores"] == [[start + second, second / 10] for second in range(4)]
    assert one["converted"] and one["act"] and state["threshold"] == 0.5
    assert (state["here"], state["minute"], state["conversions"]) == (1, 4, 1)
    (goal,) = state["converted"]
    assert (goal["took"], goal["score"], goal["name"]) == (3, 0.2, one["name"])
    assert [entry["action"] for entry in state["feed"]][:2] == ["sends the form", "enters a field"]


def test_visitors_leave_and_the_highest_score_is_first() -> None:
    live_board = Board()
    for visitor, score in (("low", 0.1), ("high", 0.9)):
        live_board.add_events([row(visitor)], NOW)
        live_board.add_score(record(score, visitor), NOW)
    live_board.add_events([row("unscored")], NOW)
    names = [one["name"] for one in live_board.state(NOW)["visitors"]]
    assert names == [disguised(one).name for one in ("high", "low", "unscored")]
    live_board.add_events([row("low")], NOW + board.PRESENT)
    left = live_board.state(NOW + board.PRESENT + SECOND)
    assert [one["name"] for one in left["visitors"]] == [disguised("low").name]
    assert left["minute"] == 1


def test_an_event_that_comes_again_counts_once() -> None:
    live_board, same = Board(), row()
    live_board.add_events([same, same], NOW)
    live_board.add_events([same], NOW)
    assert live_board.state(NOW)["visitors"][0]["count"] == 1 == live_board.state(NOW)["minute"]


def test_measurements_and_events_without_a_visitor_are_not_shown() -> None:
    live_board = Board()
    live_board.add_events([row(None), row(name="web_vitals")], NOW)
    assert live_board.state(NOW)["visitors"] == live_board.state(NOW)["feed"] == []


@pytest.mark.parametrize("name", ["call_+1_900_555", "Your_computer_is_infected", "se", "x" * 99])
def test_names_of_strangers_are_not_shown(name: str) -> None:
    live_board = Board()
    live_board.add_events([row(name=name)], NOW)
    (entry,) = live_board.state(NOW)["feed"]
    assert (entry["action"], entry["mark"]) == ("sends an event", "other")


def test_a_score_by_another_key_is_shown_at_the_visitor_of_the_events() -> None:
    live_board = Board()
    live_board.add_events([row("u1") | {"domain_sessionid": "s1"}, row("u2")], NOW)
    live_board.add_score({"key": "domain_sessionid", "domain_sessionid": "s1", "score": 0.5}, NOW)
    live_board.add_score({"key": "customer", "customer": "c-1", "score": 0.25}, NOW)
    names = {visitor["name"]: visitor["scores"] for visitor in live_board.state(NOW)["visitors"]}
    at = NOW.timestamp()
    assert names[disguised("u1").name] == [[at, 0.5]]
    assert names[disguised("c-1").name] == [[at, 0.25]], "no event has told more about it"
    live_board.add_events([row(None) | {"user_id": "eve"}], NOW)
    assert live_board.state(NOW)["here"] == 4, "a visitor without domain_userid has a card too"


def test_memory_is_bounded() -> None:
    live_board = Board()
    for i in range(board.MAX_IDS + 10):
        live_board.add_events([row(f"v{i % 2 * i}", "submit_form")], NOW)
        live_board.add_score(record(0.5, "v0"), NOW)
    state = live_board.state(NOW)
    assert len(live_board._visitors) == MAX_BOARD_VISITORS and len(live_board._ids) == board.MAX_IDS
    assert (len(state["feed"]), len(state["converted"])) == (MAX_FEED, MAX_CONVERSIONS)
    assert len(state["visitors"]) == MAX_CARDS and state["here"] == MAX_BOARD_VISITORS
    busiest = max(live_board._visitors.values(), key=lambda visitor: visitor.count)
    assert (len(busiest.events), len(busiest.scores)) == (MAX_EVENTS, MAX_SCORES)
    assert len(json.dumps(state)) < 60_000


@pytest.mark.parametrize(
    "strange",
    [
        {},
        record(None),
        record("0.5"),
        record(True),
        record(1.5),
        record(float("nan")),
        record(10**400),
        record(0.5, visitor=None),
        record(0.5, visitor=["u1"]),
    ],
)
def test_records_without_a_valid_score_are_ignored(strange: dict[str, Any]) -> None:
    live_board = Board()
    live_board.add_score(strange, NOW)
    assert live_board.state(NOW)["visitors"] == []


@pytest.mark.parametrize("decision", [None, 7, {"act": "yes", "threshold": "x"}, {"threshold": 9}])
def test_a_score_without_a_valid_decision_is_shown(decision: Any) -> None:
    live_board = Board()
    live_board.add_score({**record(0.25), "decision": decision}, NOW)
    state = live_board.state(NOW)
    assert state["visitors"][0]["scores"][0][1] == 0.25
    assert state["threshold"] is None and not state["visitors"][0]["act"]


# --- what it hides ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/pricing", "/pricing"),
        ("/blog/last-loaf", "/blog/last-loaf"),
        ("/orders/4711", "/orders/…"),
        ("/users/ada@example.com/edit", "/users/…/edit"),
        ("/u/6b86b273-ff34-4ce1", "/u/…"),
        ("/<script>", "/…"),
        ("/" + "a/" * 99, "/a/a/a/a/a/a"),
        (None, ""),
        (7, ""),
    ],
)
def test_addresses_are_plain_words(path: Any, shown: str) -> None:
    assert plain_path(path) == shown


def test_the_board_shows_no_personal_data() -> None:
    live_board, visitor = Board(), str(uuid4())
    live_board.add_events([row(visitor, path="/users/ada@example.com")], NOW)
    live_board.add_score({**record(0.5, visitor), "signals": {"secret": "Ada"}}, NOW)
    text = json.dumps(live_board.state(NOW))
    for personal in (visitor, visitor[:8], "ada", "Ada", "example.com"):
        assert personal not in text
    assert disguised(visitor) == disguised(visitor) != disguised("u1")
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", disguised("\ud800").name)


# --- with the sandbox ------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_sandbox(Settings(home=tmp_path))
    yield app.test_client()
    app.extensions["sandbox"].events.close()


def post_score(client: FlaskClient, body: Any, bearer: str | None = None) -> int:
    home = Path(client.application.config["PROSPECT_HOME"])
    headers = {"Authorization": f"Bearer {token(home) if bearer is None else bearer}"}
    return client.post("/sandbox/scores", json=body, headers=headers).status_code


def test_events_and_scores_are_sent_to_the_sandbox(client: FlaskClient) -> None:
    event = {"e": "pv", "eid": str(uuid4()), "duid": "u1", "url": "https://s.example/demo"}
    address = "/com.snowplowanalytics.snowplow/tp2"
    client.post(address, data=json.dumps({"data": [event, {"e": "?"}]}))
    assert post_score(client, record(0.75)) == 200
    assert post_score(client, record(0.1), bearer="wrong") == 401
    assert post_score(client, [1]) == post_score(client, record(10**400)) == 422
    (one,) = client.get("/board/state").get_json()["visitors"]
    assert (one["page"], one["scores"][0][1], len(one["scores"])) == ("/demo", 0.75, 1)
    client.post("/micro/reset")
    assert client.get("/board/state").get_json()["visitors"] == []


def test_the_page_loads_only_files_of_this_site(client: FlaskClient) -> None:
    answer = client.get("/board")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    names = re.findall(r'"/assets/(board\.\w+)"', answer.text)
    assert sorted(names) == ["board.css", "board.js"]
    text = answer.text + "".join((WEBSITE / "assets" / name).read_text() for name in names)
    assert re.findall(r"https?://[^\"'\s]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_board_in_a_browser(client: FlaskClient, browser: Browser) -> None:
    problems: list[str] = []
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    with Server(client.application, port=0) as running:
        page.goto(f"{running.url}/board")
        expect(page.get_by_role("status")).to_have_text("live")
        expect(page.get_by_text("Nobody is here.")).to_be_visible()
        visitor = str(uuid4())
        visit = scripted_visitor(visitor, visitor, "https://s.example", start=datetime.now(UTC))
        *steps, (_, final) = visit
        events = [payload for _, payloads in steps for payload in payloads]
        send(running.url, events)
        post_score(client, record(0.82, visitor, act=True))
        card = page.locator(".card")
        expect(card.locator(".score")).to_have_text("82%")
        expect(page.locator(".legend .line")).to_have_text("score from which to act: 50%")
        expect(card).to_contain_text(disguised(visitor).name)
        expect(card).to_have_class(re.compile("act"))
        expect(card.locator(".ticks i")).to_have_count(len(events))
        expect(card).not_to_contain_text("held out")
        held_out = record(0.82, visitor)
        held_out["decision"]["held_out"] = True
        post_score(client, held_out)
        expect(card).to_have_class(re.compile("held-out"))
        expect(card.locator(".where")).to_contain_text("held out")
        expect(page.locator(".feed li").first).to_contain_text("fills in a field")
        send(running.url, final)
        expect(page.locator(".converted")).to_have_count(2)  # the list, and the card
        expect(page.locator(".converted .was")).to_contain_text("the last score was 82%")
        expect(page.locator("[data-slot=conversions]")).to_have_text("1")
        page.goto("about:blank")
    assert problems == []
