"""Finds secrets and personal data where they must not be: in answers, logs and outputs.

As a plugin (see conftest.py) it looks at everything that any application answers in the
tests, and at every log record, for the secrets that the tests themselves hand out: those
named here, and each token made by ``secrets.token_urlsafe``.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
import pytest

#: What tests give as secrets, or type into forms. Imported from here or repeated there.
KNOWN = {
    "secret-of-the-tests-1234567890",  # fake_signals.TOKEN
    "2abcNgrokTokenOfTheTests",  # test_tunnel, test_serve
    "api-key-secret",
    "snowflake-secret",
    "ngrok-secret",
    "Ada Lovelace",  # test_browser.TYPED
    "ada@example.com",
}
#: What a secret looks like, by name.
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


def found_in(text: str) -> list[str]:
    """The kinds of secret that a text seems to hold."""
    return [kind for kind, pattern in PATTERNS.items() if re.search(pattern, text)]


class Watch:
    """Looks for known secrets in what applications answer and log."""

    def __init__(self) -> None:
        self.known = set(KNOWN)
        self.found: list[str] = []

    def look(self, where: str, text: str) -> None:
        """Note each known secret in a text."""
        self.found += [f"{where}: {secret}" for secret in list(self.known) if secret in text]

    def application(self, call: Callable[..., Iterable[bytes]]) -> Callable[..., Iterator[bytes]]:
        """``Flask.__call__``, watched; what streams goes on streaming."""

        def watched(
            app: flask.Flask, environ: dict[str, Any], start: Callable[..., Any]
        ) -> Iterator[bytes]:
            where = f"{app.name} {environ.get('PATH_INFO')}"

            def start_watched(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                self.look(where, f"{status} {headers}")
                return start(status, headers, *error)

            answer = call(app, environ, start_watched)
            return _Watched(answer, lambda chunk: self.look(where, chunk.decode("latin-1")))

        return watched

    def token(self, make: Callable[..., str]) -> Callable[..., str]:
        """``secrets.token_urlsafe``, whose results become known."""

        def made(*given: Any) -> str:
            token = make(*given)
            self.known.add(token)
            return token

        return made


class _Watched:
    """An answer's chunks, each looked at; closed as the answer wants it."""

    def __init__(self, answer: Iterable[bytes], look: Callable[[bytes], None]) -> None:
        self._answer, self._chunks, self._look = answer, iter(answer), look

    def __iter__(self) -> "_Watched":
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._look(chunk)
        return chunk

    def close(self) -> None:
        getattr(self._answer, "close", lambda: None)()


class _Records(logging.Handler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        self._watch.look(f"log of {record.name}", self.format(record))


@pytest.fixture(scope="session", autouse=True)
def watch() -> Iterator[Watch]:
    """One for the whole run."""
    found = Watch()
    records = _Records(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask.Flask, "__call__", found.application(flask.Flask.__call__))
        patch.setattr(secrets, "token_urlsafe", found.token(secrets.token_urlsafe))
        logging.getLogger().addHandler(records)
        yield found
        logging.getLogger().removeHandler(records)


@pytest.fixture(autouse=True)
def nothing_leaks(watch: Watch) -> Iterator[None]:
    """Fail the test in which a secret came out."""
    yield
    found, watch.found = watch.found, []
    assert found == [], "a secret was answered or logged"
