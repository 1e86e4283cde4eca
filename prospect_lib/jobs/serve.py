"""``python -m prospect_lib serve``: the prediction server in the foreground."""

import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from prospect_lib import signals
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.server.runner import end_with_signals
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

    Args:
        settings: the home, the ports and the secrets.
        problem: the scoring problem that the model is for.
        models: the folder of models; by default the problem's in PROSPECT_HOME.
        origins: websites whose pages may call, such as ``https://www.example.com``.
        public: open a tunnel, and print its address and snippet.
    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, or the port is in use.
        ServiceError: the tunnel cannot be opened.
    """
    log_lines(sys.stderr)
    end_with_signals()
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
            print(stack.enter_context(open_tunnel(server, settings)), end="\n\n")
        print(f"Scores at {server.url}/predict. Ctrl-C stops.", flush=True)
        threading.Event().wait()
