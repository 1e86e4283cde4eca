"""Serve an application from a background thread, and stop again: waitress, made stoppable."""

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import waitress
from flask import Flask
from waitress import wasyncore
from waitress.server import TcpWSGIServer

from prospect_lib.errors import SettingsError
from prospect_lib.settings import PREDICT_PORT


def end_with_signals() -> None:
    """Let SIGTERM, and the end of the terminal, end Python as the end of a program does, so
    that what is open gets closed. A program that handles them itself is left alone."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda got, _frame: sys.exit(128 + got))


class Server:
    """Serves an application from a background thread.

    Args:
        app: from ``create_app``.
        host: loopback unless other machines shall reach it; they need the token then.
        port: 0 takes any free one.
        patience: seconds that stopping leaves to the requests in flight.
        listening: a socket that listens already, in place of host and port; closed in the end.
        threads: by default 8 for each processor, at most 64: they mostly wait for Signals.
    """

    def __init__(
        self,
        app: Flask,
        host: str = "127.0.0.1",
        port: int = PREDICT_PORT,
        *,
        threads: int | None = None,
        patience: float = 5.0,
        listening: socket.socket | None = None,
    ) -> None:
        self.app, self.host, self.port = app, host, port
        self._patience, self._given = patience, listening
        self._threads = threads or min(64, 8 * (os.cpu_count() or 1))
        self._sockets: dict[int, Any] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address on this machine, such as ``http://127.0.0.1:9091``."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> "Server":
        """Start to serve, and return; a server that runs is left running.

        Raises:
            SettingsError: the port is in use, or may not be opened.
        """
        if self._thread is None:
            server = self._listen()
            self.port = int(server.effective_port)
            self._stopping.clear()
            self._thread = threading.Thread(
                target=self._serve, args=(server,), name="prospect-server", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Answer the requests in flight, close, write what waits to be written, and wait for
        all of it; harmless if not running."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
            for close in self.app.extensions.get("prospect_closers", ()):
                close()

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _listen(self) -> TcpWSGIServer:
        listening, self._given = self._given or listen(self.host, self.port), None
        # one line for each request that waits for a thread would be a log of its own
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        return waitress.create_server(
            self.app,
            map=self._sockets,
            sockets=[listening],
            threads=self._threads,
            ident=None,
            max_request_body_size=1 << 20,
            asyncore_use_poll=True,
            channel_request_lookahead=1,  # an application can ask whether its caller has left
            channel_timeout=30,
            connection_limit=1000,
            # the guard has to see them: they tell a tunnel's callers from local ones
            clear_untrusted_proxy_headers=False,
        )

    def _serve(self, server: TcpWSGIServer) -> None:
        """waitress' loop, but one that can be ended: stop listening, finish, close."""
        while not self._stopping.is_set():
            wasyncore.loop(0.2, use_poll=True, map=self._sockets, count=1)
        wasyncore.dispatcher.close(server)
        until = time.monotonic() + self._patience
        while _busy(server) and time.monotonic() < until:
            wasyncore.loop(0.05, use_poll=True, map=self._sockets, count=1)
        server.task_dispatcher.shutdown(timeout=max(0.0, until - time.monotonic()))
        wasyncore.close_all(self._sockets, ignore_all=True)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SettingsError: the port is in use, or may not be opened.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        raise SettingsError(
            f"cannot serve on {host}:{port}: "
            f"{'the port is in use' if busy else error.strerror}. Stop what uses it, or "
            "choose another port: set PREDICT_PORT (0 < port < 65536) or pass port=0."
        ) from error


def _busy(server: TcpWSGIServer) -> bool:
    channels = list(server.active_channels.values())
    return any(channel.requests or channel.total_outbufs_len for channel in channels)
