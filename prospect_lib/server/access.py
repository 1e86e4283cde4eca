"""Access to the prediction server: which callers, how often, and what each of them sees.

A *local* caller connects over loopback, names a loopback host, and shows no sign of a proxy. As
long as the server has no token and is not behind a proxy, local callers are trusted and all
others are refused. Otherwise every caller needs a token, wherever it comes from: a proxy on this
machine connects over loopback too, and may add no header.

There are two tokens. The one of pages is part of the snippet, so that everybody can read it: it
is for scores only. The operator's is for everything. ``docs/serving.md`` has a table.
"""

import logging
import math
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from flask_cors import CORS
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

from prospect_lib.errors import SettingsError
from prospect_lib.files import ensure_secret
from prospect_lib.server.local_callers import is_equal, is_loopback, is_on_this_machine
from prospect_lib.web_addresses import parse_origin

_log = logging.getLogger(__name__)
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
    """Where a request comes from, and what it may see.

    Attributes:
        local: the request comes from this machine, and is not counted.
        trusted: may see attributes and reasons of the visitor it asks for.
        operator: may see everything.
        key: identifies the caller to the rate limit.
    """

    local: bool
    trusted: bool
    operator: bool
    key: str


@dataclass(frozen=True)
class Tokens:
    """The two tokens of a server, which last.

    Attributes:
        pages: part of the snippet; for scores only.
        operator: for everything, metrics included.
    """

    pages: str
    operator: str

    @classmethod
    def of(cls, file: Path) -> "Tokens":
        """Return the token of pages in a file, and the operator's in ``<file>.operator``.

        A file that is missing is created, readable by its owner only.

        Raises:
            SettingsError: a file cannot be used; the message says why.
        """
        operators = file.with_name(f"{file.name}.operator")
        try:
            tokens = cls(ensure_secret(file), ensure_secret(operators))
        except OSError as error:
            raise SettingsError(
                f"token file {file}: {error.strerror}. Name a file in a folder of yours."
            ) from error
        if tokens.pages == tokens.operator:
            raise SettingsError(
                f"{file} and {operators} hold the same token, but every page shows the first. "
                f"Delete {operators}, and the next start creates another."
            )
        return tokens


