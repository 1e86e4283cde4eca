"""Every failure is answered with problem details: bad requests, scorers and Signals that fail."""

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.server.app import Options, Server
from prospect_lib.signals import TIMEOUT, AttributeReader, Calls, Token
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.fuzzing import drawing
from tests.support.serving import (
    DOWN,
    OTHER_VISITOR,
    PUBLIC,
    SITE,
    VISITOR,
    WARM,
    FixedScore,
    MemoryAttributes,
    PlainScore,
    app_of,
    in_threads,
    is_problem,
    post,
    post_to,
)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "Invalid JSON"),
        (b"{", 400, "Invalid JSON"),
        (b"\xff", 400, "Invalid JSON"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'"', 400, "Invalid JSON"),
        (b"[" * 4000, 400, "Invalid JSON"),
        (b"null", 422, "the body"),
        (b"[]", 422, "the body"),
        (b"{}", 422, "domain_userid: Field required"),
        (b'{"domain_userid": null}', 422, "valid string"),
        (b'{"domain_userid": 7}', 422, "valid string"),
        (b'{"domain_userid": ["a"]}', 422, "valid string"),
        (b'{"domain_userid": ""}', 422, "an empty identifier is nobody's"),
        (b'{"domain_userid": "00000000-0000-0000-0000-000000000000"}', 422, "the nil identifier"),
        (b'{"domain_userid": "' + b"x" * 257 + b'"}', 422, "at most 256 characters"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'\\n"}', 422, "without control characters"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'", "email": "x"}', 422, "unknown key"),
        (b" " * 4097, 413, "limit"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_a_bad_body_is_explained_and_not_repeated(body, status, detail):
    response = app_of().test_client().post("/predict", data=body, content_type="application/json")
    is_problem(response, status, detail)
    assert b"me@example.com" not in response.data


def test_another_content_type():
    response = app_of().test_client().post("/predict", data="{}", content_type="text/plain")
    is_problem(response, 415, "application/json")


def test_another_method_and_another_path():
    client = app_of().test_client()
    refused = client.get("/predict")
    is_problem(refused, 405, "not allowed")
    assert "POST" in refused.headers["Allow"]
    is_problem(client.get("/nothing"), 404, "not found")


def test_a_missing_attribute_is_named_and_a_null_is_not_missing(model):
    row = {name: value for name, value in WARM.items() if name != "num_media_events_l30d"}
    is_problem(
        post(app_of(model, MemoryAttributes({VISITOR: row}))), 503, "lacks num_media_events_l30d"
    )
    row["num_media_events_l30d"] = None
    assert post(app_of(model, MemoryAttributes({VISITOR: row}))).status_code == 200


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("num_page_views_l7d", "seven"),
        ("num_page_views_l7d", 10**400),
        ("num_page_views_l7d", 1e300),
        ("num_page_views_l7d", float("inf")),
        ("num_apps_l7d", 7),
        ("num_apps_l7d", "website"),
        ("num_pricing_views_l7d", "none"),
        ("latest_app_id", ["website"]),
    ],
    ids=str,
)
def test_an_attribute_of_another_type_is_named_and_known_visitors_get_their_last_score(
    model, attribute, value
):
    attributes = MemoryAttributes()
    app = app_of(model, attributes)
    first = post(app).get_json()
    attributes.rows = {VISITOR: WARM | {attribute: value}}
    assert post(app).get_json() == {**first, "stale": True}
    unknown = app_of(model, attributes)
    answer = post(unknown)
    assert answer.status_code == 503
    assert attribute in answer.get_json()["detail"]


@pytest.mark.parametrize(
    "result",
    [
        PlainScore(float("nan"), {}),
        PlainScore(1.5, {}),
        PlainScore(-0.1, {}),
        PlainScore("high", {}),  # type: ignore[arg-type]
        PlainScore(0.5, {"a": "b"}),  # type: ignore[dict-item]
        PlainScore(0.5, None),  # type: ignore[arg-type]
        None,
        ValueError("secret-value"),
        KeyError("secret-value"),
        DataError("attribute"),
        ServiceError("away"),
        RecursionError(),
    ],
    ids=repr,
)
def test_a_scorer_that_fails_is_a_503(result, caplog):
    response = post(app_of(FixedScore(result)))
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "secret-value" not in response.get_data(as_text=True) + caplog.text


# ---- Signals fails ----


def test_while_signals_is_down_an_unknown_visitor_gets_a_503():
    response = post(app_of(attributes=MemoryAttributes(error=DOWN)))
    is_problem(response, 503, "cannot be reached")
    assert response.headers["Retry-After"] == "1"


def test_while_signals_is_down_the_last_attributes_serve():
    attributes = MemoryAttributes()
    app = app_of(attributes=attributes)
    first = post(app).get_json()
    attributes.error = DOWN
    second = post(app).get_json()
    assert second == {**first, "stale": True}


