"""A public address for the prediction server: ngrok, or the proxy of Colab.

Example::

    with open_tunnel(server, settings) as tunnel:
        print(tunnel)          # its address, the snippet for a website, the requests used

The tunnel has a token, which the snippet carries; callers without it get 401. It is
closed at the end of the ``with``, when Python ends (also by SIGTERM, or when its terminal is
closed), and when a notebook's kernel restarts (the agent is a child of the kernel and ends
with it). Requests are counted by the month, which ngrok's free plan limits.
"""

import atexit
import json
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from flask import Flask
from pyngrok import ngrok, process
from pyngrok.conf import PyngrokConfig
from pyngrok.exception import PyngrokError

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.access import Guard
from prospect_lib.server.metrics import Monitor
from prospect_lib.server.runner import Server, end_with_signals
from prospect_lib.server.snippet import bookmarklet, console
from prospect_lib.settings import SECRETS, Settings

log = logging.getLogger(__name__)
FREE_REQUESTS = 20_000  # a month, on ngrok's free plan (https://ngrok.com/docs/pricing-limits)
WRITTEN_EVERY = 20  # requests: what a killed process forgets at most
WARNINGS = (0.8, 1.0)  # of them, at which the log says so


class Tunnel:
    """An open way from the internet to the server.

    Attributes:
        url: the public address.
        token: what callers send as ``Authorization: Bearer <token>``.
    """

    def __init__(
        self, url: str, app: Flask, count: "MonthlyCount", config: PyngrokConfig | None = None
    ) -> None:
        guard: Guard = app.extensions["prospect_guard"]
        monitor: Monitor = app.extensions["prospect_monitor"]
        self.url, self.token = url.rstrip("/"), guard.issue_token()
        self._guard, self._count, self._config = guard, count, config
        self._shown = monitor.tunnel
        self._shown.set(count.last)
        self._open = True
        guard.on_public = self._note
        atexit.register(self.close)
        end_with_signals()

    @property
    def alive(self) -> bool:
        """Whether it is open and, with ngrok, its agent still runs."""
        agent = self._config is None or process.is_process_running(self._config.ngrok_path)
        return self._open and agent

    @property
    def requests_this_month(self) -> int:
        """Requests that came from outside this month, through this tunnel and earlier ones."""
        return self._count.keep(self._guard.public_requests)

    def snippet(self, tracker: str = "sp", every: int = 10) -> str:
        """JavaScript for a page's console, a tag manager, or the site itself.

        The page's origin has to be among ``Options.origins``.

        Args:
            tracker: namespace of the page's Snowplow tracker.
            every: seconds between scores.
        """
        return console(self.url, token=self.token, tracker=tracker, every=every)

    def bookmarklet(self, tracker: str = "sp", every: int = 10) -> str:
        """The snippet as the address of a bookmark, for sites one does not own."""
        return bookmarklet(self.url, token=self.token, tracker=tracker, every=every)

    def close(self) -> None:
        """Close the tunnel and make its token worthless; harmless if it is closed."""
        if self._open:
            self._open = False
            self._guard.revoke_token()
            self._guard.on_public = None
            self._count.keep(self._guard.public_requests)
            _shut(self._config)
            atexit.unregister(self.close)

    def _note(self, public_requests: int) -> None:
        self._shown.set(self._count.of(public_requests))
        if public_requests % WRITTEN_EVERY:
            return
        before, used = self._count.last, self._count.keep(public_requests)
        if any(before < share * FREE_REQUESTS <= used for share in WARNINGS):
            log.warning(
                "%d of ngrok's %d free requests of this month are used", used, FREE_REQUESTS
            )

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __str__(self) -> str:
        if not self.alive:
            return f"{self.url} is closed. Open another: open_tunnel(server, settings)."
        used = self.requests_this_month
        return (
            f"{self.url}\n{used:,} of ngrok's {FREE_REQUESTS:,} free requests used this month: "
            f"enough for {max(0, FREE_REQUESTS - used) // 360} hours of one visitor, asked every "
            f"10 seconds.\n\n{self.snippet()}"
        )


