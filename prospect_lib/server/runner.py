"""Serve an application from background threads, and stop again: waitress, bounded by connection.

One thread reads from all connections, and hands a request to a worker when all of it has
arrived. So a silent or slow client costs a connection, never a worker. It is dropped after a
while, sooner when no further connection fits: probes are always answered.
"""

import errno
import logging
import resource
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from prospect_lib.errors import SettingsError, one_line
from prospect_lib.server.errors import problem
from prospect_lib.settings import PREDICT_PORT

CONNECTIONS = 1000  # at the same time, or half of the files that the process may open
SILENT_SECONDS = 15.0  # after which a connection is closed,
CROWDED_SECONDS = 1.0  # and when there are so many
MAX_HEADER, MAX_HTTP_BODY = 1 << 16, 1 << 17  # bytes; the application has a lower limit for bodies
_STATUS = {431: 413, 500: 503, 501: 400}  # of waitress, to those that are documented

# one line for each request that waits for a thread
logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def end_with_signals() -> None:
    """Let SIGTERM, and the end of the terminal, end Python as the end of a program does.

    Open tunnels and logs are closed then. A program with its own handlers keeps them.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))


def check_port(port: int, host: str = "127.0.0.1") -> None:
    """Refuse a port that is in use, before anything is loaded for it.

    Raises:
        SettingsError: the port is in use, or may not be opened.
    """
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise _refusal(host, port, error) from error


class Server:
    """Serves an application from background threads.

    Args:
        app: from ``create_app``.
        host: loopback by default; with ``"0.0.0.0"`` other machines can call, with the token.
        port: 0 takes any free one.
        threads: requests answered at the same time; they mostly wait for Signals.
        patience: seconds that stopping gives to the requests in flight.
    """

    def __init__(
        self,
        app: Flask,
        host: str = "127.0.0.1",
        port: int = PREDICT_PORT,
        *,
        threads: int = 32,
        patience: float = 5.0,
    ) -> None:
        self.app, self.host, self.port = app, host, port
        self._threads, self._patience = threads, patience
        self._running: tuple[WebServer, threading.Thread] | None = None

    @property
    def url(self) -> str:
        """Address on this machine, such as ``http://127.0.0.1:9091``."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers for requests of this program: a server that others can reach asks for a token.

        Example: ``requests.post(f"{server.url}/predict", json=body, headers=server.headers)``
        """
        guard = self.app.extensions.get("prospect_guard")
        return {} if guard is None else dict(guard.headers)

    def start(self) -> "Server":
        """Start to serve, and return; does nothing if the server runs.

        Raises:
            SettingsError: the port is in use, or may not be opened.
        """
        if self._running is None:
            try:
                server = WebServer(self.app, self.host, self.port, self._threads)
            except OSError as error:
                raise _refusal(self.host, self.port, error) from error
            self.port = int(server.effective_port)
            # daemons, so that a program may end without stop()
            thread = threading.Thread(target=server.run, name="prospect-server", daemon=True)
            thread.start()
            self._running = server, thread
        return self

    def stop(self) -> None:
        """Answer the requests in flight, close, and write what waits to be written.

        Returns when all of it is done; does nothing if the server does not run.
        """
        if self._running is not None:
            (server, thread), self._running = self._running, None
            server.stop(self._patience)
            thread.join()
            for close in self.app.extensions.get("prospect_closers", ()):
                close()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _refusal(host: str, port: int, error: OSError) -> SettingsError:
    busy = error.errno == errno.EADDRINUSE
    return SettingsError(
        f"cannot serve on {host}:{port}: "
        f"{'the port is in use' if busy else error.strerror or error}. Stop what uses it, or "
        "choose another port: set PREDICT_PORT (0 < port < 65536) or pass port=0."
    )


class _Problem(ErrorTask):  # type: ignore[misc] # waitress has no types
    """Answers a request that is not HTTP with problem details."""

    def execute(self) -> None:
        error = self.request.error
        status = HTTPStatus(_STATUS.get(error.code, error.code))
        answer = problem(status, status.phrase, one_line(error.body))
        self.status, body = answer.status, answer.get_data()
        self.response_headers.extend(answer.headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Connection(HTTPChannel):  # type: ignore[misc]
    """A connection that knows when the latest request on it began.

    waitress measures from the last byte, and by a clock that may be set back.
    """

    error_task_class = _Problem

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = time.monotonic()

    def received(self, data: bytes) -> Any:
        if self.request is None:
            self.begun = time.monotonic()
        return super().received(data)


class WebServer(TcpWSGIServer):  # type: ignore[misc]
    """Listens from its creation on; ``run`` answers until ``stop`` is called in another thread.

    Args:
        app: the WSGI application.
        host: the address to listen on.
        port: 0 takes any free one; ``effective_port`` is the port in use.
        threads: requests answered at the same time.
        max_body: of a request, in bytes.
        options: further settings of waitress.
    Raises:
        OSError: the address cannot be opened.
    """

    channel_class = _Connection

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        threads: int,
        max_body: int = MAX_HTTP_BODY,
        **options: Any,
    ) -> None:
        self._channels: dict[int, Any] = {}
        self._next_check = 0.0
        try:
            super().__init__(
                app,
                self._channels,
                dispatcher=ThreadedTaskDispatcher(),
                host=host,
                port=port,
                ident=None,
                connection_limit=_connection_limit(),
                max_request_header_size=MAX_HEADER,
                max_request_body_size=max_body,
                asyncore_use_poll=True,  # `select` cannot watch more than 1024 files
                clear_untrusted_proxy_headers=False,  # the application decides whom to trust
                log_socket_errors=False,
                **options,
            )
        except BaseException:
            wasyncore.close_all(self._channels, ignore_all=True)
            raise
        self.task_dispatcher.set_thread_count(threads)

    def maintenance(self, now: float) -> None:
        """Leave the connections to ``readable``, which does not trust the clock."""

    def readable(self) -> Any:
        """Return whether a connection can be accepted; close those that are silent or slow."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + min(1.0, CROWDED_SECONDS)
            allowed = CROWDED_SECONDS if self.in_connection_overflow else SILENT_SECONDS
            for channel in self.active_channels.values():
                if not channel.requests and channel.begun < now - allowed:
                    channel.will_close = True
        return super().readable()

    def stop(self, patience: float) -> None:
        """Accept nothing more, answer the requests in flight, and let ``run`` return.

        Args:
            patience: seconds after which requests that go on are given up.
        """
        self.accepting = False
        deadline = time.monotonic() + patience
        while self.task_dispatcher.queue and time.monotonic() < deadline:
            time.sleep(0.01)
        self.task_dispatcher.shutdown(timeout=max(0.0, deadline - time.monotonic()))
        with self.trigger.lock:  # else `run`, woken by another thread, closes the trigger first
            self.trigger.thunks.append(self._close)  # in the thread of `run`
            self.trigger.pull_trigger()

    def _close(self) -> None:
        for channel in [*self.active_channels.values()]:
            channel.handle_close()
        wasyncore.close_all(self._channels, ignore_all=True)


def _connection_limit() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)
