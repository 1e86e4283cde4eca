"""Start, stop and reset the sandbox: one process per home, found by a lock on its home."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import requests

from prospect_lib import files
from prospect_lib.errors import ServiceError, SettingsError, one_line
from prospect_lib.sandbox.collector.payloads import MAX_PAYLOAD
from prospect_lib.sandbox.home import MARKER, token
from prospect_lib.server.announcement import SITE_FILE
from prospect_lib.settings import Settings
from prospect_lib.warehouse.stored_events import EVENTS_FILE, refuse_old_format

THREADS = 48  # each open stream of interventions occupies one
START_STOP_SECONDS = 30.0  # seconds that starting and stopping may take
LOCK_FILE = "sandbox.pid"  # has the number of the process that runs
LOOPBACK = "127.0.0.1"  # reachable from this machine only
#: What `reset` removes from a home; "live" is of earlier releases.
STATE = (
    *(EVENTS_FILE, f"{EVENTS_FILE}-wal", f"{EVENTS_FILE}-shm", "live", "history", "truth"),
    *("registry.json", SITE_FILE, "sandbox.log"),
)


def ensure_running(settings: Settings) -> str:
    """Return the address of the local sandbox; start it in the background if it does not run.

    Raises:
        ServiceError: another program uses the port, or the sandbox does not start.
        SettingsError: the home cannot be written.
        DataError: the home holds events of an earlier release.
    """
    if _answers(settings):
        return settings.sandbox_url
    refuse_old_format(settings.home)
    token(files.writable_folder(settings.home))
    log = settings.home / "sandbox.log"
    try:
        output = log.open("ab")
    except OSError as error:
        raise files.not_writable(settings.home, error) from error
    with output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prospect_lib", "sandbox"],
            env={**os.environ, **settings.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_STOP_SECONDS
    while time.monotonic() < deadline:
        if _answers(settings):
            process.returncode = 0  # it outlives this process on purpose: no warning about it
            return settings.sandbox_url
        if process.poll() is not None and holder(settings.home) is None:
            break  # it failed, and no other process has started one
        time.sleep(0.05)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no log"]
    raise ServiceError(f"the sandbox did not start: {one_line(lines[-1], 500)}")


@contextlib.contextmanager
def leave_as_before(settings: Settings) -> Iterator[None]:
    """Stop a sandbox that is started in the block when it ends; keep one that ran before."""
    ran_before = holder(settings.home) is not None
    try:
        yield
    finally:
        if not ran_before:
            stop(settings)


def stop(settings: Settings) -> bool:
    """Stop the sandbox of this home; its state stays.

    Returns:
        Whether one was running.
    Raises:
        ServiceError: it does not stop.
    """
    pid = holder(settings.home)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + START_STOP_SECONDS
    while holder(settings.home) == pid:
        if time.monotonic() > deadline:
            raise ServiceError(f"the sandbox (process {pid}) does not stop; end it by hand.")
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):  # a child of this process leaves no zombie
        os.waitpid(pid, 0)
    return True


def reset(settings: Settings) -> list[str]:
    """Stop the sandbox and delete its events and published objects; models are kept.

    Returns:
        The names that were deleted from the home.
    Raises:
        ServiceError: it does not stop.
        SettingsError: a file cannot be deleted; the message names it.
    """
    stop(settings)
    deleted = [name for name in STATE if (settings.home / name).exists()]
    for path in (settings.home / name for name in deleted):
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be deleted ({error.strerror}). Make {settings.home} writable, and "
                "reset again."
            ) from error
    return deleted


def serve(
    settings: Settings,
    host: str = LOOPBACK,
    *,
    warehouse: bool = True,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Run the sandbox in the foreground until SIGTERM or Ctrl-C.

    Args:
        host: the address to listen on. Any other than the default lets other machines send
            events and see the website; ``0.0.0.0`` stands for all addresses of this machine.
        warehouse: whether its Signals has a warehouse connection, as ``create_sandbox``.
        ready: called once it listens.
    Raises:
        SettingsError: the port or the home is in use, the host is not an address of this
            machine, or the folder cannot be written.
        DataError: its events are damaged, or of another release.
    """
    from prospect_lib.sandbox.app import create_sandbox
    from prospect_lib.server.runner import WebServer

    token(settings.home)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as at_the_end:
        at_the_end.enter_context(_lock(settings.home))
        app = create_sandbox(settings, warehouse=warehouse)
        at_the_end.callback(app.extensions["sandbox"].events.close)
        try:
            server = WebServer(
                app,
                host,
                settings.sandbox_port,
                THREADS,
                max_body=2 * MAX_PAYLOAD,  # the collector records smaller ones
                channel_request_lookahead=1,  # to notice that a listener has left
            )
        except (OSError, ValueError) as error:  # ValueError: a host without an address
            raise _not_listening(settings, host, error) from error
        at_the_end.callback(server.close)

        def finish() -> None:
            app.extensions["sandbox"].subscribers.close()
            server.stop(patience=2.0)

        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=finish).start())
        ready()
        server.run()


def holder(home: Path) -> int | None:
    """Return the id of the process that runs the sandbox of this home; ``None`` without one."""
    return files.holder_of(home / LOCK_FILE)


def _not_listening(settings: Settings, host: str, error: OSError | ValueError) -> SettingsError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return SettingsError(_port_in_use(settings))
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SettingsError(
        f"host={host!r}, port {settings.sandbox_port}: {reason.rstrip('.')}. Expected an "
        "address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them."
    )


def _lock(home: Path) -> TextIO:
    deadline = time.monotonic() + 0.5  # `holder` locks the file for a moment
    while True:
        try:
            return files.hold(home / LOCK_FILE)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"another sandbox uses {home}. Stop it, or set PROSPECT_HOME to another folder."
                ) from None
            time.sleep(0.01)
        except OSError as error:
            raise files.not_writable(home, error) from error


def _answers(settings: Settings) -> bool:
    """Return whether the sandbox of this home answers; raise if another program does."""
    try:
        answer = requests.get(f"{settings.sandbox_url}/health", timeout=2)
    except requests.ConnectionError:
        return False
    except requests.RequestException as error:
        if isinstance(error, requests.Timeout) and holder(settings.home):
            return False  # it is starting, or busy
        raise ServiceError(_port_in_use(settings)) from error
    if answer.headers.get("Content-Type") != "application/json" or MARKER not in answer.text:
        raise ServiceError(_port_in_use(settings))
    home = answer.json().get("home", str(settings.home))
    if Path(home).resolve() != settings.home.resolve():
        raise ServiceError(
            f"port {settings.sandbox_port} is in use by the sandbox of {home}. Stop it, or choose "
            "another port for this one: PROSPECT_PORT=9190."
        )
    return True


def _port_in_use(settings: Settings) -> str:
    return (
        f"port {settings.sandbox_port} is in use by a program that is not this sandbox. Stop it, "
        "or choose another port: PROSPECT_PORT=9190."
    )
