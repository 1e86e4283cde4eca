"""Connections kept open for ``requests``, with a deadline for the whole of an answer.

The timeout of ``requests`` is for each read: a server that sends one byte a second is never
too slow for it. Here the status line, the headers and the body together have to be there
by the moment given with ``until``.

Example::

    session = kept_session("https://…", connections=8)
    with until(time.monotonic() + 2):
        session.get("https://…", timeout=2)  # raises requests.Timeout or TimeoutError
"""

import contextlib
import http.client
import io
import math
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_this = threading.local()


@contextlib.contextmanager
def until(deadline: float) -> Iterator[None]:
    """Give what this thread reads until a moment of ``time.monotonic()``."""
    _this.deadline = deadline
    try:
        yield
    finally:
        del _this.deadline


def kept_session(address: str, connections: int) -> requests.Session:
    """A session that keeps so many connections to an address, whose answers obey ``until``."""
    session = requests.Session()
    # Proxies are looked up once. Left on, trust_env would look them up at every call and
    # let a ~/.netrc replace our Authorization header.
    session.trust_env = False
    session.proxies.update(requests.utils.get_environ_proxies(address))
    adapter = _Adapter(pool_connections=2, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Timed(io.RawIOBase):
    """A socket's bytes: each read has what is left of the time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._bytes = sock, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is only read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is, or wait for it until the deadline.

        Raises:
            TimeoutError: nothing came by then.
        """
        left = getattr(_this, "deadline", math.inf) - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        if left < math.inf:
            self._sock.settimeout(left)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        """Give the socket back."""
        if not self.closed:
            self._bytes.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **given: Any) -> None:
        super().__init__(sock, *args, **given)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock))


class _Connection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **given: Any) -> None:
        super().init_poolmanager(*args, **given)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **given: Any) -> Any:
        manager = super().proxy_manager_for(*args, **given)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager
