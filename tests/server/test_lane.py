"""The short way for the common question answers as Flask does, and lets nobody else pass."""

import io
import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prospect_lib.server.app
from prospect_lib.errors import ModelError, ServiceError
from prospect_lib.server.app import Options, create_app
from tests.support.fuzzing import drawing
from tests.support.serving import AT, DOWN, VISITOR, Answer, Fixed, Profiles, Rule

SHOP = "https://shop.example"
BODY = json.dumps({"domain_userid": VISITOR}).encode()


def create(scorer: Any = None, profiles: Any = None) -> Any:
    options = Options(origins=(SHOP,), caller_limit="1000000 per minute")
    given = {"options": options, "clock": lambda: AT}
    return create_app(scorer or Rule(), profiles or Profiles(), **given)


def pair(*given: Any) -> tuple[Any, Any]:
    """The same application with the short way and without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prospect_lib.server.app, "Lane", lambda inner, *_: inner)
        without = create(*given)
    return create(*given), without


def environ(body: bytes = BODY, **given: str | None) -> dict[str, Any]:
    """A question as the web server passes it on; None leaves a key out."""
    keys = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "9091",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:9091",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        **given,
    }
    kept = {key: value for key, value in keys.items() if value is not None}
    return {**kept, "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http"}


def answer(app: Any, asked: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    chunks = app(dict(asked, **{"wsgi.input": io.BytesIO(asked["wsgi.input"].getvalue())}),
                 lambda status, headers, *_: started.extend((status, headers)))  # fmt: skip
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return started[0], sorted(started[1]), body


def counted(app: Any) -> str:
    """The metrics, without how long anything took."""
    text = app.test_client().get("/metrics").get_data(as_text=True)
    return re.sub(r".*(seconds_bucket|seconds_sum|_created).*\n", "", text)


JSON_TEXT = st.sampled_from(
    [BODY, b"", b"{", b"null", b'{"domain_userid": 7}', b'{"domain_userid": "x"}', b" " * 4097,
     BODY[:-1] + b', "more": 1}', BODY + b" " * 100, b"\xff"]
)  # fmt: skip
ODD = {
    "REQUEST_METHOD": ["GET", "OPTIONS", "PUT", "HEAD"],
    "PATH_INFO": ["/predict/", "/", "/health", "/PREDICT", "//predict"],
    "QUERY_STRING": ["a=1", "domain_userid=x"],
    "REMOTE_ADDR": ["::1", "127.0.0.2", "192.168.0.7", "", None],
    "HTTP_HOST": ["localhost", "localhost:1", "[::1]:9091", "abc.ngrok.app",
         "localhost.evil.example", "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:00080",
         "127.0.0.1:", "LOCALHOST", "", "127.0.0.1 ", "user@localhost", "localhost:٣"],
    "CONTENT_TYPE": ["application/json; charset=utf-8", "Application/JSON", "application/jsonp", "",
         "text/plain", "application/problem+json", None],
    "CONTENT_LENGTH": ["0", "1", "-1", "x", "٣", "5000", "", None],
    "HTTP_ORIGIN": [SHOP, SHOP.upper(), "null", "", "https://evil.example", "http://localhost:9090"],
    "HTTP_X_FORWARDED_FOR": ["1.2.3.4", "127.0.0.1", ""],
    "HTTP_VIA": ["1.1 proxy"],
    "HTTP_AUTHORIZATION": ["Bearer x", "Basic eDp5"],
}  # fmt: skip
#: One or two odd things at a time: with more, everything is refused for the first of them.
CHANGES = st.lists(st.sampled_from([*ODD]), max_size=2, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.sampled_from(ODD[key]) for key in keys})
)
BOTH = pair()


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, odd in ODD.items() for v in odd])
def test_each_odd_thing_has_the_same_answer_both_ways(key, value):
    short, through_flask = (answer(app, environ(**{key: value})) for app in BOTH)
    assert short == through_flask


@drawing(600)
@given(body=st.just(BODY) | JSON_TEXT, changes=CHANGES)
def test_any_question_has_the_same_answer_both_ways(body, changes):
    asked = environ(body, **changes)
    short, through_flask = (answer(app, asked) for app in BOTH)
    assert short == through_flask


@pytest.mark.parametrize("origin", [None, SHOP])
@pytest.mark.parametrize(
    ("scorer", "profiles"),
    [
        (None, None),
        (None, Profiles(error=DOWN)),
        (None, Profiles(error=ServiceError(f"an answer about {VISITOR}"))),
        (None, Profiles({VISITOR: {}})),
        (Fixed(Answer(0.25, {"a": 1.0})), None),
        (Fixed(Answer(1.5, {})), None),
        (Fixed(ModelError("broken")), None),
        (Fixed(ValueError("secret-value")), None),
        (Fixed(None), None),
    ],
    ids=repr,
)
def test_what_fails_fails_the_same_both_ways(scorer, profiles, origin, caplog):
    found, said = [], []
    for app in pair(scorer, profiles):
        with caplog.at_level(logging.INFO, logger="prospect_lib"):
            found.append((answer(app, environ(HTTP_ORIGIN=origin)), counted(app)))
        said.append([re.sub(r'"ms": [\d.]+', "", message) for message in caplog.messages])
        caplog.clear()
    assert found[0] == found[1]
    assert said[0] == said[1]
    assert '"route": "/predict"' in str(said[1])


def test_the_common_question_goes_the_short_way():
    app = create()
    app.before_request(lambda: pytest.fail("it went through Flask"))
    for changes in ({}, {"HTTP_ORIGIN": SHOP}, {"HTTP_HOST": "localhost:9091"}):
        assert answer(app, environ(**changes))[0] == "200 OK"


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_HOST": "abc.ngrok.app"},
        {"HTTP_HOST": None},
        {"REMOTE_ADDR": "10.0.0.1"},
        {"HTTP_ORIGIN": "https://evil.example"},
        {"CONTENT_TYPE": "text/plain"},
        {"HTTP_TRANSFER_ENCODING": "chunked"},
    ],
    ids=repr,
)
def test_nobody_else_goes_the_short_way(changes):
    app, seen = create(), []
    app.before_request(lambda: seen.append(1))
    answer(app, environ(**changes))
    assert seen == [1]
