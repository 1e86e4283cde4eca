"""Access to the prediction server: which callers, how often, and what each of them sees.

A *local* caller runs on this machine: it connects over loopback, names a loopback host, and
no proxy forwarded its request. The agent of a tunnel connects over loopback as well, but it
adds ``X-Forwarded-For`` and keeps the public host name. Its callers are therefore *public*
and need the token that ``tunnel.open_tunnel`` issues.
"""

import hmac
import ipaddress
import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
from flask_cors import CORS
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

#: A proxy or a tunnel adds at least one of these headers (here by their names in a WSGI
#: environment) to a request that it forwards.
_FORWARDING_HEADERS = frozenset(
    f"HTTP_{name}"
    for name in ("X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "FORWARDED", "VIA")
)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "cross-origin",  # CORS decides which pages may read
    "Vary": "Origin",
}


@dataclass(frozen=True)
class Caller:
    """Where a request comes from.

    Attributes:
        local: the request comes from this machine.
        trusted: local, or carries the token; may see attributes and reasons.
        key: identifies the caller to the rate limit.
    """

    local: bool
    trusted: bool
    key: str


class Guard:
    """Identifies callers and refuses those who may not call.

    Args:
        origins: web origins whose pages may call, such as ``https://www.example.com``.
        public_scores: callers without the token get the score and the decision, nothing
            else; otherwise they get 401.
    """

    def __init__(self, origins: Iterable[str], *, public_scores: bool = False) -> None:
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self.public_scores = public_scores
        self._token: bytes | None = None

    def issue_token(self) -> str:
        """Return a new token for public callers; the previous one stops working."""
        token = secrets.token_urlsafe(24)
        self._token = token.encode()
        return token

    def revoke_token(self) -> None:
        """Refuse every token from now on."""
        self._token = None

    def protect(self, app: Flask, caller_limit: str, visitor_limit: str) -> None:
        """Add caller identification, rate limits, CORS and security headers to every route.

        Args:
            caller_limit: requests of one public caller, such as ``"120 per minute"``; local
                callers have no limit.
            visitor_limit: scores of one visitor for public callers, see ``admit_visitor``.
        """
        self._per_caller = Limit(caller_limit)
        self._per_visitor = Limit(visitor_limit)
        app.before_request(self._identify)
        app.after_request(_add_security_headers)
        CORS(
            app,
            # any page may load the client, which then tells it what it needs to get a score
            resources={"/prospect.js": {"origins": "*"}, "/*": {"origins": [*self.origins]}},
            methods=["GET", "POST"],
            allow_headers=["Content-Type", "Authorization", "ngrok-skip-browser-warning"],
            expose_headers=["Retry-After"],
            max_age=600,
            always_send=False,
            vary_header=False,  # it is among the security headers
            intercept_exceptions=False,  # every error is answered by a handler of ours
            # a page on the internet may call a server on its visitor's own machine
            allow_private_network=True,
        )

    def admit(self, *, score_only: bool = False) -> None:
        """Return if the current request may be answered.

        Args:
            score_only: the owner may have opened this route to the public.
        Raises:
            Forbidden: a page of an origin that is not allowed.
            Unauthorized: a public caller without the token.
        """
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self.origins:
            raise Forbidden(
                "Pages of this origin may not call. The server's owner can add it: "
                "Options(origins=[...])."
            )
        if not (g.caller.trusted or (score_only and self.public_scores)):
            raise Unauthorized(
                "Send the token of the tunnel's snippet as 'Authorization: Bearer <token>'."
            )

    def admit_visitor(self, visitor: str) -> None:
        """Count a public caller's request for the score of one visitor.

        Raises:
            TooManyRequests: it exceeds the limit.
        """
        if not g.caller.local:
            self._per_visitor.hit(visitor)

    def _identify(self) -> None:
        g.caller = caller = self._caller(request)
        if not caller.local:
            self._per_caller.hit(caller.key)

    def _caller(self, incoming: Request) -> Caller:
        if _is_local(incoming):
            return Caller(local=True, trusted=True, key="local")
        scheme, _, token = incoming.headers.get("Authorization", "").partition(" ")
        trusted = (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(token.encode(), self._token)
        )
        # the tunnel appends its own entry; the entries before it are the caller's to invent
        forwarded = incoming.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return Caller(local=False, trusted=trusted, key=forwarded or str(incoming.remote_addr))


class Limit:
    """A number of requests per window of time and key, such as ``Limit("30 per minute")``."""

    def __init__(self, text: str) -> None:
        self._limit, self._strategy = parse(text), FixedWindowRateLimiter(MemoryStorage())

    def hit(self, key: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: it exceeds the limit; ``retry_after`` is in seconds.
        """
        if not self._strategy.hit(self._limit, key):
            reset_time = self._strategy.get_window_stats(self._limit, key).reset_time
            raise TooManyRequests(
                f"More than {self._limit}. Try again after the seconds in Retry-After.",
                retry_after=max(1, math.ceil(reset_time - time.time())),
            )


@lru_cache(256)
def is_loopback(host: str | None) -> bool:
    """Return whether a host name or address means this machine: ``localhost``, ``127.0.0.1``."""
    if host in (None, "localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _is_local(incoming: Request) -> bool:
    if not is_loopback(incoming.remote_addr):
        return False
    if not _FORWARDING_HEADERS.isdisjoint(incoming.environ):
        return False
    # a page can make a browser send requests here under any name that resolves to loopback
    return _is_loopback_host_header(incoming.host)


@lru_cache(256)
def _is_loopback_host_header(host: str) -> bool:
    """Return ``is_loopback`` of the name in a Host header, which may end with a port."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def _add_security_headers(response: Response) -> Response:
    response.headers.update(_SECURITY_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
