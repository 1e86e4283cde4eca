"""``python -m prospect_lib serve``: the prediction server in the foreground."""

import sys
import threading
from contextlib import ExitStack

from prospect_lib import signals
from prospect_lib.monitoring import log_lines
from prospect_lib.running import end_with_signals
from prospect_lib.sandbox.site import announce
from prospect_lib.server import Options, Server, create_app
from prospect_lib.settings import Settings
from prospect_lib.tunnel import open_tunnel


def serve(settings: Settings, *, origins: tuple[str, ...] = (), public: bool = False) -> None:
    """Serve the promoted model until Ctrl-C or SIGTERM; log JSON lines to standard error.

    Args:
        origins: websites whose pages may ask, such as ``https://www.example.com``.
        public: open a tunnel, and print its snippet.
    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, or the port is in use.
        ServiceError: the tunnel cannot be opened.
    """
    log_lines(sys.stderr)
    end_with_signals()
    options = Options(origins=origins)
    app = create_app(settings.home / "models", signals.reader(settings), settings, options=options)
    with ExitStack() as until_the_end:
        server = until_the_end.enter_context(Server(app, port=settings.predict_port))
        if settings.signals_backend == "local":
            announce(settings.home, server.url)
            until_the_end.callback(announce, settings.home, None)
        if public:
            print(until_the_end.enter_context(open_tunnel(server, settings)), end="\n\n")
        print(f"Scores at {server.url}/predict. Ctrl-C stops.", flush=True)
        threading.Event().wait()
