"""Who may call the prediction server, from where, how often, and what they get to see.

A *local* caller runs on this machine: it connects over loopback, asks for a loopback
address, and nothing forwarded it. A tunnel's agent connects over loopback too, but it
adds ``X-Forwarded-For`` and keeps the public host name, so what it brings is *public*
and needs the token that ``tunnel.open_tunnel`` creates.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
from flask_cors import CORS
from flask_limiter import Limiter
from werkzeug.exceptions import Forbidden, Unauthorized

_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "cross-origin",  # CORS decides who may read
}


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
    """

    def __init__(self, origins: Iterable[str], *, public_scores: bool = False) -> None:
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self.public_scores = public_scores
        self.public_requests = 0
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

    def protect(self, app: Flask, caller_limit: str) -> Limiter:
        """Add CORS, rate limits per caller and security headers to every route."""
        CORS(
            app,
            origins=[*self.origins],
            methods=["GET", "POST"],
            allow_headers=["Content-Type", "Authorization", "ngrok-skip-browser-warning"],
            expose_headers=["Retry-After"],
            max_age=600,
            always_send=False,
        )
        app.after_request(_add_headers)
        app.before_request(self._identify)
        limiter = Limiter(
            lambda: str(g.caller.key),
            app=app,
            default_limits=[caller_limit],
            storage_uri="memory://",
        )
        limiter.request_filter(lambda: bool(g.caller.local))
        return limiter

    def _identify(self) -> None:
        g.caller = self.caller(request)
        if not g.caller.local:
            self.public_requests += 1


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine's own: ``localhost``, ``127.0.0.1``."""
    if host in (None, "localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _is_local(asked: Request) -> bool:
    if not is_loopback(asked.remote_addr) or any(name in asked.headers for name in _FORWARDED):
        return False
    try:  # a page may make a browser ask us under any name that it lets point here
        return is_loopback(urlsplit(f"//{asked.host}").hostname)
    except ValueError:
        return False


def _add_headers(response: Response) -> Response:
    response.headers.extend(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
