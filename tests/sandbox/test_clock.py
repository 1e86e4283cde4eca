"""The clock is set back an hour: no event is lost, nothing is negative, nothing lasts for ever."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from prospect_lib import sandbox
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.server.app import Options, create_app
from prospect_lib.server.interventions import SESSION_SECONDS, Invitations
from prospect_lib.settings import Settings
from tests.sandbox.test_credentials import ORGANIZATIONS
from tests.support.sandbox import page_view
from tests.support.serving import Rule

START = datetime(2026, 1, 5, 15, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class World:
    """A sandbox and a prediction server that have one clock, ``now``."""

    def __init__(self, home: Path) -> None:
        self.now, self.home = START, home
        self.client = self._start()
        for kind, published in (
            ("attribute_groups", prospect_group),
            ("services", prospect_service),
        ):
            body = {**published.model_dump(mode="json", by_alias=True), "is_published": True}
            if kind == "attribute_groups":
                body["backfill_since_tstamp"] = "2026-01-01T00:00:00Z"
            assert self.call(f"registry/{kind}/", body).status_code == 200
        options = Options(caller_limit="2 per minute")
        app = create_app(Rule(), self, options=options, clock=lambda: self.now)
        self.server = app.test_client()

    def _start(self) -> FlaskClient:
        return create_sandbox(Settings(home=self.home), clock=lambda: self.now).test_client()

    def restart(self) -> None:
        self.client.application.extensions["sandbox"].events.close()
        self.client = self._start()

    def call(self, path: str, body: dict[str, Any], token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token or sandbox.token(self.home)}"}
        return self.client.post(f"/api/v1/{path}", json=body, headers=headers)

    def view(self, **fields: str) -> dict[str, str]:
        event = page_view(**{"url": "https://s.example/pricing", "sid": "s1", **fields})
        self.client.post("/com.snowplowanalytics.snowplow/tp2", json={"data": [event]})
        return event

    def read(self, identifier: str) -> dict[str, Any]:
        """Return a visitor's attributes, as the source of the prediction server."""
        body = {"service": prospect_service.name, "attribute_keys": {"domain_userid": [identifier]}}
        return {
            name: value for name, [value] in self.call("get-online-attributes", body).json.items()
        }

    @property
    def present(self) -> int:
        here: int = self.client.get("/board/state").get_json()["here"]
        return here


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.client.application.extensions["sandbox"].events.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_events_are_neither_lost_nor_doubled(world: World, restarted: bool) -> None:
    events = []
    for _ in range(3):
        events.append(world.view())
        world.now += MINUTE
    world.now -= HOUR
    if restarted:
        world.restart()
    events.append(world.view())
    world.view(**events[0])  # sent again
    assert world.client.get("/micro/all").get_json() == {"good": 4, "bad": 0, "total": 4}
    values = world.read("u1")
    assert values["num_page_views_l7d"] == 1, "those that are in the future do not count yet"
    assert all(value >= 0 for value in values.values() if isinstance(value, int | float))
    world.now += HOUR
    assert world.read("u1")["num_page_views_l7d"] == 4
    times = [row["event"]["derived_tstamp"] for row in world.client.get("/micro/good").get_json()]
    assert len({*times}) == 4


def test_scores_go_on(world: World) -> None:
    world.view()
    world.now -= HOUR
    for _ in range(2):
        answer = world.server.post("/predict", json={"domain_userid": "u1"})
        assert answer.status_code == 200 and answer.get_json()["score"] >= 0
        world.view()


def test_a_visitor_of_the_board_leaves(world: World) -> None:
    world.view()
    world.now -= HOUR
    assert world.present == 0, "who was there before the clock was set back"
    world.view()
    assert world.present == 1
    world.now += 3 * MINUTE
    assert world.present == 0


def test_an_issued_token_is_valid_for_a_day_and_no_longer(world: World) -> None:
    headers = {"X-API-Key": sandbox.token(world.home), "X-API-Key-Id": "k"}
    answer = world.client.get(f"/{ORGANIZATIONS}/o/credentials/v3/token", headers=headers)
    issued = answer.get_json()["accessToken"]
    body = {"service": prospect_service.name, "attribute_keys": {"domain_userid": [str(uuid4())]}}
    for at, status in ((-HOUR, 200), (24 * HOUR, 401)):
        world.now = START + at
        assert world.call("get-online-attributes", body, issued).status_code == status


def test_a_rate_limit_ends_with_its_window(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the library for rate limits follows the machine's clock."""
    seconds, headers = START.timestamp(), {"X-Forwarded-For": "203.0.113.9"}
    monkeypatch.setattr(time, "time", lambda: seconds)
    statuses = [world.server.get("/health", headers=headers).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    seconds -= HOUR.total_seconds()
    assert world.server.get("/health", headers=headers).status_code == 200


def test_a_session_without_a_name_ends_half_an_hour_after_its_last_score() -> None:
    now = START.timestamp()
    invitations = Invitations(None, clock=lambda: now)
    assert invitations.claim("u1", "")
    now -= HOUR.total_seconds()
    assert not invitations.claim("u1", "")
    now += SESSION_SECONDS
    assert invitations.claim("u1", "")
    invitations.close()
