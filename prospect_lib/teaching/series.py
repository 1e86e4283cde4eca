"""Start any notebook of the series first, with its events, and show where it stands.

In a notebook, a name that no cell has assigned yet is explained above the traceback.

Example: ``ensure_prerequisites(settings, model=True)`` before a notebook that serves scores.
"""

import sys
import traceback
from types import TracebackType
from typing import Any

from prospect_lib import sandbox
from prospect_lib.jobs.demo import Demo
from prospect_lib.jobs.retrain import recent_problem
from prospect_lib.model.store import promoted_version
from prospect_lib.plots.style import BLUE, GREY, INK, PALE, PAPER, Picture, picture
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.settings import Settings
from prospect_lib.training_set.events_part import read_once
from prospect_lib.warehouse import Warehouse, open_warehouse

#: Number and name of each notebook, and what it makes of the followed visitor.
NOTEBOOKS = (
    ("00", "start", "a visit"),
    ("01", "attributes", "23 values,\nkept up to date"),
    ("02", "extract", "a row of\na table"),
    ("03", "train", "a score and\nits reasons"),
    ("04", "serve", "an invitation,\nin time"),
    ("05", "monitor", "a line in\na log"),
)


def explain_missing_names() -> None:
    """Let the kernel say which cells to run when a cell reads what no cell has assigned yet."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and (shell := ipython.get_ipython()) is not None:
        shell.set_custom_exc((NameError,), _missing_name)


def _missing_name(
    shell: Any, kind: type, error: Any, trace: TracebackType, tb_offset: int | None = None
) -> None:
    line = f"{error}: run the cells above this one first, from the top."
    error._render_traceback_ = lambda: [line, "", *traceback.format_exception(error)]
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def ensure_prerequisites(settings: Settings, *, model: bool = False) -> None:
    """Create what earlier notebooks leave behind in the local sandbox, where it is missing.

    Nothing that exists is changed, so it can be called again after a restart of the kernel.
    Events, models and published attributes of accounts of your own are left to the notebooks.

    Args:
        settings: name the home and the ports of the sandbox.
        model: whether a promoted model is needed as well.
    """
    demo = Demo(settings, say=lambda _: None)
    if not demo.is_local:
        return
    if demo.simulates and model and promoted_version(demo.models) is None:
        print("Doing the work of notebooks 00 to 03; this takes half a minute ...")
        demo.prepare()
    if demo.simulates and not (settings.home / "history" / "manifest.json").is_file():
        print("Writing sixty days of simulated visitors, as notebook 00 does ...")
        demo.write_history()
    sandbox.ensure_running(settings)
    if model:
        demo.publish()


def recent_events(
    settings: Settings, problem: ScoringProblem = prospect_problem
) -> tuple[Warehouse, ScoringProblem]:
    """Return the warehouse with the events of a notebook, and the problem with their window.

    Of Snowflake's events, they are what the rows of the last sixty days need, unless the
    problem's anchors have a window, read once. Of the sandbox's, they are all.

    Raises:
        DataError: there are no events.
        SettingsError, ServiceError: as :func:`open_warehouse`.
    """
    warehouse = open_warehouse(settings)
    problem = recent_problem(problem, warehouse)
    return read_once(warehouse, problem), problem


def series_picture(current: int) -> Picture:
    """Plot the notebooks in a row and mark the current one, from 0 to 5."""
    with picture(height=1.45) as (figure, axes):
        for place, (number, name, result) in enumerate(NOTEBOOKS):
            fill, ink = PALE if place < current else PAPER, INK
            if place == current:
                fill, ink = BLUE, "white"
            edge = BLUE if place == current else GREY
            axes.text(
                place,
                0.72,
                f"{number} {name}",
                ha="center",
                va="center",
                color=ink,
                bbox={"boxstyle": "round,pad=0.45", "fc": fill, "ec": edge},
                fontsize=9,
                fontweight="bold" if place == current else "normal",
            )
            axes.text(place, 0.12, result, ha="center", va="center", fontsize=8.5)
            if place:
                axes.text(place - 0.5, 0.72, "→", ha="center", va="center", color=GREY)
        axes.set(xlim=(-0.55, len(NOTEBOOKS) - 0.45), ylim=(-0.2, 1.05))
        axes.axis("off")
        results = (f"{n} {name}, {result}" for n, name, result in NOTEBOOKS)
        figure.alt = "Six notebooks in a row, and what each makes of our visitor: " + (
            f"{'; '.join(results)}. You are at {NOTEBOOKS[current][0]}.".replace("\n", " ")
        )
    return figure