class MonthlyCount:
    """Requests of the calendar month (UTC), kept in a file between runs.

    Args:
        counted: where the guard's own counter stands now; what comes after is counted.
    Attributes:
        last: the month's sum when it was last written down.
    """

    def __init__(self, path: Path, today: Callable[[], date], counted: int) -> None:
        self._path, self._today, self._counted = path, today, counted
        self._lock = threading.Lock()
        self.last = self._kept()

    def keep(self, public_requests: int) -> int:
        """Add what came since the last time, write it down, and return the month's sum.
        A disk that refuses costs the count, nothing else."""
        with self._lock:
            self.last = self._kept() + public_requests - self._counted
            draft = self._path.with_suffix(".draft")
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                draft.write_text(json.dumps({"month": self._month(), "requests": self.last}))
                draft.replace(self._path)
                self._counted = public_requests
            return self.last

    def of(self, public_requests: int) -> int:
        """The month's sum with what came since it was last written down."""
        return self.last + public_requests - self._counted

    def _month(self) -> str:
        return f"{self._today():%Y-%m}"

    def _kept(self) -> int:
        with suppress(OSError, ValueError, LookupError, TypeError):
            saved = json.loads(self._path.read_text())
            if saved["month"] == self._month():
                return int(saved["requests"])
        return 0


def open_tunnel(
    server: Server,
    settings: Settings,
    *,
    ngrok_path: Path | None = None,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
) -> Tunnel:
    """Give a running server a public address.

    With ``NGROK_TOKEN`` that is ngrok; without it, in Colab, the proxy that Colab offers
    to the person signed in.

    Args:
        ngrok_path: the agent, if it is installed; otherwise pyngrok downloads it.
    Raises:
        SettingsError: no token, and not in Colab; the message says how to get one.
        ServiceError: the agent cannot be had or started, or ngrok refuses the tunnel.
    """
    guard: Guard = server.app.extensions["prospect_guard"]
    count = MonthlyCount(settings.home / "tunnel.json", today, guard.public_requests)
    if "NGROK_TOKEN" in settings.values:
        return _ngrok(server, settings, count, ngrok_path)
    if "google.colab" in sys.modules:
        return Tunnel(_colab_proxy(server.port), server.app, count)
    raise SettingsError(
        f"a public address needs NGROK_TOKEN, which is free: {SECRETS['NGROK_TOKEN']}. Set it "
        "in Colab's secrets panel, in the environment or in .env. Without it everything on "
        f"this machine works: the demo website and {server.url}."
    )


def _ngrok(server: Server, settings: Settings, count: MonthlyCount, path: Path | None) -> Tunnel:
    file = settings.home / "ngrok.yml"
    config = PyngrokConfig(config_path=str(file))
    config.auth_token = None  # as an argument of the agent, every process could see it
    if path is not None:
        config.ngrok_path = str(path)
    try:
        _write_config(file, settings.secret("NGROK_TOKEN"))
        public = str(ngrok.connect(server.url, pyngrok_config=config).public_url)
    except (PyngrokError, OSError) as error:
        _shut(config)
        raise ServiceError(_explain(error)) from None
    return Tunnel(public, server.app, count, config)


def _write_config(path: Path, token: str) -> None:
    """ngrok's settings, for its owner's eyes only. JSON is YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps({"version": "3", "agent": {"authtoken": token}}))


def _shut(config: PyngrokConfig | None) -> None:
    if config is not None:
        with suppress(PyngrokError, OSError):
            ngrok.kill(config)
        Path(str(config.config_path)).unlink(missing_ok=True)


def _explain(error: Exception) -> str:
    """What went wrong, by ngrok's error code where there is one; its text may hold the token."""
    text = str(getattr(error, "ngrok_error", None) or error)
    if "ERR_NGROK_105" in text or "ERR_NGROK_107" in text:
        return f"ngrok refuses NGROK_TOKEN. Copy it again: {SECRETS['NGROK_TOKEN']}."
    if "ERR_NGROK_108" in text:
        return "ngrok allows one agent at a time, and another one runs. Stop it, then try again."
    if type(error).__name__ == "PyngrokNgrokInstallError":
        return (
            "the ngrok agent cannot be downloaded. Install it (https://ngrok.com/download) and "
            "pass open_tunnel(ngrok_path=...), or work on this machine without a tunnel."
        )
    return f"the ngrok agent did not open the tunnel ({type(error).__name__}). Try again."


def _colab_proxy(port: int) -> str:
    """The address under which Colab shows a port to the person signed in, and to no one else."""
    from google.colab import output  # only importable inside Colab

    address: Any = output.eval_js(f"google.colab.kernel.proxyPort({port})")
    return str(address)
