"""``python -m prospect_lib serve``: the prediction server in the foreground."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack

from prospect_lib import signals
from prospect_lib.errors import SettingsError
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.server.processes import Several
from prospect_lib.server.runner import end_with_signals
from prospect_lib.server.tunnel import open_tunnel
from prospect_lib.settings import Settings


def serve(
    settings: Settings,
    *,
    origins: tuple[str, ...] = (),
    public: bool = False,
    processes: int = 1,
) -> None:
    """Serve the promoted model until Ctrl-C or SIGTERM; log JSON lines to standard error.

    Args:
        origins: websites whose pages may ask, such as ``https://www.example.com``.
        public: open a tunnel, and print its snippet.
        processes: how many answer on the port.
    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, the port is in use, or ``public`` and several.
        ServiceError: the tunnel cannot be opened, or one of several processes has ended.
    """
    if public and processes != 1:
        raise SettingsError(
            f"--public and --processes {processes}: a tunnel's token and limits are those of one "
            "process, and its free plan is slower than one. Leave one of the two options out."
        )
    log_lines(sys.stderr)
    end_with_signals()
    with ExitStack() as until_the_end:
        if processes == 1:
            wait: Callable[[], object] = threading.Event().wait
            server = until_the_end.enter_context(_alone(settings, Options(origins=origins)))
            url = server.url
        else:
            options = Options(origins=origins, shared_invitations=True)
            several = until_the_end.enter_context(Several(settings, options, processes))
            wait, url = several.wait, several.url
        if settings.signals_backend == "local":
            announce(settings.home, url)
            until_the_end.callback(announce, settings.home, None)
        if public:
            print(until_the_end.enter_context(open_tunnel(server, settings)), end="\n\n")
        print(f"Scores at {url}/predict. Ctrl-C stops.", flush=True)
        wait()


def _alone(settings: Settings, options: Options) -> Server:
    app = create_app(settings.home / "models", signals.reader(settings), settings, options=options)
    return Server(app, port=settings.predict_port)
