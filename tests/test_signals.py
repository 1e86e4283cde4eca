"""Reading live attributes: the SDK's result at a fraction of its cost, and every failure."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from snowplow_signals import Service, Signals, SignalsSandbox

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.settings import Settings
from prospect_lib.signals import AttributeReader, Token, connect, console_token, reader
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


def reading(fake: FakeSignals, timeout: float = 2.0, token: str = TOKEN) -> AttributeReader:
    return AttributeReader(fake.url, Token(lambda: token), "a_service", timeout=timeout)


def test_reads_what_the_sdk_reads(fake):
    sdk = SignalsSandbox(api_url=fake.url, sandbox_token=TOKEN)
    expected = sdk.get_service_attributes("a_service", "domain_userid", VISITOR)
    assert reading(fake).read(VISITOR) == expected == {"domain_userid": VISITOR, **ATTRIBUTES}


def test_asks_as_the_sdk_asks(fake):
    sdk = SignalsSandbox(api_url=fake.url, sandbox_token=TOKEN)
    sdk.get_service_attributes("a_service", "domain_userid", VISITOR)
    reading(fake).read(VISITOR)
    sdk_call, our_call = fake.calls
    assert our_call == sdk_call


def test_keeps_its_connection(fake):
    kept = reading(fake)
    for _ in range(20):
        kept.read(VISITOR)
    assert (len(fake.calls), fake.connections) == (20, 1)


def test_a_dropped_connection_is_tried_once_more(fake):
    kept = reading(fake)
    fake.modes = ["ok", "drop", "ok"]
    assert kept.read(VISITOR) == kept.read(VISITOR)
    assert len(fake.calls) == 3


def test_twice_dropped_is_an_error(fake):
    fake.mode = "drop"
    with pytest.raises(ServiceError, match="cannot be reached"):
        reading(fake).read(VISITOR)
    assert len(fake.calls) == 2


@pytest.mark.parametrize("mode", ["slow", "drip", "headers"])
def test_slow_is_given_up_in_time_and_not_tried_again(fake, mode):
    fake.mode, fake.delay = mode, 1.5
    start = time.monotonic()
    with pytest.raises(ServiceError, match=r"within 0\.3 s"):
        reading(fake, timeout=0.3).read(VISITOR)
    assert time.monotonic() - start < 1.2
    assert len(fake.calls) == 1


def test_nobody_there():
    with FakeSignals({}) as gone:
        pass
    with pytest.raises(ServiceError, match="cannot be reached"):
        reading(gone).read(VISITOR)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("401", "refuses the token"),
        ("403", "may not read"),
        ("404", "no service 'a_service'"),
        ("422", "cannot use the request"),
        ("500", "answered 500"),
        ("302", "answered 302"),
    ],
)
def test_statuses(fake, status, says):
    fake.mode = status
    with pytest.raises(ServiceError, match=says) as caught:
        reading(fake).read(VISITOR)
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
def test_malformed_answers(fake, body):
    fake.mode, fake.body = "body", body
    with pytest.raises(ServiceError):
        reading(fake).read(VISITOR)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_row_or_an_error(fake, answer: Any):
    fake.mode, fake.body = "body", json.dumps(answer).encode()
    with contextlib.suppress(ServiceError):
        assert isinstance(reading(fake).read(VISITOR), dict)


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


def test_a_refused_token_is_fetched_anew_and_used(fake):
    tokens = iter(["old", TOKEN])
    renewing = AttributeReader(fake.url, Token(lambda: next(tokens)), "a_service")
    assert renewing.read(VISITOR)["num_page_views_l7d"] == 3
    assert len(fake.calls) == 2


def test_a_token_that_stays_the_same_is_not_tried_again(fake):
    with pytest.raises(ServiceError, match="refuses the token"):
        reading(fake, token="wrong").read(VISITOR)
    assert len(fake.calls) == 1


def test_the_consoles_token(fake):
    fake.token, fake.mode, fake.body = "", "body", b'{"accessToken": "abc"}'
    with FakeSignals({}) as console:
        console.answer = lambda call: _console(call)  # type: ignore[method-assign]
        assert console_token("org", "id", "key", console=console.url) == "abc"
        with pytest.raises(ServiceError, match="answered 401 to the API key"):
            console_token("org", "id", "wrong", console=console.url)
        with pytest.raises(ServiceError, match="no token"):
            console_token("org", "garbage", "key", console=console.url)
        console.answer = console._never_end  # type: ignore[method-assign]
        start = time.monotonic()
        with pytest.raises(ServiceError, match="no token"):
            console_token("org", "id", "key", console=console.url, timeout=0.3)
        assert time.monotonic() - start < 1.2
    with pytest.raises(ServiceError, match="no token"):
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
def test_connects_to_the_backend_in_use(tmp_path: Path, values, kind, url):
    (tmp_path / "token").write_text("local\n")
    client = connect(Settings(home=tmp_path, values=values))
    assert isinstance(client, kind)
    assert client.api_client.api_url == url


@pytest.mark.parametrize("use", [connect, lambda settings: reader(settings).read(VISITOR)])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"SP_API_URL": "https://signals.example"}, "SP_API_KEY, SP_API_KEY_ID, SP_ORG_ID"),
        ({"SP_SANDBOX_TOKEN": "t"}, "SP_SANDBOX_URL"),
        ({}, "python -m prospect_lib sandbox"),
    ],
)
def test_says_what_is_missing(tmp_path: Path, use, values, says):
    with pytest.raises(SettingsError, match=says):
        use(Settings(home=tmp_path, values=values))


def test_reads_from_a_signals_sandbox_of_the_settings(fake, tmp_path: Path):
    values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
    service = Service(name="another", owner="me@example.com")
    found = reader(Settings(home=tmp_path, values=values), service).read(VISITOR)
    assert found["num_page_views_l7d"] == 3
    assert fake.calls[0][1]["service"] == "another"


def test_a_reset_local_sandbox_has_another_token(fake, tmp_path: Path):
    port = int(fake.url.rpartition(":")[2])
    (tmp_path / "token").write_text("before")
    local = reader(Settings(home=tmp_path, sandbox_port=port))
    with pytest.raises(ServiceError, match="refuses"):
        local.read(VISITOR)
    (tmp_path / "token").write_text(TOKEN)
    assert local.read(VISITOR)["num_page_views_l7d"] == 3
