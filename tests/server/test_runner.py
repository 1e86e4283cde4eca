"""The web server: it starts, answers, stops without losing a request, and explains a taken port."""

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from prospect_lib.errors import SettingsError
from prospect_lib.server.app import Server
from prospect_lib.server.runner import WebServer
from prospect_lib.settings import Settings
from tests.support.serving import (
    OTHER_VISITOR,
    VISITOR,
    MemoryAttributes,
    app_of,
    in_threads,
    post_to,
)
from tests.support.waiting import wait_for


class Gate(MemoryAttributes):
    """Attributes that are read when a gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def read(self, identifier: str) -> dict[str, object]:
        self.entered.set()
        self.opened.wait(60)
        return super().read(identifier)


def test_a_server_starts_answers_and_stops_again_and_again():
    server = Server(app_of(), port=0)
    with server as running:
        assert running.start() is running
        assert post_to(server.url).json()["score"] == 0.6
    server.stop()
    with pytest.raises(requests.ConnectionError):
        post_to(server.url)
    with server:
        assert post_to(server.url).status_code == 200


def test_stopping_leaves_no_thread_and_no_connection_behind():
    threads = set(threading.enumerate())
    with Server(app_of(), port=0) as server, requests.Session() as session:
        session.get(f"{server.url}/health", timeout=10)
        server.stop()
        wait_for(lambda: set(threading.enumerate()) <= threads)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_stopping_while_another_thread_wakes_the_server_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = WebServer(Flask("empty"), "127.0.0.1", 0, threads=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    pull = server.trigger.pull_trigger

    def pulled_late(thunk: Any = None) -> None:
        pull(thunk)
        thread.join(0.2)  # time in which the other thread's wake-up could close the trigger
        pull()

    monkeypatch.setattr(server.trigger, "pull_trigger", pulled_late)
    server.stop(patience=1)
    thread.join(10)
    assert not thread.is_alive()


def test_stopping_answers_the_requests_in_flight():
    attributes = Gate()
    server = Server(app_of(attributes=attributes), port=0).start()
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(post_to(server.url).status_code))
    asking.start()
    assert attributes.entered.wait(60)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    attributes.opened.set()
    stopping.join(60)
    asking.join(60)
    assert answers == [200]


def test_stopping_gives_up_on_a_request_that_does_not_end():
    attributes = Gate()
    server = Server(app_of(attributes=attributes), port=0, patience=0.1).start()

    def lose_the_connection() -> None:
        with pytest.raises(requests.ConnectionError):
            post_to(server.url)

    asking = threading.Thread(target=lose_the_connection)
    asking.start()
    assert attributes.entered.wait(60)
    server.stop()
    asking.join(60)
    assert not asking.is_alive()
    attributes.opened.set()


def test_stopping_writes_the_scores_that_were_served(tmp_path: Path):
    settings = Settings(home=tmp_path, sandbox_port=1)
    with Server(app_of(settings=settings, push=lambda *_: "success"), port=0) as server:
        for _ in range(5):
            assert post_to(server.url).status_code == 200
    served = (tmp_path / "served" / "2026-11-23.ndjson").read_text().splitlines()
    assert [json.loads(line)["domain_userid"] for line in served] == [VISITOR] * 5


def test_a_port_in_use_is_explained():
    with (
        Server(app_of(), port=0) as first,
        pytest.raises(SettingsError, match=rf":{first.port}: the port is in use.*PREDICT_PORT"),
    ):
        Server(app_of(), port=first.port).start()


def test_an_address_of_another_machine_is_explained():
    with pytest.raises(SettingsError, match=r"cannot serve on 203\.0\.113\.9:\d+: \w+"):
        Server(app_of(), host="203.0.113.9", port=0).start()


def test_a_tunnels_headers_reach_the_application():
    with Server(app_of(), port=0) as server:
        assert post_to(server.url).status_code == 200
        for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Host": "abc.ngrok.app"}):
            assert post_to(server.url, headers=headers).status_code == 401


def test_a_large_body_is_refused_and_the_connection_goes_on():
    with Server(app_of(), port=0) as server, requests.Session() as session:
        for size in (4097, 100_000):
            response = session.post(
                f"{server.url}/predict",
                data=b" " * size,
                headers={"Content-Type": "application/json"},
                timeout=10,
            )
            assert (response.status_code, response.json()["status"]) == (413, 413)
        assert session.get(f"{server.url}/health", timeout=10).status_code == 200


@pytest.mark.parametrize("path", ["//x", "//x/predict", "/%", "/%ff", "/?%", "/a%20b"])
def test_an_odd_path_is_answered_and_the_connection_goes_on(path):
    with Server(app_of(), port=0) as server:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for _ in range(3):
            link.request("GET", path)
            response = link.getresponse()
            assert response.read()
            assert response.status in (404, 405)
            assert response.headers["Content-Type"] == "application/problem+json"
        link.close()


def test_many_clients_at_once_are_answered():
    with Server(app_of(), port=0) as server:
        statuses = in_threads(32, lambda: [post_to(server.url).status_code for _ in range(5)])
    assert {status for of_thread in statuses for status in of_thread} == {200}


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The sockets that servers in this process accept."""
    sockets: list[socket.socket] = []
    accept = socket.socket.accept

    def noted(listening: socket.socket):
        connection, address = accept(listening)
        sockets.append(connection)
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", noted)
    yield sockets


def test_no_answer_waits_for_an_acknowledgement(accepted):
    # Headers and body go out in two writes. With Nagle's algorithm the second one would wait
    # for the client's delayed acknowledgement of the first: 40 ms.
    with Server(app_of(), port=0) as server:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        options = Counter[bool]()
        for visitor in (VISITOR, OTHER_VISITOR):
            link.request("POST", "/predict", json.dumps({"domain_userid": visitor}),
                         {"Content-Type": "application/json"})  # fmt: skip
            assert link.getresponse().read()
            for connection in accepted:
                nodelay = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                options[bool(nodelay)] += 1
        link.close()
    assert options == {True: 2}, "one connection for both requests, and without Nagle"
