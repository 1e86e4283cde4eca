"""The prediction server for a WSGI process manager: ``gunicorn prospect_lib.server.wsgi:app``.

Settings come from the environment or ``.env``, as for ``python -m prospect_lib serve``; it
serves the promoted model of PROSPECT_HOME. ``PROSPECT_PROBLEM`` names the scoring problem, as
``--problem`` does. ``PREDICT_ORIGINS`` lists the origins of websites whose pages may call,
separated by spaces. ``PREDICT_TOKEN_FILE``, ``PREDICT_BEHIND_PROXY=1`` and ``PREDICT_HOLDOUT``
are ``--token-file``, ``--behind-proxy`` and ``--holdout``. ``docs/serving.md`` has the command
line.
"""

import os
import sys
from pathlib import Path

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


log_lines(sys.stderr)
try:
    app = application()
except ProspectError as problem:
    if "gunicorn" not in sys.modules:
        raise
    from gunicorn.errors import AppImportError  # it prints the message alone, and ends

    raise AppImportError(f"error: {problem}") from problem