def test_the_public_does_not_see_the_reason(caplog):
    failing = MemoryAttributes(error=ServiceError(f"the answer about {VISITOR} is broken"))
    app = app_of(attributes=failing, options=Options(public_scores=True))
    response = post(app, headers=PUBLIC)
    is_problem(response, 503, "Try again shortly")
    assert VISITOR not in response.get_data(as_text=True) + caplog.text


def http(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def columns(**changes: object) -> bytes:
    row = {"domain_userid": VISITOR, **WARM}
    return json.dumps({name: [value] for name, value in row.items()} | changes).encode()


PACKED = gzip.compress(b" " * 50_000_000)
#: What Signals, or something in its place, answers about one visitor, and what follows.
WAYS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "close"),
    "silence": (b"", "hang"),
    "half a status line": (b"HTTP/1.1 2", "hang"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "close"),
    "endless informational answers": (b"HTTP/1.1 102 Processing\r\n\r\n" * 500, "hang"),
    "a thousand headers": (http(columns(), *["X: x"] * 1000), "close"),
    "a header of a megabyte": (http(columns(), "X: " + "x" * (1 << 20)), "close"),
    "headers alone": (http(b"", length=100), "hang"),
    "half the body": (http(columns()[:100], length=len(columns())), "close"),
    "half the body, then silence": (http(columns()[:100], length=len(columns())), "hang"),
    "more than it announces": (http(columns(), length=100), "close"),
    "broken chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", "close"),
    "chunks without end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "hang"
    ),
    "text that is said to be packed": (http(columns(), "Content-Encoding: gzip"), "close"),
    "much in little": (http(PACKED, "Content-Encoding: gzip"), "close"),
    "two megabytes": (http(columns(num_apps_l7d=[["x" * (2 << 20)]])), "close"),
    "a page": (http(b"<html>Please sign in</html>", "Content-Type: text/html"), "close"),
    "no body": (http(b""), "close"),
    "half a table": (http(columns()[:100]), "close"),
    "null": (http(b"null"), "close"),
    "a number": (http(b"5"), "close"),
    "a list": (http(b"[{}]"), "close"),
    "an empty object": (http(b"{}"), "close"),
    "rows of nobody": (http(columns(domain_userid=[])), "close"),
    "another visitor": (http(columns(domain_userid=[OTHER_VISITOR])), "close"),
    "two visitors": (http(columns(num_page_views_l7d=[1, 2])), "close"),
    "values alone": (http(columns(num_page_views_l7d=7)), "close"),
    "words for numbers": (http(columns(num_page_views_l7d=["seven"])), "close"),
    "a number of 400 digits": (http(columns(num_page_views_l7d=[10**400])), "close"),
    "NaN": (http(columns(num_page_views_l7d=[float("nan")])), "close"),
    "Infinity by its digits": (http(columns().replace(b"[7]", b"[1e999]")), "close"),
    "nested without end": (http(b'{"a":' * 100_000), "close"),
    "bytes that are no text": (http(b"\xff\xfe" + columns()), "close"),
    "a redirection": (http(b"", "Location: http://127.0.0.1:1/", status="302 Found"), "close"),
    "a redirection to itself": (http(b"", "Location: /", status="307 Temporary Redirect"), "close"),
    **{
        f"status {status}": (http(columns(), status=f"{status} Some Reason"), "close")
        for status in (203, 204, 206, 304, 400, 401, 403, 404, 405, 413, 422, 429, 500, 503, 599)
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def signals() -> Iterator[FakeSignals]:
    with FakeSignals(WARM) as fake:
        yield fake


@pytest.mark.parametrize("way", WAYS)
def test_however_signals_fails_for_one_visitor_others_are_scored(signals, model, way):
    reader = AttributeReader(signals.url, Token(lambda: TOKEN), "service", timeout=30)
    app, unknown, healthy = app_of(model, reader), VISITOR[:-1] + "a", OTHER_VISITOR
    signals.raw = {}
    first = post(app).get_json()
    signals.raw = dict.fromkeys([VISITOR, unknown], WAYS[way])
    reader.timeout = 0.1
    for _ in range(3):
        assert post(app).get_json() == {**first, "stale": True}
        answer = post(app, {"domain_userid": unknown})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert TOKEN not in answer.get_data(as_text=True)
    reader.timeout = 30
    answer = post(app, {"domain_userid": healthy})
    assert (answer.status_code, answer.get_json()["stale"]) == (200, False)
    signals.raw = {}
    assert post(app).get_json()["stale"] is False
    reader.close()


def test_any_failure_of_signals_is_answered_within_the_timeout_of_production(
    signals, model, monkeypatch
):
    """`make fuzz` measures every way: 2.5 s. Otherwise the reader's wait is looked at."""
    token, signals.raw, run, waits = Token(lambda: TOKEN), {}, Calls.run, []
    app = app_of(model, AttributeReader(signals.url, token, "service"))
    for number, way in enumerate(WAYS if "PROSPECT_FUZZ" in os.environ else ()):
        visitor = f"{OTHER_VISITOR[:-2]}{number:02}"
        signals.raw[visitor], begun = WAYS[way], time.monotonic()
        assert post(app, {"domain_userid": visitor}).status_code == 503
        assert time.monotonic() - begun < 2.5, way
        assert post(app).status_code == 200

    def briefly(calls, call, timeout, key):
        waits.append(timeout)
        return run(calls, call, 0.1, key)

    monkeypatch.setattr(Calls, "run", briefly)
    signals.raw[VISITOR] = WAYS["half the body, then silence"]
    unread = app_of(model, AttributeReader(signals.url, token, "service"))
    assert post(unread).status_code == 503 and waits == [TIMEOUT] == [2.0]


@pytest.mark.parametrize("mode", ["drip", "headers"])
def test_while_signals_answers_one_byte_at_a_time_the_last_attributes_serve(mode):
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=30)
        app = app_of(attributes=reader)
        assert post(app).status_code == 200
        fake.mode, reader.timeout = mode, 0.3
        known, unknown = post(app), post(app, {"domain_userid": OTHER_VISITOR})
        assert (known.status_code, known.get_json()["stale"]) == (200, True)
        assert unknown.status_code == 503
        fake.mode, reader.timeout = "ok", 30
        assert post(app).get_json()["stale"] is False


