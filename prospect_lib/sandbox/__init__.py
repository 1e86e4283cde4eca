"""A local stand-in for Snowplow: collector, Signals API and demo website in one process."""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.settings import Settings

MARKER = "prospect-sandbox"
THREADS = 48  # each open intervention stream holds one
PATIENCE = 30.0
LOST_RACE = SettingsError.exit_code  # another one may have been quicker: wait for it


def token(home: Path) -> str:
    """The API token of the sandbox in ``home``, made on first use, readable by its owner only.

    Raises:
        SettingsError: the folder cannot be written.
    """
    path = home / "token"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            with os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"{home} cannot be written ({error.strerror}). Set PROSPECT_HOME to a folder of yours."
        ) from error


def ensure_running(settings: Settings) -> str:
    """The address of the local sandbox, which is started in the background if need be.

    Raises:
        ServiceError: something else uses the port, or the sandbox does not come up.
    """
    if _answers(settings):
        return settings.sandbox_url
    token(settings.home)
    log = settings.home / "sandbox.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prospect_lib.sandbox"],
            env={
                **os.environ,
                "PROSPECT_HOME": str(settings.home),
                "PROSPECT_PORT": str(settings.sandbox_port),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        gone = process.poll() is not None
        if _answers(settings, opening=not gone):
            process.returncode = 0  # it outlives this process on purpose: nobody waits for it
            return settings.sandbox_url
        if gone and process.returncode != LOST_RACE:
            break
        time.sleep(0.05)
    raise ServiceError(f"the sandbox did not start; its log says:\n{_tail(log)}")


def stop(settings: Settings) -> None:
    """Stop the background sandbox of this home, if one runs; its state stays."""
    path = settings.home / "sandbox.pid"
    try:
        pid = int(path.read_text(encoding="utf-8"))
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        path.unlink(missing_ok=True)
        return
    deadline = time.monotonic() + PATIENCE
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):  # if it was our own child, it leaves no zombie
        os.waitpid(pid, 0)


def reset(settings: Settings) -> None:
    """Stop the sandbox and forget its events and published objects; models are kept."""
    stop(settings)
    for name in ("live", "history", "truth"):
        shutil.rmtree(settings.home / name, ignore_errors=True)
    for name in ("registry.json", "site.json", "sandbox.log"):
        (settings.home / name).unlink(missing_ok=True)


def serve(settings: Settings) -> None:
    """Run the sandbox in the foreground until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: the port is in use or the folder cannot be written.
    """
    import waitress

    from prospect_lib.sandbox.app import create_app

    try:
        listening = socket.create_server(("127.0.0.1", settings.sandbox_port))
    except OSError as error:
        raise SettingsError(_occupied(settings)) from error
    app = create_app(settings)
    server = waitress.create_server(app, sockets=[listening], threads=THREADS, ident=None)
    pid = settings.home / "sandbox.pid"
    pid.write_text(str(os.getpid()), encoding="utf-8")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run()
    finally:
        server.close()
        app.extensions["storage"].close()
        pid.unlink(missing_ok=True)


def _answers(settings: Settings) -> bool:
    try:
        found = requests.get(f"{settings.sandbox_url}/health", timeout=2)
    except requests.ConnectionError:
        return False
    except requests.RequestException as error:
        raise ServiceError(_occupied(settings)) from error
    if found.headers.get("Content-Type") != "application/json" or MARKER not in found.text:
        raise ServiceError(_occupied(settings))
    return True


def _occupied(settings: Settings) -> str:
    return (
        f"port {settings.sandbox_port} is in use by something that is not this sandbox. Stop it, "
        "or choose another port: PROSPECT_PORT=9190."
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
