"""``python -m prospect_lib serve``: the prediction server in the foreground."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prospect_lib import signals
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.server.runner import end_with_signals
from prospect_lib.server.snippet import Snippet
from prospect_lib.server.tunnel import open_tunnel
from prospect_lib.settings import Settings


def serve_scores(
    settings: Settings,
    problem: ScoringProblem = prospect_problem,
    *,
    models: Path | None = None,
    origins: tuple[str, ...] = (),
    public: bool = False,
) -> None:
    """Serve the promoted model until Ctrl-C or SIGTERM; log JSON lines to standard error.

    The arguments and errors are those of :func:`serving`.
    """
    log_lines(sys.stderr)
    end_with_signals()
    with serving(settings, problem, models=models, origins=origins, public=public) as server:
        print(f"Scores at {server.url}/predict. Ctrl-C stops.", flush=True)
        threading.Event().wait()


@contextmanager
def serving(
    settings: Settings,
    problem: ScoringProblem = prospect_problem,
    *,
    models: Path | None = None,
    origins: tuple[str, ...] = (),
    public: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[Server]:
    """Run the server of the promoted model; the demo website of a local sandbox uses it.

    Args:
        settings: the home, the ports and the secrets.
        problem: the scoring problem that the model is for.
        models: the folder of models; by default the problem's in PROSPECT_HOME.
        origins: websites whose pages may call, such as ``https://www.example.com``.
        public: open a tunnel.
        say: takes the snippet for these pages, with the tunnel's address and token if there is one.
    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, or the port is in use.
        ServiceError: the tunnel cannot be opened.
    """
    app = create_app(
        models or problem.folder(settings.home, "models"),
        signals.reader(settings, problem),
        settings,
        problem=problem,
        options=Options(origins=origins),
    )
    with ExitStack() as stack:
        server = stack.enter_context(Server(app, port=settings.predict_port))
        if settings.signals_backend == "local":
            announce(settings.home, server.url, predict_key=problem.key)
            stack.callback(announce, settings.home, None)
        if public:
            say(f"{stack.enter_context(open_tunnel(server, settings))}\n")
        elif origins:
            say(f"{Snippet(server.url, key=problem.key)}\n")
        yield server