def test_a_visitor_whose_attributes_are_too_large_costs_the_others_nothing(signals):
    reader = AttributeReader(signals.url, Token(lambda: TOKEN), "service", timeout=30)
    options = Options(visitor_limit="1000000 per minute", caller_limit="1000000 per minute")
    signals.raw = {VISITOR: WAYS["two megabytes"]}
    with Server(app_of(attributes=reader, options=options), port=0) as server:
        stopped = threading.Event()

        def poll() -> set[int]:
            statuses = {post_to(server.url).status_code}
            while not stopped.is_set():
                statuses.add(post_to(server.url).status_code)
            return statuses

        with ThreadPoolExecutor(3) as pool:
            polling = [pool.submit(poll) for _ in range(3)]
            others = [post_to(server.url, f"{OTHER_VISITOR[:-2]}{n}") for n in range(10, 50)]
            stopped.set()
        assert {status for poller in polling for status in poller.result()} == {503}
        assert [answer.status_code for answer in others] == [200] * 40
    signals.raw = {}
    reader.close()


def test_calls_to_signals_that_hang_do_not_hang_the_server():
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(
            fake.url, Token(lambda: TOKEN), "service", timeout=0.3, max_calls=2
        )
        app = app_of(attributes=reader)
        assert post(app).status_code == 200
        fake.mode = "headers"
        answers = [post(app) for _ in range(4)]
        assert [answer.get_json()["stale"] for answer in answers] == [True] * 4
        assert len(fake.calls) == 3
        is_problem(post(app, {"domain_userid": OTHER_VISITOR}), 503, "not been answered yet")


def test_known_visitors_get_a_score_while_signals_comes_and_goes_under_load():
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.5)
        with Server(app_of(attributes=reader), port=0) as server:
            post_to(server.url)
            fake.modes = ["ok", "drop", "503", "drop", "drop", "401", "ok"] * 40
            statuses = in_threads(8, lambda: [post_to(server.url).status_code for _ in range(20)])
    assert {status for of_thread in statuses for status in of_thread} == {200}


# ---- random requests ----

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.uuids().map(str),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["domain_userid", "a"]) | st.text(), inner)
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Origin", "Host", "Authorization", "X-Forwarded-For", "Content-Type", "Content-Encoding"]
    ),
    st.sampled_from(["", "null", SITE, "Bearer x", "application/json", "1.2.3.4", "::1", "gzip"])
    | st.text(st.characters(codec="latin-1", exclude_categories=["C"])),
)
FUZZ = drawing(400)
UNLIMITED = Options(caller_limit="1000000 per minute", visitor_limit="1000000 per minute")


@pytest.fixture(scope="module")
def fuzzed():
    return app_of(options=UNLIMITED).test_client()


@FUZZ
@given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()), headers=HEADERS)
def test_any_body_and_headers_have_a_documented_answer(fuzzed, body, headers):
    headers = {"Content-Type": "application/json"} | headers
    response = fuzzed.post("/predict", data=body, headers=headers)
    assert response.status_code in (200, 400, 401, 403, 413, 415, 422)
    assert response.is_json


@FUZZ
@given(
    path=st.text(st.characters(exclude_categories=["Cs"])),
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"]),
)
def test_any_path_and_method_have_an_answer(fuzzed, path, method):
    response = fuzzed.open("/" + path.lstrip("/"), method=method)
    assert response.status_code < 500
