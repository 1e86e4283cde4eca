"""The prediction server, the real SDK and the local sandbox together."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from snowplow_signals import RuleIntervention

from prospect_lib import signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.website.disguise import disguised
from prospect_lib.server.app import Server, create_app
from prospect_lib.server.interventions import pusher
from prospect_lib.settings import Settings
from tests.support.serving import DOWN, Rule


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Server]:
    app = create_sandbox(Settings(home=tmp_path))
    with Server(app, port=0, patience=0.2) as server:
        yield server
    app.extensions["sandbox"].events.close()


@pytest.fixture
def settings(tmp_path: Path, sandbox: Server) -> Settings:
    found = replace(Settings(home=tmp_path), sandbox_port=sandbox.port)
    signals.connect(found).publish([prospect_group, prospect_service])
    return found


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
    answer = requests.post(f"{server.url}/predict", json={"domain_userid": visitor}, timeout=5)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_from_a_cold_start_to_a_score(settings, server):
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


def test_the_reader_and_the_sdk_agree_on_a_service_that_is_not_there(settings):
    missing = prospect_service.model_copy(update={"name": "nothing_like_it"})
    with pytest.raises(ServiceError, match="no service 'nothing_like_it'"):
        signals.reader(settings, missing).read(str(uuid.uuid4()))


def test_an_invitation_reaches_the_visitor_once(settings, server):
    visitor, heard = str(uuid.uuid4()), []
    address = f"{settings.sandbox_url}/api/v1/interventions?domain_userid={visitor}"
    with requests.get(address, stream=True, timeout=5) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"

        def listen() -> None:
            for line in lines:
                if line.startswith(b"data: "):
                    heard.append(json.loads(line.removeprefix(b"data: ")))
                    return

        listening = threading.Thread(target=listen)
        listening.start()
        for _ in range(3):
            see_pricing(settings, visitor)
            predict(server, visitor)
        listening.join(5)
    (invitation,) = heard
    assert (invitation["name"], invitation["version"]) == ("invite", 1)
    assert invitation["attributes"]["score"] == "0.6000"


VERSIONED = f"{prospect_group.name}_v{prospect_group.version}"


def rule(operator: str, value: Any = None, group: str = VERSIONED, **more: Any) -> RuleIntervention:
    criterion = {
        "attribute": f"{group}:num_pricing_views_l7d",
        "operator": operator,
        "value": value,
    }
    return RuleIntervention(
        name="keen", version=1, owner="a@example.com", criteria=criterion, **more
    )


@contextmanager
def heard_by(settings: Settings, visitor: str) -> Iterator[list[Any]]:
    """The interventions that reach a visitor."""
    address = f"{settings.sandbox_url}/api/v1/interventions?domain_userid={visitor}"
    heard: list[Any] = []
    with requests.get(address, stream=True, timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"

        def listen() -> None:
            for line in lines:
                if line.startswith(b"data: "):
                    heard.append(json.loads(line.removeprefix(b"data: ")))
                    if heard[-1]["name"] == "end":
                        return

        listening = threading.Thread(target=listen)
        listening.start()
        yield heard
        assert pusher(settings, "end")(visitor, {}) == "success"
        listening.join(5)
        assert heard.pop()["name"] == "end"


@pytest.mark.parametrize(("operator", "value", "times"), [(">=", 2, 1), ("changed", None, 4)])
def test_a_rule_needs_no_model_and_fires_when_it_turns_true(settings, operator, value, times):
    link = {"name": prospect_group.name, "version": prospect_group.version}
    carrying = rule(operator, value, payload_attribute_groups=[link])
    signals.connect(settings).publish([carrying])
    visitor = str(uuid.uuid4())
    with heard_by(settings, visitor) as heard:
        for _ in range(4):
            see_pricing(settings, visitor)
        see_pricing(settings, str(uuid.uuid4()))
    assert [found["name"] for found in heard] == ["keen"] * times
    assert heard[0]["attributes"]["num_pricing_views_l7d"] == str(value or 1)
    assert heard[0]["attributes"]["latest_app_id"] == "website"


def test_a_rule_that_fires_before_the_page_listens_waits_for_it(settings):
    signals.connect(settings).publish([rule(">", 0, group=prospect_group.name)])
    visitor = str(uuid.uuid4())
    see_pricing(settings, visitor)
    for expected in (1, 0):
        with heard_by(settings, visitor) as heard:
            pass
        assert len(heard) == expected


def test_who_has_left_is_not_taken_for_a_listener(settings):
    visitor = str(uuid.uuid4())
    address = f"{settings.sandbox_url}/api/v1/interventions?domain_userid={visitor}"
    push = pusher(settings, "invite")
    with requests.get(address, stream=True, timeout=5) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"
        assert push(visitor, {}) == "success"
    deadline = time.monotonic() + 5
    while push(visitor, {}) == "success":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_board_gets_every_score(server, sandbox):
    board = sandbox.app.extensions["sandbox"].board
    visitors = [str(uuid.uuid4()) for _ in range(3)]
    scores = {disguised(one).key: predict(server, one)["score"] for one in visitors}
    deadline = time.monotonic() + 5
    while (shown := seen_on(board, scores)) != set(scores) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert shown == set(scores)


def seen_on(board, scores):
    """Keys of the visitors whose only score on the board is the one that was answered."""
    return {
        one["key"]
        for one in board.state()["visitors"]
        if [round(scores.get(one["key"], -1), 4)] == [score for _, score in one["scores"]]
    }


def test_the_sandbox_is_killed_and_comes_back(settings, server, sandbox):
    visitor = str(uuid.uuid4())
    see_pricing(settings, visitor)
    first = predict(server, visitor)
    sandbox.stop()
    stale = predict(server, visitor)
    assert stale["stale"]
    assert stale["signals"] == first["signals"]
    body = {"domain_userid": str(uuid.uuid4())}
    unknown = requests.post(f"{server.url}/predict", json=body, timeout=5)
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "1")
    assert str(DOWN).split(".")[0].split(" ")[0] in unknown.json()["detail"]
    sandbox.start()
    deadline = time.monotonic() + 5
    while predict(server, visitor)["stale"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
