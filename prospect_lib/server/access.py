"""Who may call the prediction server, from where, how often, and what they get to see.

A *local* caller runs on this machine: it connects over loopback, asks for a loopback
address, and nothing forwarded it. A tunnel's agent connects over loopback too, but it
adds ``X-Forwarded-For`` and keeps the public host name, so what it brings is *public*
and needs the token that ``tunnel.open_tunnel`` creates.
"""

import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
from flask_cors.core import get_cors_options, set_cors_headers
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

_FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_FORWARDED",
    "HTTP_VIA",
)
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),  # CORS decides who may read
    ("Vary", "Origin"),
]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Caller:
    """Where a request comes from: ``key`` tells callers apart for the rate limit."""

    local: bool
    trusted: bool
    key: str


class Guard:
    """Tells callers apart and turns away those who may not call.

    Args:
        origins: web origins whose pages may call, such as ``https://www.example.com``.
        public_scores: callers without the token get the score and the decision, nothing
            else; otherwise they get 401.
    Attributes:
        public_requests: how many came from outside this machine, refused ones included.
        on_public: told that number after each of them.
    """

    def __init__(self, origins: Iterable[str], *, public_scores: bool = False) -> None:
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self.public_scores = public_scores
        self.public_requests = 0
        self.on_public: Callable[[int], None] | None = None
        self._counting = threading.Lock()
        self._token: bytes | None = None

    def issue_token(self) -> str:
        """A new token for public callers; the one before it stops working."""
        token = secrets.token_urlsafe(24)
        self._token = token.encode()
        return token

    def revoke_token(self) -> None:
        """No token works from now on."""
        self._token = None

    def caller(self, asked: Request) -> Caller:
        """Who is asking."""
        if _is_local(asked):
            return Caller(local=True, trusted=True, key="local")
        scheme, _, given = asked.headers.get("Authorization", "").partition(" ")
        trusted = (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given.encode(), self._token)
        )
        # the last entry is the tunnel's own, those before it are whatever the caller sent
        forwarded = asked.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return Caller(local=False, trusted=trusted, key=forwarded or str(asked.remote_addr))

    def admit(self, asked: Request, *, score_only: bool = False) -> None:
        """Let a request in, or say why not.

        Args:
            score_only: what is asked for could be given to the public, if the owner allows.
        Raises:
            Forbidden, Unauthorized: with the reason.
        """
        origin = asked.headers.get("Origin")
        if origin is not None and origin.lower() not in self.origins:
            raise Forbidden(
                "Pages of this origin may not call. The server's owner can add it: "
                "Options(origins=[...])."
            )
        if not (g.caller.trusted or (score_only and self.public_scores)):
            raise Unauthorized(
                "Send the token of the tunnel's snippet as 'Authorization: Bearer <token>'."
            )

    def protect(self, app: Flask, caller_limit: str, visitor_limit: str) -> None:
        """Add CORS and rate limits per caller to every route.

        Args:
            caller_limit: such as ``"120 per minute"``; local callers have none.
            visitor_limit: as many scores of one visitor, for ``admit_visitor``.
        """
        self._per_caller = Limit(caller_limit)
        self._per_visitor = Limit(visitor_limit)
        app.before_request(self._identify)
        options = get_cors_options(
            app,
            {
                "origins": [*self.origins],
                "methods": ["GET", "POST"],
                "allow_headers": ["Content-Type", "Authorization", "ngrok-skip-browser-warning"],
                "expose_headers": ["Retry-After"],
                "max_age": 600,
                "always_send": False,
                "vary_header": False,
                # an allowed page may ask a server on the machine of the one who looks at it
                "allow_private_network": True,
            },
        )

        @app.after_request
        def allow(response: Response) -> Response:
            if "HTTP_ORIGIN" in request.environ:
                set_cors_headers(response, options)
            return response

    def admit_visitor(self, visitor: str) -> None:
        """Count a question from outside about one visitor.

        Raises:
            TooManyRequests: more than the limit.
        """
        if not g.caller.local:
            self._per_visitor.hit(visitor)

    def _identify(self) -> None:
        g.caller = caller = self.caller(request)
        if not caller.local:
            with self._counting:
                self.public_requests += 1
            if self.on_public is not None:
                self.on_public(self.public_requests)
            self._per_caller.hit(caller.key)


class Limit:
    """So many in a window of time, for each key: ``Limit("30 per minute")``."""

    def __init__(self, text: str) -> None:
        self._allowed, self._strategy = parse(text), FixedWindowRateLimiter(MemoryStorage())

    def hit(self, key: str) -> None:
        """Count one.

        Raises:
            TooManyRequests: it is one too many; ``retry_after`` is in seconds.
        """
        if not self._strategy.hit(self._allowed, key):
            until = self._strategy.get_window_stats(self._allowed, key).reset_time
            raise TooManyRequests(
                f"More than {self._allowed}. Come back when Retry-After has passed.",
                retry_after=max(1, math.ceil(until - time.time())),
            )


@lru_cache(256)
def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine's own: ``localhost``, ``127.0.0.1``."""
    if host in (None, "localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def is_forwarded(environ: Mapping[str, Any]) -> bool:
    """Whether a proxy or a tunnel has brought a request."""
    return any(name in environ for name in _FORWARDED)


def _is_local(asked: Request) -> bool:
    if not is_loopback(asked.remote_addr) or is_forwarded(asked.environ):
        return False
    # a page may make a browser ask us under any name that it lets point here
    return _is_loopback_name(asked.host)


@lru_cache(256)
def _is_loopback_name(host: str) -> bool:
    """The same of a host as the Host header has it, with or without a port."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def with_headers(inner: Wsgi) -> Wsgi:
    """Add the security headers to whatever an application answers."""

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            headers += _HEADERS
            if not any(name == "Cache-Control" for name, _ in headers):
                headers.append(("Cache-Control", "no-store"))
            return start_response(status, headers, *error)

        return inner(environ, start)

    return outer
