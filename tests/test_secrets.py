"""No secret in any answer, log or notebook; and the search for them finds them."""

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
from tests.support.leaks import KNOWN, Watch, found_in
from tests.support.serving import PUBLIC, VISITOR, WARM, Rule

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_shows_a_secret(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    shown = [json.dumps(output) for cell in cells for output in cell.get("outputs", [])]
    texts = [cell.source for cell in cells] + [text for text in shown if "image/png" not in text]
    assert len(texts) > 3
    assert {kind for text in texts for kind in found_in(text)} == set()
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
def test_the_search_finds_what_it_looks_for(text: str, kind: str) -> None:
    assert kind in found_in(f"some {text} more")


def test_the_search_leaves_ordinary_text_alone() -> None:
    for text in (
        "Bearer <token>",
        "token: '***'",
        "someone@example.com",
        "set NGROK_TOKEN",
        VISITOR,
    ):
        assert found_in(text) == []


def test_the_watch_sees_answers_headers_and_logs() -> None:
    own, app = Watch(), Flask("leaky")
    app.get("/")(lambda: (TOKEN, {"X-Leak": "ngrok-secret"}))
    environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "SERVER_NAME": "a", "SERVER_PORT": "1",
               "wsgi.url_scheme": "http"}  # fmt: skip
    list(own.application(Flask.wsgi_app)(app, environ, lambda *_: None))
    assert own.found == ["leaky /: ngrok-secret", f"leaky /: {TOKEN}"]
    made = own.token(lambda _length: "abc-made")(24)
    own.look("log", f"now {made}")
    assert own.found[2:] == ["log: abc-made"]


def test_tokens_made_in_the_tests_are_known(watch: Watch) -> None:
    assert secrets.token_urlsafe(24) in watch.known
    assert TOKEN in watch.known


def test_no_secret_in_any_answer_log_or_file(tmp_path: Path, caplog, watch: Watch) -> None:
    values = {
        "SP_API_KEY": "api-key-secret",
        "SF_PWD": "snowflake-secret",
        "NGROK_TOKEN": "ngrok-secret",
        "SP_SANDBOX_TOKEN": TOKEN,
    }
    with FakeSignals(WARM) as fake, caplog.at_level(logging.DEBUG):
        settings = Settings(home=tmp_path, values={**values, "SP_SANDBOX_URL": fake.url})
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.3)
        for options in (Options(), Options(public_scores=True), Options(stale_seconds=0)):
            app = create_app(Rule(), reader, settings, options=options)
            issued = app.extensions["prospect_guard"].issue_token()
            answers = everything(app, fake, issued)
            assert len(answers) == 6 * 3 * 6
            for close in app.extensions["prospect_closers"]:
                close()
            assert issued not in "".join(answers)
    files = [path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert any(VISITOR in text for text in files), "the log of served scores has visitors"
    assert VISITOR not in caplog.text
    for secret in watch.known:
        assert secret not in "\n".join([*files, caplog.text])


def everything(app: Flask, fake: FakeSignals, token: str) -> list[str]:
    """What each page answers to each kind of caller, however Signals is."""
    found, client = [], app.test_client()
    for mode in ("ok", "401", "500", "drop", "body", "headers"):
        fake.mode = mode
        for headers in ({}, PUBLIC, PUBLIC | {"Authorization": f"Bearer {token}"}):
            asked = [client.post("/predict", json={"domain_userid": VISITOR}, headers=headers)]
            for path in ("/health", "/metrics", "/openapi.json", "/prospect.js", "/x"):
                asked.append(client.get(path, headers=headers))
            found += [f"{dict(a.headers)} {a.get_data(as_text=True)}" for a in asked]
    return found
