"""The notebooks that a scheduler runs, with other windows and with windows without rows."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from prospect_lib import sandbox
from prospect_lib.errors import DataError, ProspectError, SettingsError, TooFewError
from prospect_lib.jobs import Demo
from prospect_lib.settings import Settings
from tests.conftest import free_port
from tests.support.accounts import run_notebook, train_cheaply

FOLDER = Path(__file__).parents[2] / "notebooks"
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
AFTER_THE_END = {"SINCE": "2100-01-01"}
LONG = "PROSPECT_FUZZ" in os.environ  # `make fuzz`: a minute more


def day(days_ago: int) -> str:
    return f"{MIDNIGHT - timedelta(days=days_ago):%Y-%m-%d}"


def notebook(number: str) -> Path:
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    return path


@pytest.fixture(scope="module", autouse=True)
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A sandbox with forty days of 1,000 visitors, and a small model, as jobs train here."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home, sandbox_port=free_port(), predict_port=free_port())
    with pytest.MonkeyPatch.context() as patch:
        train_cheaply(patch)
        Demo(settings, visitors=1000, days=40, say=lambda _: None).prepare()
        patch.chdir(home)
        patch.setenv("PROSPECT_HOME", str(home))
        patch.setenv("PROSPECT_PORT", str(settings.sandbox_port))
        patch.setenv("PREDICT_PORT", str(settings.predict_port))
        yield
        sandbox.stop(settings)


@pytest.mark.parametrize(
    ("number", "parameters", "printed"),
    [
        ("02", {"SINCE": day(20), "UNTIL": day(10)}, "features, all as they would have been"),
        ("02", {"SINCE": day(2), "HORIZON_HOURS": 24}, "features, all as they would have been"),
        ("05", {"DAYS": 2}, "everything is left as it was"),
        *([("05", {"DAYS": 30}, "everything is left as it was")] if LONG else []),
    ],
)
def test_a_notebook_runs_with_another_window(
    number: str, parameters: dict[str, object], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_notebook(notebook(number), **parameters)
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "parameters", "error", "message"),
    [
        ("02", AFTER_THE_END, DataError, "no anchors with a known label between since=2100"),
        ("03", AFTER_THE_END, DataError, "no training row from 2100-01-01"),
        ("03", {"SINCE": day(1)}, TooFewError, "too little for"),
        ("03", {"UNTIL": "Friday"}, SettingsError, "UNTIL 'Friday': expected a date"),
        ("03", {"HORIZON_HOURS": 0}, DataError, "horizon=.*timedelta"),
        ("02", {"HORIZON_HOURS": -1}, DataError, "horizon=.*longer than nothing"),
        ("05", {"DAYS": 0}, DataError, "no moment to score since .* more DAYS"),
    ],
)
def test_an_empty_window_is_one_line_that_says_what_to_change(
    number: str, parameters: dict[str, object], error: type[ProspectError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        run_notebook(notebook(number), **parameters)
    assert "\n" not in str(raised.value)


def test_papermill_writes_the_error_as_one_line_above_the_traceback(tmp_path: Path) -> None:
    written = tmp_path / "02.ipynb"
    with pytest.raises(PapermillExecutionError, match="no anchors with a known label"):
        papermill.execute_notebook(
            notebook("02"), written, AFTER_THE_END, cwd=FOLDER, progress_bar=False
        )
    cells = papermill.iorw.load_notebook_node(str(written)).cells
    (traceback,) = (o.traceback for c in cells for o in c.get("outputs", []) if "traceback" in o)
    assert traceback[0].startswith("DataError: ") and traceback[1] == ""
    assert traceback[2].startswith("Traceback (most recent call last)")


if LONG:

    def test_papermill_runs_the_weekly_job_of_a_past_month_and_its_horizon_is_audited(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        window = {"UNTIL": day(1), "HORIZON_HOURS": 24, "VALUE": 5}
        ran = papermill.execute_notebook(
            notebook("03"), tmp_path / "03.ipynb", window, cwd=FOLDER, progress_bar=False
        )
        assert "the same scores after loading" in str(ran)
        run_notebook(notebook("05"), DAYS=4)
        assert "scores with a known outcome (0 not yet)" in capsys.readouterr().out
