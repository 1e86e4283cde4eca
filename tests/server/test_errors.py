"""Every failure is answered with problem details: bad requests, scorers and Signals that fail."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.server.app import Options, Server
from prospect_lib.signals import AttributeReader, Token
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


def test_an_attribute_of_another_type_is_named(model):
    row = WARM | {"num_page_views_l7d": "seven"}
    is_problem(post(app_of(model, MemoryAttributes({VISITOR: row}))), 503, "num_page_views_l7d")


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


@pytest.mark.parametrize("mode", ["slow", "drop", "body", "401", "302", "500", "drip", "headers"])
def test_however_signals_fails_the_answer_is_a_stale_score_or_a_503(mode):
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.3)
        app = app_of(attributes=reader)
        assert post(app).status_code == 200
        fake.mode, fake.body = mode, b"<html>"
        # a slow mode lasts until the end of the block, so both answers come before its own
        known, unknown = post(app), post(app, {"domain_userid": OTHER_VISITOR})
        assert (known.status_code, known.get_json()["stale"]) == (200, True)
        assert unknown.status_code == 503
        assert TOKEN not in unknown.get_data(as_text=True)
        fake.mode = "ok"
        assert post(app).get_json()["stale"] is False


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
