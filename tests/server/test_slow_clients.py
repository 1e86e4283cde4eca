"""Whatever clients send or leave out, others are answered; the limits are per connection."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.server import runner
from prospect_lib.server.app import Options, Server
from tests.support.fuzzing import drawing
from tests.support.serving import VISITOR, app_of, post_to
from tests.support.waiting import wait_for

#: The start of a request whose end does not come.
UNFINISHED = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le"


@contextlib.contextmanager
def clients(port: int, number: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections, send the same bytes on each, and leave them open."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            opened.append(stack.enter_context(client))
            client.sendall(sent)
        yield opened


def answer_to(port: int, sent: bytes) -> requests.Response | None:
    """Send bytes and nothing after them; return the answer, ``None`` if there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    if not head:
        return None
    answer = requests.Response()
    first, *lines = head.decode("latin-1").split("\r\n")
    answer.status_code, answer._content = int(first.split()[1]), body
    answer.headers.update(line.split(": ", 1) for line in lines)
    return answer


@pytest.mark.parametrize("sent", [b"", UNFINISHED], ids=["silent", "unfinished"])
def test_more_silent_clients_than_threads_delay_nobody(sent):
    with Server(app_of(), port=0, threads=2) as server, clients(server.port, 110, sent):
        for _ in range(3):
            assert post_to(server.url).status_code == 200
            assert requests.get(f"{server.url}/health", timeout=10).status_code == 200


@pytest.mark.parametrize("sent", [b"", UNFINISHED], ids=["silent", "unfinished"])
@pytest.mark.parametrize("way", ["waits", "drips", "waits while the clock is set back"])
def test_a_client_that_does_not_finish_its_request_is_dropped(monkeypatch, way, sent):
    monkeypatch.setattr(runner, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(runner, "CROWDED_SECONDS", 0.1)
    with Server(app_of(), port=0) as server, clients(server.port, 1, sent) as [client]:
        client.settimeout(0.05)
        if "clock" in way:
            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() - 3600)

        def dropped() -> bool:
            try:
                if way == "drips":
                    client.sendall(b"n")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(dropped)
        assert post_to(server.url).status_code == 200


def test_with_few_open_files_silent_clients_make_room_for_others():
    program = (
        "import resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from prospect_lib.server.app import Server\n"
        "from tests.support.serving import app_of\n"
        "server = Server(app_of(), port=0).start()\n"
        "print(server.port, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with clients(port, 40):
            assert post_to(f"http://127.0.0.1:{port}").status_code == 200
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"BREW /health HTTP/1.1\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 404),
    ],
    ids=lambda value: repr(value[:48]) if isinstance(value, bytes) else None,
)
def test_what_is_not_http_is_answered_with_problem_details(server, sent, status):
    answer = answer_to(server.port, sent)
    assert answer is not None
    assert answer.status_code == status == answer.json()["status"]
    assert answer.headers["Content-Type"] == "application/problem+json"


# ---- random bytes ----

BODY = json.dumps({"domain_userid": VISITOR}).encode()
LINES = st.lists(
    st.sampled_from(
        [b"Host: 127.0.0.1", b"Content-Type: application/json", b"Content-Length: %d" % len(BODY),
         b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
         b"Expect: 100-continue", b"Connection: close", b"X-Forwarded-For: 1.2.3.4, ::1"]
    )
    | st.binary(max_size=40),
    max_size=6,
)  # fmt: skip
FIRST = st.builds(
    b"%s %s %s".__mod__,
    st.tuples(
        st.sampled_from([b"GET", b"POST", b"OPTIONS", b"HEAD", b"PUT", b"get"]) | st.binary(),
        st.sampled_from([b"/predict", b"/health", b"/metrics", b"/openapi.json", b"*", b"//x"])
        | st.binary(max_size=40),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]),
    ),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    limits = Options(caller_limit="1000000 per minute", visitor_limit="1000000 per minute")
    with Server(app_of(options=limits), port=0) as running:
        yield running


@drawing(100)
@given(first=FIRST, lines=LINES, body=st.sampled_from([BODY, b"", b"5\r\nabc"]) | st.binary())
def test_any_bytes_have_a_documented_answer(server, first, lines, body):
    answer = answer_to(server.port, b"\r\n".join([first, *lines, b"", body]))
    # no answer: what arrived is not a whole request
    assert answer is None or answer.status_code in (
        100, 200, 204, 400, 401, 403, 404, 405, 413, 415, 422,
    )  # fmt: skip
