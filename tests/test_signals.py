"""Reading live attributes: the SDK's result at a fraction of its cost, and every failure."""

import contextlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from snowplow_signals import Service, Signals, SignalsSandbox

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.problem import prospect_problem
from prospect_lib.settings import Settings
from prospect_lib.signals import (
    MAX_CALLS_PER_KEY,
    AttributeReader,
    Calls,
    Token,
    connect,
    console_token,
    reader,
)
from tests.support.fake_signals import TOKEN, FakeSignals

VISITOR = "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"
ATTRIBUTES = {"num_page_views_l7d": 3, "num_apps_l7d": ["website"], "first_mkt_medium_l30d": None}


@pytest.fixture(scope="module")
def world():
    with FakeSignals(ATTRIBUTES) as fake:
        yield fake


@pytest.fixture
def fake(world):
    world.mode, world.modes, world.token = "ok", [], TOKEN
    world.calls.clear()
    world.connections = 0
    return world


def reader_of(fake: FakeSignals, token: str = TOKEN, **options: Any) -> AttributeReader:
    return AttributeReader(fake.url, Token(lambda: token), "a_service", **options)


def test_the_result_is_that_of_the_sdk(fake):
    sdk = SignalsSandbox(api_url=fake.url, sandbox_token=TOKEN)
    expected = sdk.get_service_attributes("a_service", "domain_userid", VISITOR)
    assert reader_of(fake).read(VISITOR) == expected == {"domain_userid": VISITOR, **ATTRIBUTES}


def test_the_request_is_that_of_the_sdk(fake):
    sdk = SignalsSandbox(api_url=fake.url, sandbox_token=TOKEN)
    sdk.get_service_attributes("a_service", "domain_userid", VISITOR)
    reader_of(fake).read(VISITOR)
    sdk_call, our_call = fake.calls
    assert our_call == sdk_call


def test_the_connection_is_kept_open(fake):
    reader = reader_of(fake)
    for _ in range(20):
        reader.read(VISITOR)
    assert (len(fake.calls), fake.connections) == (20, 1)


def test_a_dropped_connection_is_retried_once(fake):
    reader = reader_of(fake)
    fake.modes = ["ok", "drop", "ok"]
    assert reader.read(VISITOR) == reader.read(VISITOR)
    assert len(fake.calls) == 3


def test_a_connection_that_drops_twice_is_an_error(fake):
    fake.mode = "drop"
    with pytest.raises(ServiceError, match="cannot be reached"):
        reader_of(fake).read(VISITOR)
    assert len(fake.calls) == 2


@pytest.mark.parametrize("mode", ["slow", "drip", "headers"])
def test_a_slow_answer_is_given_up_while_it_lasts_and_not_retried(fake, mode):
    fake.mode = mode
    with pytest.raises(ServiceError, match=r"within 0\.3 s"):
        reader_of(fake, timeout=0.3).read(VISITOR)
    assert len(fake.calls) == 1


def test_calls_that_hang_take_a_bounded_number_of_threads_and_more_fail_at_once(fake):
    reader = reader_of(fake, timeout=0.3, max_calls=2)
    fake.mode = "headers"
    for _ in range(2):
        with pytest.raises(ServiceError, match="did not answer within"):
            reader.read(VISITOR)
    for _ in range(3):
        with pytest.raises(ServiceError, match="2 calls to Signals have not been answered yet"):
            reader.read(VISITOR)
    assert len(fake.calls) == 2


def test_calls_about_one_visitor_leave_threads_for_others(fake):
    reader = reader_of(fake, timeout=0.1, max_calls=MAX_CALLS_PER_KEY + 1)
    fake.mode = "headers"
    for _ in range(MAX_CALLS_PER_KEY):
        with pytest.raises(ServiceError, match="did not answer within"):
            reader.read(VISITOR)
    with pytest.raises(ServiceError, match="4 calls about this identifier to Signals have not"):
        reader.read(VISITOR)
    fake.mode, reader.timeout = "ok", 30
    assert reader.read("another visitor")["domain_userid"] == "another visitor"


def test_a_call_that_hangs_does_not_keep_python_from_ending(fake):
    fake.mode = "headers"
    program = (
        "from prospect_lib.signals import AttributeReader, ServiceError, Token\n"
        f"token = Token(lambda: {TOKEN!r})\n"
        "try:\n"
        f"    AttributeReader({fake.url!r}, token, 'a_service', timeout=0.3).read({VISITOR!r})\n"
        "except ServiceError as error:\n"
        "    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, capture_output=True, text=True
    )
    assert "did not answer within 0.3 s" in run.stdout


def test_an_idle_thread_is_used_again_and_ends(monkeypatch):
    monkeypatch.setattr("prospect_lib.signals._IDLE_SECONDS", 0.05)
    calls = Calls(4, "a service")
    threads = {calls.run(threading.current_thread, timeout=30) for _ in range(3)}
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert calls.run(lambda: 7, timeout=30) == 7


def test_calls_of_many_threads_return_their_own_results():
    calls = Calls(8, "a service")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: calls.run(lambda: n, timeout=30), range(2000)))
    assert results == list(range(2000))


def test_a_slow_token_counts_towards_the_timeout(fake):
    released = threading.Event()
    token = Token(lambda: str(released.wait(30)))
    reader = AttributeReader(fake.url, token, "a_service", timeout=0.1)
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"within 0\.1 s"):
            reader.read(VISITOR)
    released.set()
    assert fake.calls == []


