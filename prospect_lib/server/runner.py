"""Serve an application from a background thread, and stop again: cheroot in a few lines."""

import errno
import logging
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from functools import partial

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest
from flask import Flask

from prospect_lib.errors import SettingsError
from prospect_lib.settings import PREDICT_PORT

_log = logging.getLogger(__name__)
BACKLOG = 128  # connections that wait to be accepted
CONNECTIONS = 1000  # kept open between requests
IDLE_SECONDS = 15  # after which such a connection is closed
MAX_HEADER, MAX_HTTP_BODY = 1 << 16, 1 << 20  # bytes; the application has a lower limit for bodies


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
        self._running: _CherootServer | None = None

    @property
    def url(self) -> str:
        """Address on this machine, such as ``http://127.0.0.1:9091``."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> "Server":
        """Start to serve, and return; does nothing if the server runs.

        Raises:
            SettingsError: the port is in use, or may not be opened.
        """
        if self._running is None:
            _check_port(self.host, self.port)
            server = _CherootServer(
                (self.host, self.port),
                self.app,
                numthreads=self._threads,
                server_name="prospect",
                request_queue_size=BACKLOG,
                timeout=IDLE_SECONDS,
                shutdown_timeout=self._patience,  # type: ignore[arg-type] # a float will do
            )
            port: Future[int] = Future()
            # its threads are daemons because this one is: a program may end without stop()
            threading.Thread(
                target=_serve, args=(server, port), name="prospect-server", daemon=True
            ).start()
            try:
                self.port = port.result()
            except OSError:
                _check_port(self.host, self.port)  # taken since it was checked
                raise
            self._running = server
        return self

    def stop(self) -> None:
        """Answer the requests in flight, close, and write what waits to be written.

        Returns when all of it is done; does nothing if the server does not run.
        """
        if self._running is not None:
            server, self._running = self._running, None
            # in a thread, because cheroot waits without limit for a request that never ends
            stopping = threading.Thread(target=server.stop, name="stop-server", daemon=True)
            stopping.start()
            stopping.join(self._patience + 1.0)
            for close in self.app.extensions.get("prospect_closers", ()):
                close()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _check_port(host: str, port: int) -> None:
    """Raise SettingsError if a port cannot be opened; cheroot's own error has no number."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        raise SettingsError(
            f"cannot serve on {host}:{port}: "
            f"{'the port is in use' if busy else error.strerror or error}. Stop what uses it, or "
            "choose another port: set PREDICT_PORT (0 < port < 65536) or pass port=0."
        ) from error


class _Connection(HTTPConnection):
    """Leaves paths such as ``//x`` to the application: cheroot would end the connection."""

    RequestHandlerClass = partial(HTTPRequest, strict_mode=False)


class _CherootServer(wsgi.Server):
    """cheroot with limits, and without addresses of callers in its log."""

    ConnectionClass = _Connection
    expiration_interval = 0.1  # seconds between checks whether to stop
    keep_alive_conn_limit = CONNECTIONS
    max_request_header_size = MAX_HEADER
    max_request_body_size = MAX_HTTP_BODY

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Log the kind of an error only: its text may contain a caller's address."""
        del msg, traceback
        kind = sys.exc_info()[0]
        if level >= logging.WARNING:
            _log.log(level, "the web server reports %s", kind.__name__ if kind else "an error")


def _serve(server: _CherootServer, port: "Future[int]") -> None:
    try:
        server.prepare()
        port.set_result(int(server.bind_addr[1]))
    except BaseException as error:  # noqa: BLE001 - raised by start()
        port.set_exception(error)
        return
    server.serve()
