"""The prediction server with the real SDK and the local sandbox, a process of its own."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from snowplow_signals import RuleIntervention

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import ServiceError
from prospect_lib.monitoring import measure_outcomes, read_served
from prospect_lib.monitoring.effect import Arm, Effect
from prospect_lib.problem import prospect_problem
from prospect_lib.sandbox import token
from prospect_lib.sandbox.simulation.traffic import happening_now, scripted_visitor, send
from prospect_lib.sandbox.website.disguise import disguised
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.interventions import is_held_out, pusher
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse
from tests.support.serving import Rule, post_to
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def settings(running: Settings) -> Settings:
    signals.connect(running).publish([prospect_group, prospect_service])
    return running


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    app = create_app(Rule(), signals.reader(settings), settings)
    with Server(app, port=0) as running:
        yield running


def see_pricing(settings: Settings, visitor: str, session: str = "s1") -> None:
    """A page view as the browser's tracker sends it."""
    now = str(int(time.time() * 1000))
    event = {
        "e": "pv", "eid": str(uuid.uuid4()), "tv": "js-4", "aid": "website", "p": "web",
        "dtm": now, "stm": now, "duid": visitor, "sid": session, "vid": "1",
        "url": "https://example.com/pricing", "page": "Pricing",
    }  # fmt: skip
    schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
    answer = requests.post(
        f"{settings.sandbox_url}/com.snowplowanalytics.snowplow/tp2",
        json={"schema": schema, "data": [event]},
        timeout=5,
    )
    assert answer.status_code == 200


def predict(server: Server, visitor: str) -> dict[str, Any]:
    response = post_to(server.url, visitor)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_cold_visitor_gets_a_score_and_a_warm_one_another(settings, server):
    visitor = str(uuid.uuid4())
    cold = predict(server, visitor)
    assert (cold["cold_start"], cold["score"]) == (True, 0.0)
    see_pricing(settings, visitor)
    warm = predict(server, visitor)
    assert (warm["cold_start"], warm["score"], warm["stale"]) == (False, 0.3, False)
    assert warm["signals"]["latest_app_id"] == "website"
    sdk = signals.connect(settings)
    expected = sdk.get_service_attributes(prospect_service.name, "domain_userid", visitor)
    assert warm["signals"] == expected


def test_a_missing_service_is_named(settings):
    service = prospect_service.model_copy(update={"name": "nothing_like_it"})
    with pytest.raises(ServiceError, match="no service 'nothing_like_it'"):
        signals.reader(settings, replace(prospect_problem, service=service)).read("x")


@contextmanager
def interventions_for(settings: Settings, visitor: str) -> Iterator[list[Any]]:
    """The interventions that reach a visitor while the block runs."""
    address = f"{settings.sandbox_url}/api/v1/interventions?domain_userid={visitor}"
    received: list[Any] = []
    with requests.get(address, stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"

        def listen() -> None:
            for line in lines:
                if line.startswith(b"data: "):
                    received.append(json.loads(line.removeprefix(b"data: ")))
                    if received[-1]["name"] == "end":
                        return

        listening = threading.Thread(target=listen)
        listening.start()
        yield received
        assert pusher(settings, "end")(visitor, {}) == "success"
        listening.join(60)
        assert received.pop()["name"] == "end"


def test_an_invitation_reaches_the_visitor_once(settings, server):
    visitor = str(uuid.uuid4())
    with interventions_for(settings, visitor) as received:
        for _ in range(3):
            see_pricing(settings, visitor)
            predict(server, visitor)
        server.stop()  # waits until every intervention has been pushed
    (invitation,) = received
    assert (invitation["name"], invitation["version"]) == ("invite", 1)
    assert invitation["attributes"]["score"] == "0.6000"


def test_a_holdout_is_measured_from_the_answer_to_the_outcomes(settings, tmp_path):
    """Two visitors are invited and two held out; the first of each sends the form."""
    (tmp_path / "token").write_text(token(settings.home))
    own_log = replace(settings, home=tmp_path)
    app = create_app(Rule(), signals.reader(settings), own_log, options=Options(holdout=0.5))
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(20)]
    arms = {held: [i for i in ids if is_held_out(i, 0.5, "invite") == held][:2] for held in (0, 1)}
    invitations: list[str] = []
    with Server(app, port=0) as server:
        for held_out, visitors in arms.items():
            for visitor in visitors:
                start = datetime.now(UTC)
                visit = scripted_visitor(visitor, visitor, "https://s.example", start=start)
                *steps, (_, form) = visit
                events = [payload for _, payloads in steps for payload in payloads]
                send(settings.sandbox_url, happening_now(events))
                with interventions_for(settings, visitor) as received:
                    decisions = [predict(server, visitor)["decision"] for _ in range(2)]
                    app.extensions["prospect_closers"][0]()  # waits for what is pushed
                assert decisions == [
                    {"name": "invite", "threshold": 0.5, "act": not held_out,
                     "suppressed_by": None, "held_out": bool(held_out), "holdout_share": 0.5}
                ] * 2  # fmt: skip
                invitations += [visitor for _ in received]
                if visitor == visitors[0]:
                    send(settings.sandbox_url, happening_now(form))
        shown = requests.get(f"{settings.sandbox_url}/board/state", timeout=10).json()["visitors"]
    assert invitations == arms[False]
    on_the_board = {visitor["key"]: visitor["held_out"] for visitor in shown}
    assert {on_the_board[disguised(visitor).key] for visitor in arms[True]} == {True}
    assert {on_the_board[disguised(visitor).key] for visitor in arms[False]} == {False}
    served = read_served(tmp_path / "served", prospect_problem)
    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    with closing(DuckDBWarehouse.over_home(settings.home)) as warehouse:
        effect = measure_outcomes(warehouse, served, until=in_two_hours).effect()
    assert effect == Effect(Arm(2, 1), Arm(2, 1), share=0.5, design_effect=effect.design_effect)