def test_a_closed_port():
    with FakeSignals({}) as gone:
        pass
    with pytest.raises(ServiceError, match="cannot be reached"):
        reader_of(gone).read(VISITOR)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("401", "refuses the token"),
        ("403", "may not read"),
        ("404", "no service 'a_service'"),
        ("422", "cannot use the request"),
        ("500", "answered 500"),
        ("302", "answered 302"),
    ],
)
def test_the_message_explains_the_status(fake, status, reason):
    fake.mode = status
    with pytest.raises(ServiceError, match=reason) as caught:
        reader_of(fake).read(VISITOR)
    assert TOKEN not in str(caught.value)
    assert VISITOR not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"a": 1}',
        b'{"a": [NaN]}',
        b'{"a": [1, 2]}',
        b'{"domain_userid": ["someone-else"], "a": [1]}',
        b'{"domain_userid": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ["' + b"x" * (1 << 20) + b'"]}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_malformed_answer_is_an_error(fake, body):
    fake.mode, fake.body = "body", body
    with pytest.raises(ServiceError):
        reader_of(fake).read(VISITOR)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_row_or_a_service_error(fake, answer: Any):
    fake.mode, fake.body = "body", json.dumps(answer).encode()
    with contextlib.suppress(ServiceError):
        assert isinstance(reader_of(fake).read(VISITOR), dict)


def a_jwt(expires: float, name: str = "") -> str:
    return jwt.encode({"exp": expires, "name": name}, "k" * 32)


def test_a_token_is_kept_until_a_minute_before_it_expires():
    now, fetched = [1000.0], []

    def fetch() -> str:
        fetched.append(now[0])
        return a_jwt(now[0] + 600)

    token = Token(fetch, clock=lambda: now[0])
    for now[0] in (1000, 1100, 1539, 1541, 1600, 2200):
        token.value()
    assert fetched == [1000, 1541, 2200]


def test_a_refused_token_is_replaced_and_the_request_sent_again(fake):
    tokens = iter(["old", TOKEN])
    renewing = AttributeReader(fake.url, Token(lambda: next(tokens)), "a_service")
    assert renewing.read(VISITOR)["num_page_views_l7d"] == 3
    assert len(fake.calls) == 2


def test_a_token_that_stays_the_same_is_not_sent_again(fake):
    with pytest.raises(ServiceError, match="refuses the token"):
        reader_of(fake, token="wrong").read(VISITOR)
    assert len(fake.calls) == 1


def test_the_console_exchanges_an_api_key_for_a_token():
    with FakeSignals({}) as console:
        console.answer = lambda call: _console(call)  # type: ignore[method-assign]
        assert console_token("org", "id", "key", console=console.url) == "abc"
        with pytest.raises(ServiceError, match="answered 401 to the API key"):
            console_token("org", "id", "wrong", console=console.url)
        with pytest.raises(ServiceError, match="gives no token"):
            console_token("org", "garbage", "key", console=console.url)
        console.answer = console.send_endless_headers  # type: ignore[method-assign]
        with pytest.raises(ServiceError, match="gives no token"):
            console_token("org", "id", "key", console=console.url, timeout=0.3)
    with pytest.raises(ServiceError, match="gives no token"):
        console_token("org", "id", "key", console=console.url)


def _console(call: Any) -> None:
    assert call.path == "/org/credentials/v3/token"
    right = call.headers["X-API-Key"] == "key"
    garbage = call.headers["X-API-Key-Id"] == "garbage"
    body = b"[1]" if garbage else b'{"accessToken": "abc"}'
    call.send_response(200 if right else 401)
    call.send_header("Content-Length", str(len(body)))
    call.end_headers()
    call.wfile.write(body)


SIGNALS = {
    "SP_API_URL": "https://signals.example",
    "SP_API_KEY": "key",
    "SP_API_KEY_ID": "id",
    "SP_ORG_ID": "org",
}
SANDBOX = {"SP_SANDBOX_URL": "https://sandbox.example", "SP_SANDBOX_TOKEN": "t"}


@pytest.mark.parametrize(
    ("values", "kind", "url"),
    [
        (SIGNALS, Signals, "https://signals.example"),
        (SANDBOX, SignalsSandbox, "https://sandbox.example"),
        ({}, SignalsSandbox, "http://127.0.0.1:9090"),
    ],
    ids=["signals", "sandbox", "local"],
)
def test_connect_returns_the_client_of_the_backend_in_use(tmp_path: Path, values, kind, url):
    (tmp_path / "token").write_text("local\n")
    client = connect(Settings(home=tmp_path, values=values))
    assert isinstance(client, kind)
    assert client.api_client.api_url == url


@pytest.mark.parametrize("use", [connect, lambda settings: reader(settings).read(VISITOR)])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"SP_API_URL": "https://signals.example"}, "SP_API_KEY, SP_API_KEY_ID, SP_ORG_ID"),
        ({"SP_SANDBOX_TOKEN": "t"}, "SP_SANDBOX_URL"),
        ({}, "python -m prospect_lib sandbox"),
    ],
)
def test_a_missing_secret_is_named(tmp_path: Path, use, values, reason):
    with pytest.raises(SettingsError, match=reason):
        use(Settings(home=tmp_path, values=values))


def test_the_reader_uses_the_signals_sandbox_of_the_settings(fake, tmp_path: Path):
    values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
    service = Service(name="another", owner="me@example.com")
    problem = replace(prospect_problem, service=service)
    attributes = reader(Settings(home=tmp_path, values=values), problem).read(VISITOR)
    assert attributes["num_page_views_l7d"] == 3
    assert fake.calls[0][1]["service"] == "another"


def test_the_token_of_a_reset_local_sandbox_is_read_again(fake, tmp_path: Path):
    (tmp_path / "token").write_text("before")
    local = reader(Settings(home=tmp_path, sandbox_port=fake.port))
    with pytest.raises(ServiceError, match="refuses"):
        local.read(VISITOR)
    (tmp_path / "token").write_text(TOKEN)
    assert local.read(VISITOR)["num_page_views_l7d"] == 3
