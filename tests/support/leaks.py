"""Search for secrets and personal data in answers, log records and notebook outputs.

The fixtures at the end, which ``conftest.py`` imports, search what every Flask application
answers and what every logger records during the tests. They search for the secrets that tests
use: those of ``KNOWN``, and each token that ``secrets.token_urlsafe`` returns.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
import pytest
from werkzeug.wsgi import ClosingIterator

#: Secrets and personal data that tests use; imported from here or repeated there.
KNOWN = {
    "secret-of-the-tests-1234567890",  # fake_signals.TOKEN
    "2abcNgrokTokenOfTheTests",  # test_tunnel, test_serve
    "api-key-secret",
    "snowflake-secret",
    "ngrok-secret",
    "Ada Lovelace",  # test_browser.TYPED
    "ada@example.com",
}
#: Patterns of secrets and personal data, by kind.
PATTERNS = {
    "a JSON web token": r"\beyJ[\w-]{8,}\.[\w-]{8,}\.",
    "a bearer token": r"(?i)\bbearer\s+(?!<)[\w.~+/-]{12,}",
    "a named secret": (
        r"(?i)[\"']?\b[\w-]*(?:password|passwd|pwd|secret|token|api_?key)[\"']?\s*[:=]\s*"
        r"[\"']?(?!<|\*)(?=[\w+/-]*\d)[\w+/-]{12,}"
    ),
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a tunnel's address": r"https://[\w-]+\.ngrok(?:-free)?\.(?:app|dev|io)",
    "an e-mail address": r"\b[\w.+-]+@(?!example\.(?:com|org))[\w-]+\.[a-z]{2,}\b",
}


def kinds_of_secrets(text: str) -> list[str]:
    """Return the kinds of ``PATTERNS`` that occur in a text."""
    return [kind for kind, pattern in PATTERNS.items() if re.search(pattern, text)]


class SecretWatch(logging.Handler):
    """Collects known secrets that applications answer or log.

    Attributes:
        known: the secrets to search for.
        leaks: one line per leak: where, and which secret.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known = set(KNOWN)
        self.leaks: list[str] = []

    def search(self, place: str, text: str) -> None:
        """Add a leak for each known secret in a text."""
        self.leaks += [f"{place}: {secret}" for secret in list(self.known) if secret in text]

    def emit(self, record: logging.LogRecord) -> None:
        """Search a log record."""
        self.search(f"log of {record.name}", self.format(record))

    def watched_call(self, call: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return ``Flask.__call__`` with a search of status, headers and body; it still streams."""

        def watched(
            app: flask.Flask, environ: dict[str, Any], start_response: Callable[..., Any]
        ) -> Iterable[bytes]:
            place = f"{app.name} {environ.get('PATH_INFO')}"

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                self.search(place, f"{status} {headers}")
                return start_response(status, headers, *error)

            def chunks(body: Iterable[bytes]) -> Iterator[bytes]:
                for chunk in body:
                    self.search(place, chunk.decode("latin-1"))
                    yield chunk

            body = call(app, environ, start)
            return ClosingIterator(chunks(body), getattr(body, "close", None))

        return watched

    def watched_token(self, make: Callable[..., str]) -> Callable[..., str]:
        """Return ``secrets.token_urlsafe`` with its results added to the known secrets."""

        def token_urlsafe(*arguments: Any) -> str:
            token = make(*arguments)
            self.known.add(token)
            return token

        return token_urlsafe


@pytest.fixture(scope="session", autouse=True)
def secret_watch() -> Iterator[SecretWatch]:
    """Watch every application and logger during the whole run."""
    watch = SecretWatch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask.Flask, "__call__", watch.watched_call(flask.Flask.__call__))
        patch.setattr(secrets, "token_urlsafe", watch.watched_token(secrets.token_urlsafe))
        logging.getLogger().addHandler(watch)
        yield watch
        logging.getLogger().removeHandler(watch)


@pytest.fixture(autouse=True)
def no_secret_leaks(secret_watch: SecretWatch) -> Iterator[None]:
    """Fail the test in which a secret was answered or logged."""
    yield
    leaks, secret_watch.leaks = secret_watch.leaks, []
    assert leaks == [], "a secret was answered or logged"
