"""A public address for the prediction server: ngrok, or the proxy of Colab.

Example::

    with open_tunnel(server, settings) as tunnel:
        print(tunnel)          # its address, and the snippet for a website

The snippet contains a token; callers without it get 401, those on this machine too
(``Server.headers`` has the operator's). With ``Options(token_file=...)`` the token lasts; with
``domain`` the address does, so that installed snippets go on after a restart. The tunnel
closes at the end of the ``with`` block, when Python ends (also by SIGTERM, or when its
terminal is closed), and when a notebook's kernel restarts, because the agent is a child
process of the kernel.
"""

import atexit
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Flask
from pyngrok import ngrok, process
from pyngrok.conf import PyngrokConfig
from pyngrok.exception import PyngrokError

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.files import write_whole
from prospect_lib.server.access import Guard
from prospect_lib.server.runner import Server, end_with_signals
from prospect_lib.server.snippet import Snippet
from prospect_lib.settings import SECRETS, Settings


class Tunnel:
    """An open way from the internet to the server.

    Attributes:
        url: the public address.
        token: callers send it as ``Authorization: Bearer <token>``.
    """

    def __init__(self, url: str, app: Flask, config: PyngrokConfig | None = None) -> None:
        guard: Guard = app.extensions["prospect_guard"]
        self.url, self.token = url.rstrip("/"), guard.issue_token()
        self._guard, self._config, self._open = guard, config, True
        self._key: str = app.extensions["prospect_key"]
        atexit.register(self.close)
        end_with_signals()

    @property
    def alive(self) -> bool:
        """Whether the tunnel is open and, with ngrok, its agent still runs."""
        agent = self._config is None or process.is_process_running(self._config.ngrok_path)
        return self._open and agent

    def snippet(
        self, tracker: str | None = None, every: float = 10, identifier: str | None = None
    ) -> Snippet:
        """Return what a page needs to request scores; its origin is among ``Options.origins``.

        The arguments are attributes of :class:`prospect_lib.server.snippet.Snippet`.
        """
        return Snippet(self.url, self.token, tracker, every, self._key, identifier)

    def close(self) -> None:
        """Close the tunnel and revoke its token; does nothing if it is closed."""
        if self._open:
            self._open = False
            self._guard.revoke_token()
            _stop_agent(self._config)
            atexit.unregister(self.close)

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __str__(self) -> str:
        if not self.alive:
            return f"{self.url} is closed. Open another: open_tunnel(server, settings)."
        return f"{self.url}\n\n{self.snippet()}"


def open_tunnel(
    server: Server,
    settings: Settings,
    *,
    domain: str | None = None,
    ngrok_path: Path | None = None,
) -> Tunnel:
    """Give a running server a public address.

    With ``NGROK_TOKEN`` this is ngrok; without it, in Colab, the proxy that Colab offers to
    the person who is signed in.

    Args:
        domain: your static domain at ngrok, such as ``name.ngrok-free.app``; by default the
            address is another one each time.
        ngrok_path: the agent, if it is installed; otherwise pyngrok downloads it.
    Raises:
        SettingsError: no token, and not in Colab; the message says how to get one.
        ServiceError: the agent cannot be downloaded or started, or ngrok refuses the tunnel.
    """
    if "NGROK_TOKEN" in settings.values:
        return _ngrok(server, settings, domain, ngrok_path)
    if "google.colab" in sys.modules and domain is None:
        return Tunnel(_colab_proxy(server.port), server.app)
    raise SettingsError(
        f"a public address needs NGROK_TOKEN, which is free: {SECRETS['NGROK_TOKEN']}. Set it "
        "in Colab's secrets panel, in the environment or in .env. Without it everything on "
        f"this machine works: the demo website and {server.url}."
    )


def _ngrok(server: Server, settings: Settings, domain: str | None, agent: Path | None) -> Tunnel:
    file = settings.home / "ngrok.yml"
    config = PyngrokConfig(config_path=str(file))
    config.auth_token = None  # as an argument of the agent, every process could read it
    if agent is not None:
        config.ngrok_path = str(agent)
    # JSON is YAML
    content = json.dumps({"version": "3", "agent": {"authtoken": settings.secret("NGROK_TOKEN")}})
    try:
        write_whole(file, content, mode=0o600)
        chosen = {} if domain is None else {"url": f"https://{domain}"}
        url = str(ngrok.connect(server.url, pyngrok_config=config, **chosen).public_url)
    except (PyngrokError, OSError) as error:
        _stop_agent(config)
        raise ServiceError(_explain(error)) from None
    return Tunnel(url, server.app, config)


def _stop_agent(config: PyngrokConfig | None) -> None:
    if config is not None:
        with suppress(PyngrokError, OSError):
            ngrok.kill(config)
        Path(str(config.config_path)).unlink(missing_ok=True)


def _explain(error: Exception) -> str:
    """Return the reason, by ngrok's error code if there is one; its text may hold the token."""
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
    """Return the address under which Colab shows a port to the person signed in, only."""
    from google.colab import output  # only importable inside Colab

    address: Any = output.eval_js(f"google.colab.kernel.proxyPort({port})")
    return str(address)
