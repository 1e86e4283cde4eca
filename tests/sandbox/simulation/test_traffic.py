"""Live traffic: payloads are those of a tracker, and the collector accepts them."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from flask import Flask, request

from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.simulation import traffic
from prospect_lib.sandbox.simulation.traffic import ScoreRequests
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.server.announcement import announce
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from tests.conftest import free_port

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
VISITOR, SESSION = "11111111-1111-4111-a111-111111111111", "22222222-2222-4222-a222-222222222222"
PLAYER = "contexts_com_snowplowanalytics_snowplow_media_player_2"


class Collector(HTTPServer):
    """Takes batches and answers with ``status``."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, str, dict[str, Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, self.headers["User-Agent"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"text")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def script() -> list[traffic.Payload]:
    visit = traffic.scripted_visitor(VISITOR, SESSION, "https://s.example", start=NOW)
    return [payload for _, payloads in visit for payload in payloads]


def test_every_value_is_text_and_every_event_becomes_a_row() -> None:
    payloads = script()
    assert all(isinstance(value, str) for payload in payloads for value in payload.values())
    assert len({UUID(payload["eid"]) for payload in payloads}) == len(payloads)
    rows = [enrich(payload, at=NOW) for payload in payloads]
    assert {row["domain_userid"] for row in rows} == {VISITOR}
    times = [row["derived_tstamp"] for row in rows]
    assert times == sorted(times)
    names = [row["event_name"] for row in rows]
    forms = [name for name in names if name.endswith("_form")]
    assert forms == ["focus_form", "change_form", "submit_form"]
    assert rows[-1]["page_urlpath"] == "/thank-you"
    film = rows[names.index("play_event")]
    assert film["event_vendor"] == "com.snowplowanalytics.snowplow.media"
    assert film[PLAYER][0].keys() >= {"currentTime", "paused", "ended"}


def test_typed_text_is_masked() -> None:
    forms = [p for p in script() if p["e"] == "ue" and "/demo" in p["url"]]
    assert len(forms) == 3
    for payload in forms:
        data = json.loads(payload["ue_pr"])["data"]["data"]
        assert {field["value"] for field in data.get("elements", [data])} == {traffic.MASKED}


def test_a_batch_is_sent_as_trackers_do(collector: Collector) -> None:
    traffic.send(f"http://127.0.0.1:{collector.server_port}", script()[:2], user_agent="A/1")
    [(path, agent, body)] = collector.received
    assert path == "/com.snowplowanalytics.snowplow/tp2" and agent == "A/1"
    assert body["schema"].endswith("/payload_data/jsonschema/1-0-4") and len(body["data"]) == 2


@pytest.mark.parametrize("status", [204, 400, 500])
def test_a_refused_batch_is_an_error(collector: Collector, status: int) -> None:
    collector.status = status
    with pytest.raises(ServiceError, match=str(status)):
        traffic.send(f"http://127.0.0.1:{collector.server_port}", script()[:1])


def test_without_a_collector_the_error_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, sandbox_port=free_port())
    with pytest.raises(ServiceError, match="prospect_lib sandbox"):
        traffic.send(settings.sandbox_url, script()[:1])


def test_a_replayed_event_is_stored_as_it_was_simulated() -> None:
    world = simulate(40, 5, end=NOW, seed=2).events.to_pylist()
    nested = [name for name in world[0] if name.startswith(("unstruct_", PLAYER))]
    same = ("app_id", "event_name", "event_vendor", "event_version", "page_url", "page_urlpath",
            "mkt_medium", "mkt_campaign", "refr_medium", "refr_source")  # fmt: skip
    assert any(row[PLAYER] for row in world)
    for row in world:
        row_again = enrich(traffic._replayed(row, "0" * 8), at=NOW, user_agent=row["useragent"])
        assert {name: row_again.get(name) for name in same} == {name: row[name] for name in same}
        device = json.loads(row["contexts_nl_basjes_yauaa_context_1"])
        assert (
            row_again["contexts_nl_basjes_yauaa_context_1"][0]["deviceClass"]
            == (device[0]["deviceClass"])
        )
        for name in nested:
            assert row_again.get(name) == (json.loads(row[name]) if row[name] else None)


def test_a_schedule_is_in_order_and_each_run_has_its_own_visitors() -> None:
    first, second = (traffic._schedule(np.random.default_rng(0), 20, 60, 0) for _ in range(2))
    for queue in (first, second):
        assert [due for due, _, _ in queue] == sorted(due for due, _, _ in queue)
    assert not {p["duid"] for _, p, _ in first} & {p["duid"] for _, p, _ in second}


def test_live_visitors_arrive_now(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(traffic.time, "sleep", lambda _: None)
    settings = Settings(home=tmp_path, sandbox_port=collector.server_port)
    before = datetime.now(UTC).timestamp() * 1000 - 1
    sent = traffic.live(settings, visitors_per_minute=20, duration=15, seed=3)
    payloads = [body["data"][0] for _, _, body in collector.received]
    assert sent == len(payloads) > 0
    assert all(float(payload["dtm"]) >= before for payload in payloads)


def test_an_interrupt_ends_live_traffic_quietly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[str] = []

    def third_is_too_many(*_: Any, **__: Any) -> None:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(str(uuid4()))

    monkeypatch.setattr(traffic, "send", third_is_too_many)
    monkeypatch.setattr(traffic.time, "sleep", lambda _: None)
    settings = Settings(home=tmp_path)
    assert traffic.live(settings, visitors_per_minute=60, duration=10, seed=0) == 2


def test_scores_are_requested_as_pages_do(home_settings: Settings) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def predict() -> str:
        asked.append((request.headers.get("Authorization", ""), request.get_json()))
        return "{}"

    app = Flask(__name__)
    app.add_url_rule("/predict", view_func=predict, methods=["POST"])
    home_settings.home.mkdir()
    scores = ScoreRequests(home_settings)
    with Server(app, port=0) as server:
        scores.submit({"duid": "nobody asks while no server is announced"})
        announce(home_settings.home, server.url, "secret")
        scores.submit({"duid": "v1"})
        announce(home_settings.home, server.url)
        scores.submit({"duid": "v2"})
        scores.close()
    assert asked == [("Bearer secret", {"domain_userid": "v1"}), ("", {"domain_userid": "v2"})]
