"""``python -m prospect_lib serve``: the prediction server in the foreground."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prospect_lib import signals
from prospect_lib.files import writable_folder
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.server.runner import check_port, end_with_signals
from prospect_lib.server.snippet import Snippet
from prospect_lib.server.tunnel import check_token, open_tunnel
from prospect_lib.server.tunnel.agent import remove_left_behind
from prospect_lib.settings import Settings


@dataclass(frozen=True)
class Address:
    """Where pages reach the server, and what the printed snippet has to know of them.

    Attributes:
        public: open a tunnel.
        domain: static domain of the tunnel, such as ``name.ngrok-free.app``; opens one too.
        proxy: address of your own proxy, such as ``https://www.example.com/scores``.
        tracker: namespace of the pages' Snowplow tracker; by default their first tracker.
    """

    public: bool = False
    domain: str | None = None
    proxy: str | None = None
    tracker: str | None = None


def serve_until_stopped(serving: AbstractContextManager[Server]) -> None:
    """Serve until Ctrl-C or SIGTERM; log JSON lines to standard error.

    Args:
        serving: what :func:`serving` returns; its errors are raised.
    """
    log_lines(sys.stderr)
    end_with_signals()
    with serving as server:
        print(f"Scores at {server.url}/predict. Ctrl-C stops.", flush=True)
        threading.Event().wait()


@contextmanager
def serving(
    settings: Settings,
    problem: ScoringProblem = prospect_problem,
    *,
    models: Path | None = None,
    options: Options | None = None,
    address: Address | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[Server]:
    """Run the server of the promoted model; the demo website of a local sandbox uses it.

    Args:
        settings: the home, the ports and the secrets.
        problem: the scoring problem that the model is for.
        models: the folder of models; by default the problem's in PROSPECT_HOME.
        options: the choices of the server's owner, such as the websites that may call.
        address: where their pages reach it.
        say: takes the snippet for these pages, with the server's address and its token.
    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, the port is in use, or the options do not fit.
        ServiceError: the tunnel cannot be opened.
    """
    options, address = options or Options(), address or Address()
    remove_left_behind(settings.home)
    if address.public or address.domain:
        check_token(settings, settings.predict_url)
    check_port(settings.predict_port)
    writable_folder(settings.home)
    app = create_app(
        models or problem.folder(settings.home, "models"),
        signals.reader(settings, problem),
        settings,
        problem=problem,
        options=options,
    )
    with ExitStack() as stack:
        server = stack.enter_context(Server(app, port=settings.predict_port))
        url = address.proxy or server.url
        if address.public or address.domain:
            tunnel = open_tunnel(server, settings, domain=address.domain)
            url = stack.enter_context(tunnel).url
        token = app.extensions["prospect_guard"].token
        if settings.signals_backend == "local":
            announce(settings.home, server.url, token, problem.key)
            stack.callback(announce, settings.home, None)
        if url != server.url or (options.origins and not options.behind_proxy):
            say(f"{url}\n\n{Snippet(url, token, address.tracker, key=problem.key)}\n")
        elif options.origins:
            say("--behind-proxy https://... prints the snippet: it needs the proxy's address.\n")
        yield server
