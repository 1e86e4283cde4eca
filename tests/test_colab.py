"""Colab: only what is missing is installed, pinned; secrets and addresses of Colab's page."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from prospect_lib import colab
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.home import token
from prospect_lib.server.announcement import announced
from prospect_lib.server.app import Server, create_app
from prospect_lib.settings import SECRET_NAMES, Settings
from tests.support import fake_colab

Printed = pytest.CaptureFixture[str]


class Machine:
    """The installed packages, and a pip that installs into them.

    Attributes:
        packages: version by name.
        constraints: the constraints of the last pip call; empty if there was none.
        also_changes: packages that pip changes besides those requested.
        failure: what pip prints when it fails; empty if it succeeds.
    """

    def __init__(self, **packages: str) -> None:
        self.packages, self.constraints = dict(packages), ""
        self.also_changes: dict[str, str] = {}
        self.failure = ""

    def installed(self) -> dict[str, str]:
        return dict(self.packages)

    def pip(self, arguments: Sequence[str]) -> str:
        self.constraints = Path(arguments[arguments.index("-c") + 1]).read_text()
        if not self.failure:
            pins = (argument.partition("==") for argument in arguments if "==" in argument)
            self.packages |= {name: version for name, _, version in pins} | self.also_changes
        return self.failure


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(pandas="2.2.3", limits="4.0", **{"prometheus-client": "0.22.0"})
    monkeypatch.setattr(colab, "installed", machine.installed)
    return machine


def test_what_colab_lacks_is_pinned() -> None:
    assert {*colab.LACKING, *colab.CONNECTORS["snowflake"]} <= colab.pinned().keys()
    assert colab.pinned()["xgboost-cpu"] == colab.pinned()["xgboost"]


BARE_PYTHON = """
import sys

