"""Errors of the sandbox: problem details, no 500, and everybody else is still answered."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from prospect_lib.sandbox import token
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.signals_api.subscribers import MAX_LISTENERS
from prospect_lib.server.announcement import announce
from prospect_lib.settings import Settings
from tests.support.sandbox import page_view
from tests.support.waiting import wait_for

PROBLEM = "application/problem+json"
HUGE = "9" * 5000


def is_answered(settings: Settings) -> None:
    """Probes and trackers are."""
    for path in ("/health", "/i?" + "&".join(f"{k}={v}" for k, v in page_view().items())):
        assert requests.get(settings.sandbox_url + path, timeout=10).status_code == 200


@contextlib.contextmanager
def clients(settings: Settings, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            client = socket.create_connection(("127.0.0.1", settings.sandbox_port), 10)
            opened.append(stack.enter_context(client))
            client.sendall(sent)
        yield opened


@pytest.mark.parametrize("sent", [b"", b"POST /a/tp2 HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"])
def test_silent_clients_delay_nobody(running: Settings, sent: bytes) -> None:
    with clients(running, 110, sent):
        is_answered(running)


def listening(query: str) -> bytes:
    return f"GET /api/v1/interventions{query} HTTP/1.1\r\nHost: s\r\n\r\n".encode()


def test_listeners_are_bounded_whatever_they_listen_to(running: Settings) -> None:
    with clients(running, 60, listening("")) as opened:
        is_answered(running)
        assert {client.recv(12) for client in opened} == {b"HTTP/1.1 422"}
    targets = [listening("?domain_userid=one"), listening("?a=1&a=2&b=3")]
    with clients(running, 20, targets[0]) as some, clients(running, 20, targets[1]) as others:
        is_answered(running)
        statuses = [client.recv(12) for client in [*some, *others]]
        assert statuses.count(b"HTTP/1.1 200") == MAX_LISTENERS
        assert statuses.count(b"HTTP/1.1 429") == 40 - MAX_LISTENERS

    def enters() -> bool:
        with clients(running, 1, targets[0]) as [client]:
            return client.recv(12) == b"HTTP/1.1 200"

    wait_for(enters)  # those who have left make room


def test_a_prediction_server_that_hangs_delays_nobody_else(running: Settings) -> None:
    sent = b"POST /scores/predict HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        announce(running.home, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with clients(running, 60, sent) as opened:
            is_answered(running)
            assert opened[-1].recv(12) == b"HTTP/1.1 503"
    announce(running.home, None)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /a/tp2 HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST /a/tp2 HTTP/1.1\r\nHost: s\r\nContent-Length: x\r\n\r\n",
        b"POST /a/tp2 HTTP/1.1\r\nHost: s\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01 no HTTP\r\n\r\n",
    ],
    ids=["identity", "no length", "too large", "long header", "no HTTP"],
)
def test_what_is_not_http_gets_problem_details(running: Settings, sent: bytes) -> None:
    with clients(running, 1, sent) as [client]:
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"413") and PROBLEM.encode() in head and b"detail" in body
    is_answered(running)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"registry/attribute_groups/g/versions/{HUGE}", 404),
        ("PUT", f"registry/attribute_groups/g/versions/{HUGE}", 404),
        ("DELETE", "registry/attribute_groups/g/versions/-1", 404),
        ("POST", "get-online-attributes", 404),
        ("PATCH", "registry/services/", 405),
    ],
)
def test_numbers_of_any_length_are_answered(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    bearer = {"Authorization": f"Bearer {token(Path(client.application.config['PROSPECT_HOME']))}"}
    body = {"attributes": [f"g_v{HUGE}:a"], "attribute_keys": {"domain_userid": ["u"]}}
    answer = client.open(f"/api/v1/{path}", method=method, json=body, headers=bearer)
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM)


def test_a_fault_of_ours_is_a_503_without_its_message(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_arguments: object) -> None:
        raise KeyError("ada@example.com")

    monkeypatch.setattr(EventStore, "add", fails)
    for path in ("/i?e=pv", "/a/tp2"):
        answer = client.get(path) if "?" in path else client.post(path, data="{}")
        assert (answer.status_code, answer.mimetype) == (503, PROBLEM)
        assert "ada" not in answer.text + caplog.text and "KeyError in" in caplog.text


@pytest.mark.parametrize("path", ["/nothing", "/micro/good?limit=x", "/tracker/x.js", "/micro/no"])
def test_errors_are_problem_details(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.mimetype == PROBLEM
    assert answer.get_json()["status"] == answer.status_code < 500
