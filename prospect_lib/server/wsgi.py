"""The prediction server for a WSGI process manager: ``gunicorn prospect_lib.server.wsgi:app``.

Settings come from the environment or ``.env``, as for ``python -m prospect_lib serve``; it
serves the promoted model of PROSPECT_HOME. ``PROSPECT_PROBLEM`` names the scoring problem, as
``--problem`` does. ``PREDICT_ORIGINS`` lists the origins of websites whose pages may call,
separated by spaces. ``PREDICT_TOKEN_FILE``, ``PREDICT_BEHIND_PROXY=1`` and ``PREDICT_HOLDOUT``
are ``--token-file``, ``--behind-proxy`` and ``--holdout``. ``docs/serving.md`` has the command
line.
"""

import fcntl
import os
import sys
import tempfile
from pathlib import Path

import psutil
from flask import Flask

from prospect_lib import signals
from prospect_lib.errors import ProspectError, SettingsError
from prospect_lib.problem import chosen_problem
from prospect_lib.server.app import Options, create_app
from prospect_lib.server.metrics import log_lines
from prospect_lib.settings import Settings


def application() -> Flask:
    """Return the prediction server of the environment's settings.

    Raises:
        ModelError: no model is promoted, or it does not fit the attributes.
        SettingsError: a secret is missing, a setting is wrong, the problem cannot be loaded, or
            served scores cannot be kept.
    """
    settings = Settings.load()
    token_file = os.environ.get("PREDICT_TOKEN_FILE")
    options = Options(
        origins=tuple(os.environ.get("PREDICT_ORIGINS", "").split()),
        token_file=Path(token_file) if token_file else None,
        behind_proxy=os.environ.get("PREDICT_BEHIND_PROXY", "0") not in ("", "0"),
        holdout=_holdout(os.environ.get("PREDICT_HOLDOUT")),
    )
    problem = chosen_problem(settings)
    models, reader = problem.folder(settings.home, "models"), signals.reader(settings, problem)
    return create_app(models, reader, settings, problem=problem, options=options)


def _holdout(share: str | None) -> float:
    try:
        return float(share or 0)
    except ValueError:
        raise SettingsError(
            f"PREDICT_HOLDOUT={share!r}: expected a share from 0 to 1, such as 0.1."
        ) from None


def _is_first_to_fail() -> bool:
    """Return whether no other worker of this gunicorn has failed to start.

    When one ends with code 4, gunicorn ends; when a second one does, gunicorn has a traceback.
    """
    parent = psutil.Process(os.getppid())
    if parent.cmdline() != psutil.Process().cmdline():
        return True  # no worker: gunicorn --preload
    about = f"{parent.pid} {parent.create_time()}"
    path = Path(tempfile.gettempdir()) / f"prospect-failed-{os.getuid()}"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        is_first = file.read() != about
        file.seek(0)
        file.write(about)
        file.truncate()
    return is_first


log_lines(sys.stderr)
try:
    app = application()
except (ProspectError, OSError) as error:
    if "gunicorn" not in sys.modules:
        raise
    code = 0
    if _is_first_to_fail():
        code = 4  # of gunicorn, for an application that cannot be loaded
        print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(code)
