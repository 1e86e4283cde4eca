"""Any notebook can come first: what earlier ones leave behind is created where it is missing."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from prospect_lib import sandbox
from prospect_lib.jobs.demo import Demo
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.teaching.series import ensure_prerequisites, series_picture

Printed = pytest.CaptureFixture[str]


def test_an_existing_history_is_left_unchanged(home_settings: Settings, capsys: Printed) -> None:
    end = datetime(2026, 3, 1, tzinfo=UTC)
    history.write(home_settings.home, visitors=800, days=30, end=end)
    manifest = home_settings.home / "history" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    ensure_prerequisites(home_settings)
    sandbox.stop(home_settings)
    assert manifest.stat().st_mtime_ns == written and capsys.readouterr().out == ""


def test_missing_prerequisites_are_created(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(sandbox, "ensure_running", lambda _: steps.append("sandbox"))
    for step in ("prepare", "write_history", "publish"):
        monkeypatch.setattr(Demo, step, lambda _, step=step: steps.append(step))
    ensure_prerequisites(home_settings)
    assert steps == ["write_history", "sandbox"] and "notebook 00" in capsys.readouterr().out
    steps.clear()
    ensure_prerequisites(home_settings, model=True)
    assert steps[0] == "prepare" and steps[-1] == "publish"


def test_nothing_is_simulated_where_the_events_are_in_snowflake(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(sandbox, "ensure_running", lambda _: steps.append("sandbox"))
    for step in ("prepare", "write_history", "publish"):
        monkeypatch.setattr(Demo, step, lambda _, step=step: steps.append(step))
    ensure_prerequisites(replace(home_settings, values={"SF_USR": "x"}), model=True)
    assert steps == ["sandbox", "publish"]


def test_nothing_is_written_for_an_account_of_ones_own(home_settings: Settings) -> None:
    settings = Settings(home_settings.home, values={"SP_API_KEY": "x"})
    ensure_prerequisites(settings, model=True)
    assert not home_settings.home.exists()


def test_a_name_that_no_cell_has_assigned_is_explained_above_the_traceback() -> None:
    cells = "import prospect_lib.teaching\nevaluation"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", cells]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    first, _, traceback = run.stdout.partition("\n\n")
    assert (
        first
        == "name 'evaluation' is not defined: run the cells above this one first, from the top."
    )
    assert traceback.startswith("Traceback (most recent call last)")


def test_the_notebooks_of_the_series_are_plotted() -> None:
    assert series_picture(2).png().startswith(b"\x89PNG")