VERSIONED = f"{prospect_group.name}_v{prospect_group.version}"


def rule(operator: str, value: Any = None, group: str = VERSIONED, **more: Any) -> RuleIntervention:
    """A rule on the number of pricing pages seen; each has a name of its own."""
    criterion = {
        "attribute": f"{group}:num_pricing_views_l7d",
        "operator": operator,
        "value": value,
    }
    return RuleIntervention(
        name=f"keen_{uuid.uuid4().hex}",
        version=1,
        owner="a@example.com",
        criteria=criterion,
        **more,
    )


@pytest.mark.parametrize(("operator", "value", "times"), [(">=", 2, 1), ("changed", None, 4)])
def test_a_rule_without_a_model_fires_when_it_turns_true(settings, operator, value, times):
    link = {"name": prospect_group.name, "version": prospect_group.version}
    published = rule(operator, value, payload_attribute_groups=[link])
    signals.connect(settings).publish([published])
    visitor = str(uuid.uuid4())
    with interventions_for(settings, visitor) as received:
        for _ in range(4):
            see_pricing(settings, visitor)
        see_pricing(settings, str(uuid.uuid4()))
    fired = [each["attributes"] for each in received if each["name"] == published.name]
    assert len(fired) == times
    assert fired[0]["num_pricing_views_l7d"] == str(value or 1)
    assert fired[0]["latest_app_id"] == "website"


def test_a_rule_that_fires_before_the_page_listens_is_delivered_when_it_does(settings):
    published = rule(">", 0, group=prospect_group.name)
    signals.connect(settings).publish([published])
    visitor = str(uuid.uuid4())
    see_pricing(settings, visitor)
    for expected in (1, 0):
        with interventions_for(settings, visitor) as received:
            pass
        assert [each["name"] for each in received].count(published.name) == expected


def test_a_page_that_was_left_is_not_reported_as_reached(settings):
    visitor = str(uuid.uuid4())
    address = f"{settings.sandbox_url}/api/v1/interventions?domain_userid={visitor}"
    push = pusher(settings, "invite")
    with requests.get(address, stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"
        assert push(visitor, {}) == "success"
    wait_for(lambda: push(visitor, {}) != "success")


def test_the_board_shows_every_score(settings, server):
    visitors = [str(uuid.uuid4()) for _ in range(3)]
    scores = {disguised(visitor).key: predict(server, visitor)["score"] for visitor in visitors}

    def shown() -> set[str]:
        """Keys of the visitors whose only score on the board is the one that was answered."""
        state = requests.get(f"{settings.sandbox_url}/board/state", timeout=10).json()
        return {
            visitor["key"]
            for visitor in state["visitors"]
            if [round(scores.get(visitor["key"], -1), 4)]
            == [score for _, score in visitor["scores"]]
        }

    wait_for(lambda: shown() == set(scores))


def test_while_the_sandbox_is_down_known_visitors_get_stale_scores(settings, server):
    visitor = str(uuid.uuid4())
    see_pricing(settings, visitor)
    first = predict(server, visitor)
    sandbox.stop(settings)
    stale = predict(server, visitor)
    assert stale["stale"]
    assert stale["signals"] == first["signals"]
    unknown = post_to(server.url, str(uuid.uuid4()))
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "1")
    assert "Signals cannot be reached" in unknown.json()["detail"]
    sandbox.ensure_running(settings)
    wait_for(lambda: not predict(server, visitor)["stale"])
