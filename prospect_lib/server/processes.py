"""The prediction server as several processes on one port: Python computes on one processor each.

The parent opens the port and hands its socket to every process; a connection goes to the one
that accepts first, so a busy one takes fewer. Each follows the promoted model by itself. If
one of them dies all end, for what supervises them to start them again.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from prospect_lib import signals
from prospect_lib.errors import ProspectError, ServiceError, SettingsError
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.server.runner import end_with_signals, listen
from prospect_lib.settings import Settings

log = logging.getLogger(__name__)
MOST = 64
PATIENCE = 10.0  # seconds for requests in flight and served scores, then a process is killed
_context = multiprocessing.get_context("spawn")  # a fork would share locks and open files


class Several:
    """So many servers on ``settings.predict_port``; a context manager that ends them all.

    Args:
        count: of processes.
        options: for each of them.
    Raises:
        SettingsError: the count is none, or the port is in use.
    """

    def __init__(self, settings: Settings, options: Options, count: int) -> None:
        if not 1 <= count <= MOST:
            raise SettingsError(
                f"--processes {count}: expected 1 to {MOST}; one for each processor is most."
            )
        self._settings, self._options, self._count = settings, options, count
        self.url = f"http://127.0.0.1:{settings.predict_port}"
        self._running: list[BaseProcess] = []

    def __enter__(self) -> "Several":
        """Start them; returns when all of them serve.

        Raises:
            ProspectError: what one of them has raised, such as that no model is promoted.
        """
        try:
            with listen("127.0.0.1", self._settings.predict_port) as listening:
                heard = [self._start(listening) for _ in range(self._count)]
            for each in heard:
                _hear(each)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._running.clear()

    @property
    def pids(self) -> list[int]:
        """Of the processes that serve."""
        return [process.pid for process in self._running if process.pid is not None]

    def wait(self) -> None:
        """Return never; raise ServiceError when a process has ended by itself."""
        by_sentinel = {process.sentinel: process for process in self._running}
        ended = by_sentinel[wait(list(by_sentinel))[0]]  # type: ignore[index]
        ended.join()
        raise ServiceError(
            f"process {ended.pid} of {self._count} ended with code {ended.exitcode}, so all of "
            "them end. The log above says why, if it could; start the command again."
        )

    def _start(self, listening: socket.socket) -> Connection:
        hear, tell = _context.Pipe(duplex=False)
        process = _context.Process(
            target=_serve, args=(listening, tell, self._settings, self._options), daemon=True
        )
        process.start()
        tell.close()
        self._running.append(process)
        return hear


def _hear(connection: Connection) -> None:
    """Wait until a process serves, or raise what it has raised."""
    with connection:
        try:
            error = connection.recv()
        except EOFError:
            raise ServiceError(
                "a process of the server ended before it served. Start it alone, without "
                "--processes, to see why."
            ) from None
    if error is not None:
        raise error


def _serve(
    listening: socket.socket, tell: Connection, settings: Settings, options: Options
) -> None:
    """What each process does, until its parent ends it or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    log_lines(sys.stderr)
    try:
        end_with_signals()
        _serve_on(listening, tell, settings, options)
    except ProspectError as error:
        tell.send(error)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends already


def _serve_on(
    listening: socket.socket, tell: Connection, settings: Settings, options: Options
) -> None:
    app = create_app(settings.home / "models", signals.reader(settings), settings, options=options)
    with Server(app, port=settings.predict_port, listening=listening):
        log.info("process %d serves", os.getpid())
        with tell:
            tell.send(None)
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
