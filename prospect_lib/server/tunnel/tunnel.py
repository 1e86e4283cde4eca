"""A public address for the prediction server, through ngrok.

Example::

    with open_tunnel(server, settings) as tunnel:
        print(tunnel)          # its address, and the snippet for a website

The snippet contains a token; callers without it get 401, those on this machine too
(``Server.headers`` has the operator's). With ``Options(token_file=...)`` the token lasts; with
``domain`` the address does, so that installed snippets go on after a restart.

A process has one tunnel: opening another closes the one before, so that a notebook's cell can be
run again. It closes at the end of the ``with`` block, with ``server.stop()``, when Python ends
(also by SIGTERM, or when its terminal is closed), and when a notebook's kernel restarts, because
the agent is a child process of the kernel. What ``kill -9`` leaves behind, the next start removes.
"""

import atexit
import logging
from contextlib import ExitStack, suppress
from pathlib import Path

import requests
from flask import Flask
from pyngrok import ngrok, process
from pyngrok.conf import PyngrokConfig
from pyngrok.exception import PyngrokError

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.access import Guard
from prospect_lib.server.runner import Server, end_with_signals
from prospect_lib.server.snippet import Snippet
from prospect_lib.server.tunnel.agent import configuration
from prospect_lib.server.tunnel.errors import explain, sentence
from prospect_lib.settings import SECRETS, Settings, where_to_set

NOT_YET_ONLINE = "ERR_NGROK_3200"  # ngrok's answer while an address is new
# the agent prints the token if ngrok refuses it, and pyngrok logs what the agent prints
logging.getLogger("pyngrok.process.ngrok").setLevel(logging.CRITICAL + 1)


class Tunnel:
    """An open way from the internet to the server.

    Attributes:
        url: the public address.
        token: callers send it as ``Authorization: Bearer <token>``.
    """

    def __init__(self, url: str, app: Flask, agent: Path, at_the_end: ExitStack) -> None:
        guard: Guard = app.extensions["prospect_guard"]
        if guard.token is None:  # else pages have one already
            at_the_end.callback(guard.revoke_token)
        self.url, self.token = url.rstrip("/"), guard.token or guard.issue_token()
        self._agent, self._open, self._at_the_end = agent, True, at_the_end
        self._key: str = app.extensions["prospect_key"]
        app.extensions["prospect_closers"].append(self.close)
        atexit.register(self.close)
        end_with_signals()

    @property
    def alive(self) -> bool:
        """Whether the tunnel is open and its agent runs."""
        return self._open and bool(process.is_process_running(str(self._agent)))

    def snippet(
        self, tracker: str | None = None, every: float = 10, identifier: str | None = None
    ) -> Snippet:
        """Return what a page needs to request scores; its origin is among ``Options.origins``.

        The arguments are attributes of :class:`prospect_lib.server.snippet.Snippet`.
        """
        return Snippet(self.url, self.token, tracker, every, self._key, identifier)

    def close(self) -> None:
        """Close the tunnel, and revoke a token that it issued; does nothing if it is closed."""
        if self._open:
            self._open = False
            self._at_the_end.close()
            atexit.unregister(self.close)

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __str__(self) -> str:
        if not self.alive:
            return f"{self.url} is closed. Open another: open_tunnel(server, settings)."
        return f"{self.url}\n\n{self.snippet()}"


_latest: Tunnel | None = None


def check_token(settings: Settings, url: str) -> None:
    """Refuse settings without the token of ngrok.

    Args:
        url: address of the server on this machine.
    Raises:
        SettingsError: no token; the message says how to get one.
    """
    if "NGROK_TOKEN" not in settings.values:
        raise SettingsError(
            f"a public address needs NGROK_TOKEN, which is free: {SECRETS['NGROK_TOKEN']}. "
            f"{where_to_set()} Without it everything on this machine works: the demo website and "
            f"{url}."
        )


def open_tunnel(
    server: Server,
    settings: Settings,
    *,
    domain: str | None = None,
    ngrok_path: Path | None = None,
) -> Tunnel:
    """Give a running server a public address through ngrok; close this process's tunnel before.

    Args:
        domain: your static domain at ngrok, such as ``name.ngrok-free.app``; by default ngrok
            chooses the address.
        ngrok_path: the agent, if it is installed; otherwise pyngrok downloads it.
    Raises:
        SettingsError: no token; the message says how to get one.
        ServiceError: the agent cannot be downloaded or started, ngrok refuses the tunnel, or
            another process of this home has one.
    """
    global _latest
    check_token(settings, server.url)
    if _latest is not None:
        _latest.close()
    with ExitStack() as at_the_end:  # an interrupted cell leaves no agent behind
        file = at_the_end.enter_context(
            configuration(settings.home, settings.secret("NGROK_TOKEN"))
        )
        config = PyngrokConfig(config_path=str(file))
        if ngrok_path is not None:
            config.ngrok_path = str(ngrok_path)
        config.auth_token = None  # as an argument of the agent, every process could read it
        at_the_end.callback(_stop_agent, config)
        chosen = {} if domain is None else {"url": f"https://{domain}"}
        try:
            url = str(ngrok.connect(server.url, pyngrok_config=config, **chosen).public_url)
        except (PyngrokError, OSError) as error:
            raise ServiceError(explain(error, config.ngrok_path)) from None
        _check_address(url, config.ngrok_path)
        _latest = Tunnel(url, server.app, Path(config.ngrok_path), at_the_end.pop_all())
    return _latest


def _check_address(url: str, agent: str) -> None:
    """Raise ServiceError if ngrok answers itself at the new address, as at the end of a quota."""
    with suppress(requests.RequestException):  # this machine may be unable to look up the name
        headers = {"ngrok-skip-browser-warning": "1"}
        answer = requests.get(f"{url}/health", headers=headers, timeout=5)
        code = answer.headers.get("ngrok-error-code", NOT_YET_ONLINE)
        if code != NOT_YET_ONLINE:
            raise ServiceError(sentence(int(code.removeprefix("ERR_NGROK_")), agent))


def _stop_agent(config: PyngrokConfig) -> None:
    with suppress(PyngrokError, OSError):
        ngrok.kill(config)
