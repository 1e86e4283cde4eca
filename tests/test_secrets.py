"""No secret in any answer, log, file or notebook; and the search for secrets finds them."""

import json
import logging
import secrets
from pathlib import Path

import nbformat
import pytest
from flask import Flask

from prospect_lib.server.app import Options, create_app
from prospect_lib.settings import Settings
from prospect_lib.signals import AttributeReader, Token
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.keys import pem, rsa_key
from tests.support.leaks import KNOWN, SecretWatch, kinds_of_secrets
from tests.support.serving import PUBLIC, VISITOR, WARM, Rule

PRIVATE_KEY = pem(rsa_key())
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_shows_a_secret(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    shown = [json.dumps(output) for cell in cells for output in cell.get("outputs", [])]
    texts = [cell.source for cell in cells] + [text for text in shown if "image/png" not in text]
    assert len(texts) > 3
    assert {kind for text in texts for kind in kinds_of_secrets(text)} == set()
    assert not any(secret in text for text in texts for secret in KNOWN)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "a JSON web token"),
        ("Authorization: Bearer 3fJk29dk3kd93kd0s", "a bearer token"),
        ('{"token": "x8Kd02ks9d0Kd93k"}', "a named secret"),
        ("SF_PWD=correcthorse42battery", "a named secret"),
        ("NGROK_TOKEN: '2abcDEF4567890abc'", "a named secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("https://ab12-34.ngrok-free.app/predict", "a tunnel's address"),
        ("jane.doe@gmail.com", "an e-mail address"),
    ],
)
def test_the_search_finds_each_kind_of_secret(text: str, kind: str) -> None:
    assert kind in kinds_of_secrets(f"some {text} more")


def test_the_search_ignores_ordinary_text() -> None:
    for text in (
        "Bearer <token>",
        "token: '***'",
        "someone@example.com",
        "set NGROK_TOKEN",
        VISITOR,
    ):
        assert kinds_of_secrets(text) == []


def test_the_watch_searches_headers_bodies_and_logs() -> None:
    watch, app = SecretWatch(), Flask("leaky")
    app.get("/")(lambda: (TOKEN, {"X-Leak": "ngrok-secret"}))
    environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "SERVER_NAME": "a", "SERVER_PORT": "1",
               "wsgi.url_scheme": "http"}  # fmt: skip
    list(watch.watched_call(Flask.wsgi_app)(app, environ, lambda *_: None))
    assert watch.leaks == ["leaky /: ngrok-secret", f"leaky /: {TOKEN}"]
    token = watch.watched_token(lambda _length: "abc-made")(24)
    watch.emit(logging.makeLogRecord({"name": "app", "msg": f"now {token}"}))
    assert watch.leaks[2:] == ["log of app: abc-made"]


def test_a_watched_answer_still_streams_and_is_closed() -> None:
    watch, app = SecretWatch(), Flask("streams")
    events: list[str] = []

    class Body:
        def __iter__(self):
            for number in range(2):
                events.append(f"made {number}")
                yield b"chunk"

        def close(self):
            events.append("closed")

    body = watch.watched_call(lambda *_: Body())(app, {}, lambda *_: None)
    assert (next(iter(body)), events) == (b"chunk", ["made 0"])
    body.close()
    assert events == ["made 0", "closed"]


def test_tokens_that_tests_create_are_known(secret_watch: SecretWatch) -> None:
    assert secrets.token_urlsafe(24) in secret_watch.known
    assert TOKEN in secret_watch.known


def test_no_secret_in_any_answer_log_or_file(
    tmp_path: Path, caplog, secret_watch: SecretWatch
) -> None:
    values = {
        "SP_API_KEY": "api-key-secret",
        "SF_PWD": "snowflake-secret",
        "SF_PRIVATE_KEY": PRIVATE_KEY,
        "NGROK_TOKEN": "ngrok-secret",
        "SP_SANDBOX_TOKEN": TOKEN,
    }
    with FakeSignals(WARM) as fake, caplog.at_level(logging.DEBUG):
        settings = Settings(home=tmp_path, values={**values, "SP_SANDBOX_URL": fake.url})
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.3)
        for options in (Options(), Options(public_scores=True), Options(stale_seconds=0)):
            app = create_app(Rule(), reader, settings, options=options)
            guard = app.extensions["prospect_guard"]
            issued, operators = guard.issue_token(), guard.headers["Authorization"].split()[1]
            answers = all_answers(app, fake, issued)
            assert len(answers) == 6 * 3 * 6
            for close in app.extensions["prospect_closers"]:
                close()
            for secret in (issued, operators):
                assert secret not in "".join([*answers, caplog.text])
    files = [path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert any(VISITOR in text for text in files), "the log of served scores has visitors"
    assert VISITOR not in caplog.text
    for secret in (*secret_watch.known, *PRIVATE_KEY.splitlines()):
        assert secret not in "\n".join([*files, caplog.text])


def all_answers(app: Flask, fake: FakeSignals, token: str) -> list[str]:
    """Return the answers of each route to each kind of caller, with Signals in each state."""
    answers, client = [], app.test_client()
    for mode in ("ok", "401", "500", "drop", "body", "headers"):
        fake.mode = mode
        for headers in ({}, PUBLIC, PUBLIC | {"Authorization": f"Bearer {token}"}):
            responses = [client.post("/predict", json={"domain_userid": VISITOR}, headers=headers)]
            for path in ("/health", "/metrics", "/openapi.json", "/prospect.js", "/x"):
                responses.append(client.get(path, headers=headers))
            answers += [f"{dict(r.headers)} {r.get_data(as_text=True)}" for r in responses]
    return answers