class Guard:
    """Identifies callers and refuses those who may not call.

    Args:
        origins: web origins whose pages may call, such as ``https://www.example.com``.
        tokens: tokens that last; without them, only an open tunnel has one.
        behind_proxy: a proxy forwards requests, so nobody is local.
        public_scores: callers without a token get the score and the decision, nothing
            else; otherwise they get 401.

    Raises:
        SettingsError: an origin is none, or every caller behind the proxy would be refused.
    """

    def __init__(
        self,
        origins: Iterable[str],
        *,
        tokens: Tokens | None = None,
        behind_proxy: bool = False,
        public_scores: bool = False,
    ) -> None:
        if behind_proxy and not (tokens or public_scores):
            raise SettingsError(
                "a server behind a proxy trusts nobody without a token, and this one has none. "
                "Name a file for it, which is created if it is missing: "
                "Options(token_file=Path(...)), for gunicorn PREDICT_TOKEN_FILE=FILE."
            )
        self.origins = frozenset(parse_origin(origin) for origin in origins)
        self.public_scores, self._behind_proxy = public_scores, behind_proxy
        self._lasting = tokens
        self._pages = tokens.pages if tokens else None
        self._operator = tokens.operator if tokens else secrets.token_urlsafe(24)
        self._warned = False

    @property
    def token(self) -> str | None:
        """The token of pages; ``None`` if the server trusts local callers without any."""
        return self._pages

    @property
    def headers(self) -> dict[str, str]:
        """Headers with which this program may ask its own server for everything."""
        return {"Authorization": f"Bearer {self._operator}"}

    def issue_token(self) -> str:
        """Return the token of pages: the lasting one, or a new one that replaces the last."""
        if self._lasting is None:
            self._pages = secrets.token_urlsafe(24)
        return str(self._pages)

    def revoke_token(self) -> None:
        """Refuse the token that was issued; a lasting one stays valid."""
        if self._lasting is None:
            self._pages = None

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
        # compiled: a text with the brackets of an IPv6 address is taken for a pattern
        allowed = [re.compile(rf"{re.escape(origin)}\Z", re.I) for origin in self.origins]
        CORS(
            app,
            # any page may load the client, which then tells it what it needs to get a score
            resources={"/prospect.js": {"origins": "*"}, "/*": {"origins": allowed}},
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

    def admit(self, *, operators_only: bool = False) -> None:
        """Return if the current request may be answered.

        Raises:
            Forbidden: a page of an origin that is not allowed, or the token of pages for
                something else than scores.
            Unauthorized: a token is needed.
        """
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self.origins:
            raise Forbidden(
                "Pages of this origin may not call. The server's owner can add it: serve --origin "
                "https://www.example.com, for gunicorn PREDICT_ORIGINS, or Options(origins=[...])."
            )
        if g.caller.operator or (not operators_only and (g.caller.trusted or self.public_scores)):
            return
        if operators_only and g.caller.trusted:
            raise Forbidden(f"The token of pages is for scores only. {_OPERATORS}")
        if self._pages is None:
            raise Unauthorized(
                "The request comes from another machine or through a proxy, and this server has "
                "no token. Its owner can give it one: serve --token-file FILE, for gunicorn "
                "PREDICT_TOKEN_FILE=FILE."
            )
        raise Unauthorized(
            _OPERATORS
            if operators_only
            else "Send the token of this server's snippet as 'Authorization: Bearer <token>'."
        )

    def admit_visitor(self, visitor: str) -> None:
        """Count a public caller's request for the score of one visitor.

        Raises:
            TooManyRequests: it exceeds the limit.
        """
        if not g.caller.local:
            self._per_visitor.hit(visitor)

    def _identify(self) -> None:
        g.caller = caller = self._caller(request.environ)
        if not caller.local:
            self._per_caller.hit(caller.key)

    def _caller(self, environ: dict[str, Any]) -> Caller:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token if scheme.lower() == "bearer" else ""
        local = not self._behind_proxy and is_on_this_machine(environ)
        operator = is_equal(token, self._operator) or (local and self._pages is None)
        trusted = operator or (self._pages is not None and is_equal(token, self._pages))
        return Caller(local, trusted, operator, self._key(environ))

    def _key(self, environ: dict[str, Any]) -> str:
        """Return the address of a caller; only a proxy's word about another one counts."""
        address = str(environ.get("REMOTE_ADDR"))
        if not (self._behind_proxy or is_loopback(address)):
            return address
        # the proxy appends its own entry; the entries before it are the caller's to invent
        forwarded = str(environ.get("HTTP_X_FORWARDED_FOR", "")).rpartition(",")[2].strip()
        if self._behind_proxy and not forwarded and not self._warned:
            self._warned = True
            _log.warning(
                "the proxy sends no X-Forwarded-For, so that all callers share one rate limit: "
                "docs/serving.md has the lines of its configuration"
            )
        return forwarded or address


#: For callers who have no, or another token.
_OPERATORS = (
    "Send the operator's token as 'Authorization: Bearer <token>': it is in FILE.operator of "
    "serve --token-file FILE."
)


class Limit:
    """A number of requests per window of time and key, such as ``Limit("30 per minute")``."""

    def __init__(self, text: str) -> None:
        self._limit, self._storage = parse(text), MemoryStorage()
        self._strategy, self._latest = FixedWindowRateLimiter(self._storage), 0.0

    def hit(self, key: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: it exceeds the limit; ``retry_after`` is in seconds.
        """
        now = time.time()
        if now < self._latest - 1:  # the clock was set back: the windows would end late
            self._storage.reset()
        self._latest = now
        if not self._strategy.hit(self._limit, key):
            reset_time = self._strategy.get_window_stats(self._limit, key).reset_time
            raise TooManyRequests(
                f"More than {self._limit}. Try again after the seconds in Retry-After.",
                retry_after=max(1, math.ceil(reset_time - now)),
            )


def _add_security_headers(response: Response) -> Response:
    response.headers.update(_SECURITY_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