class StandardLibraryOnly:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "prospect_lib"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, StandardLibraryOnly())
import pathlib
from prospect_lib import cli, colab, doctor
from prospect_lib.settings import Settings
print(doctor.report(doctor.examine(Settings(pathlib.Path("nowhere")))))
"""


def test_colab_and_doctor_work_before_any_dependency_is_installed() -> None:
    run = subprocess.run(
        [sys.executable, "-c", BARE_PYTHON], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("ok       Python")


def test_only_missing_packages_are_installed_and_all_others_are_held(
    machine: Machine, capsys: Printed
) -> None:
    names = colab.prepare(snowflake=False, pip=machine.pip)
    assert set(names) == set(colab.LACKING) - {"limits", "prometheus-client"}
    assert set(machine.constraints.split()) == {
        "pandas==2.2.3", "limits==4.0", "prometheus-client==0.22.0",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "pyngrok 9.1.0" in printed and "Nothing else changed" in printed
    assert machine.packages["limits"] == "4.0"


def test_a_second_run_installs_nothing(machine: Machine, capsys: Printed) -> None:
    colab.prepare(snowflake=False, pip=machine.pip)
    machine.constraints = ""
    assert colab.prepare(snowflake=False, pip=machine.pip) == [] and not machine.constraints
    assert "Nothing to install" in capsys.readouterr().out


def test_the_connector_is_installed_of_the_warehouse_whose_secrets_are_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    assert "snowflake-connector-python" not in colab.prepare(pip=machine.pip)
    monkeypatch.setenv("SF_USR", "me")
    assert colab.prepare(pip=machine.pip) == ["snowflake-connector-python"]
    monkeypatch.delenv("SF_USR")
    monkeypatch.setenv("DATABRICKS_HTTP_PATH", "/sql/1.0/warehouses/a1b2")
    assert colab.prepare(pip=machine.pip) == ["databricks-sql-connector"]


def test_a_pip_that_fails_or_changes_another_package_is_an_error(machine: Machine) -> None:
    machine.failure = "ERROR: no matching distribution"
    with pytest.raises(SettingsError, match=r"no matching.*delete runtime"):
        colab.prepare(snowflake=False, pip=machine.pip)
    machine.failure, machine.also_changes = "", {"pandas": "3.0.0"}
    with pytest.raises(SettingsError, match=r"changed what Colab brought: pandas 2\.2\.3"):
        colab.prepare(snowflake=False, pip=machine.pip)


def test_the_output_of_a_failed_pip_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code = 0 if command[-1] == "good" else 1
        return subprocess.CompletedProcess(command, code, "", "what went wrong")

    monkeypatch.setattr(subprocess, "run", run)
    assert (colab._pip(["good"]), colab._pip(["bad"])) == ("", "what went wrong")


def test_the_installed_packages_of_this_environment() -> None:
    assert {"pandas", "snowplow-signals", "flask-cors"} <= set(colab.installed())


def test_a_withheld_secret_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_colab.enter(monkeypatch, granted={"SF_USR": "hush"}, withheld={"SF_PWD"})
    (line,) = colab.refused_secrets()
    assert "SF_PWD" in line and "no access: switch it on" in line and "hush" not in line


def test_without_an_open_page_only_one_secret_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = fake_colab.enter(monkeypatch, page=False)
    assert "keep the page open" in colab.refused_secrets()[0] and len(panel.requested) == 1
    monkeypatch.setenv("SF_USR", "environment")
    assert Settings.load("nowhere").secret("SF_USR") == "environment" and len(panel.requested) == 2


def test_the_panels_secrets_come_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_PWD", "environment")
    fake_colab.enter(monkeypatch, granted={"SF_USR": "panel", "SF_WH": " "}, withheld={"SF_PWD"})
    values = Settings.load("nowhere").values
    assert values["SF_USR"] == "panel" and values["SF_PWD"] == "environment"
    assert "SF_WH" not in values


def test_in_colab_an_address_is_the_proxys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert colab.address(9090) == "http://127.0.0.1:9090" and colab.refused_secrets() == []
    fake_colab.enter(monkeypatch)
    assert colab.address(9090) == "https://9090-colab.example"


class _ScorerAndReader:
    """Stands in for a model and for an attribute reader."""

    def read(self, _visitor: str) -> dict[str, object]:
        return dict.fromkeys(a.name for a in prospect_group.attributes)

    def score(self, _attributes: object, _at: object) -> SimpleNamespace:
        return SimpleNamespace(score=0.5, explanations={})


def test_in_colab_the_website_passes_requests_on_with_a_token(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    token(home_settings.home)
    with Server(create_app(_ScorerAndReader(), _ScorerAndReader()), port=0) as server:
        assert colab.open_site(home_settings, server) == home_settings.sandbox_url
        assert announced(home_settings.home).predict_token is None
        fake_colab.enter(monkeypatch)
        address = colab.open_site(home_settings, server)
        announcement = announced(home_settings.home)
    assert address == f"https://{home_settings.sandbox_port}-colab.example"
    assert announcement.predict_url == server.url
    assert announcement.predict_token
    assert colab.open_site(replace(home_settings, values={"SP_API_URL": "x"}), server)[:2] == "No"


def test_in_colab_the_website_is_shown_below_the_cell(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab.show_site(home_settings)  # elsewhere it does nothing
    fake_colab.enter(monkeypatch)
    for settings in (home_settings, replace(home_settings, values={"SP_API_URL": "x"})):
        colab.show_site(settings)
    assert sys.modules["google.colab"].output.framed == [home_settings.sandbox_port]


COMMAND = "from prospect_lib.settings import Settings; Settings.load().secret('NGROK_TOKEN')"


def test_a_command_in_colab_reads_the_panel_once_its_secrets_are_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Printed
) -> None:
    def command() -> str:
        """Return what a program that a cell starts prints to standard error."""
        program = [sys.executable, "-c", COMMAND]
        return subprocess.run(
            program, cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False
        ).stderr

    for name in (*SECRET_NAMES, "PROSPECT_PORT", "PREDICT_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("PROSPECT_HOME", str(tmp_path))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260801")
    with monkeypatch.context() as kernel:
        kernel.setattr("os.environ", {**os.environ})
        fake_colab.enter(kernel, granted={"NGROK_TOKEN": "ngrok-secret"})
        assert "colab.share_secrets()" in command()
        assert colab.share_secrets() == ["NGROK_TOKEN"]
        assert command() == ""
    printed = capsys.readouterr().out
    assert "now read: NGROK_TOKEN" in printed and "ngrok-secret" not in printed
    assert "colab.share_secrets()" in Settings(tmp_path).describe()


def test_snowplows_own_names_in_the_panel_are_read_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_colab.enter(monkeypatch, granted={"SIGNALS_API_KEY": "x"}, withheld={"SIGNALS_ORG_ID"})
    settings = Settings.load("nowhere")
    assert settings.values["SP_API_KEY"] == "x" and "SP_ORG_ID" not in settings.values
    (line,) = colab.refused_secrets()
    assert line.startswith("SIGNALS_ORG_ID is in the secrets panel")
