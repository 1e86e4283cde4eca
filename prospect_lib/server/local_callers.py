"""Which callers are on this machine, as far as can be seen; whether a token is the right one."""

import hmac
import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

#: Names in a WSGI environment begin with one of these if a proxy or a tunnel forwarded the request.
_FORWARDING_HEADERS = tuple(
    f"HTTP_{name}"
    for name in (
        *("X_FORWARDED", "FORWARDED", "VIA", "X_REAL_IP", "X_CLIENT_IP", "X_CLUSTER_CLIENT_IP"),
        *("TRUE_CLIENT_IP", "X_ORIGINAL_", "X_ENVOY_", "X_AMZN_", "CF_", "CDN_LOOP", "FLY_"),
    )
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


def is_equal(token: str, expected: str) -> bool:
    """Return whether a token is the expected one, in a time that does not tell how much is."""
    return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), expected.encode())


def is_on_this_machine(environ: dict[str, Any]) -> bool:
    """Return whether a request comes from this machine, as far as can be seen."""
    return (
        is_loopback(environ.get("REMOTE_ADDR"))
        # by default nginx adds no header, names a loopback host, and speaks HTTP/1.0
        and environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
        and not any(name.startswith(_FORWARDING_HEADERS) for name in environ)
        # a page can make a browser send requests here under any name that resolves to loopback
        and _is_loopback_host_header(environ.get("HTTP_HOST", ""))
    )


@lru_cache(256)
def _is_loopback_host_header(host: str) -> bool:
    """Return ``is_loopback`` of the name in a Host header, which may end with a port."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False
