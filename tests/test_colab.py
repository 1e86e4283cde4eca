"""Colab: nothing that is there is touched, what lacks is pinned, and each step says so."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from prospect_lib import colab
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.home import token
from prospect_lib.server.announcement import announced
from prospect_lib.server.app import Server, create_app
from prospect_lib.settings import SECRETS, Settings
from tests.support import fake_colab

Printed = pytest.CaptureFixture[str]
PINS = (Path(__file__).parents[1] / "requirements.txt").read_text().splitlines()


class Machine:
    """What is installed, and a pip that installs into it."""

    def __init__(self, **have: str) -> None:
        self.have, self.constraints, self.ran = dict(have), "", False
        self.spoils: dict[str, str] = {}
        self.says = ""

    def installed(self) -> dict[str, str]:
        return dict(self.have)

    def pip(self, arguments: Sequence[str]) -> str:
        self.ran = True
        self.constraints = Path(arguments[arguments.index("-c") + 1]).read_text()
        if not self.says:
            new = (argument.partition("==") for argument in arguments if "==" in argument)
            self.have |= {name: version for name, _, version in new} | self.spoils
        return self.says


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(pandas="2.2.3", limits="4.0", **{"prometheus-client": "0.22.0"})
    monkeypatch.setattr(colab, "installed", found.installed)
    return found


def test_what_is_installed_is_pinned_as_everywhere() -> None:
    for name, pin in (colab.LACKING | colab.SNOWFLAKE).items():
        assert f"{name}=={pin}" in PINS


def test_only_what_lacks_is_installed_and_everything_else_is_held(
    machine: Machine, capsys: Printed
) -> None:
    names = colab.prepare(snowflake=False, pip=machine.pip)
    assert set(names) == set(colab.LACKING) - {"limits", "prometheus-client"}
    assert set(machine.constraints.split()) == {
        "pandas==2.2.3", "limits==4.0", "prometheus-client==0.22.0",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "pyngrok 9.1.0" in said and "as it was" in said and machine.have["limits"] == "4.0"


def test_a_second_run_does_nothing(machine: Machine, capsys: Printed) -> None:
    colab.prepare(snowflake=False, pip=machine.pip)
    machine.ran = False
    assert colab.prepare(snowflake=False, pip=machine.pip) == [] and not machine.ran
    assert "Nothing to install" in capsys.readouterr().out


def test_snowflake_comes_with_its_secrets(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    assert "snowflake-connector-python" not in colab.prepare(pip=machine.pip)
    monkeypatch.setenv("SF_USR", "me")
    assert colab.prepare(pip=machine.pip) == ["snowflake-connector-python"]


def test_a_pip_that_fails_or_changes_something_is_told(machine: Machine) -> None:
    machine.says = "ERROR: no matching distribution"
    with pytest.raises(SettingsError, match=r"(?s)no matching.*delete runtime"):
        colab.prepare(snowflake=False, pip=machine.pip)
    machine.says, machine.spoils = "", {"pandas": "3.0.0"}
    with pytest.raises(SettingsError, match=r"changed what Colab brought: pandas 2\.2\.3"):
        colab.prepare(snowflake=False, pip=machine.pip)


def test_pips_own_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code = 0 if command[-1] == "good" else 1
        return subprocess.CompletedProcess(command, code, "", "what went wrong")

    monkeypatch.setattr(subprocess, "run", run)
    assert (colab._pip(["good"]), colab._pip(["bad"])) == ("", "what went wrong")


def test_this_environment_is_read() -> None:
    assert {"pandas", "snowplow-signals", "flask-cors"} <= set(colab.installed())


def test_a_withheld_secret_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_colab.enter(monkeypatch, granted={"SF_USR": "hush"}, withheld={"SF_PWD"})
    (line,) = colab.refused()
    assert "SF_PWD" in line and "no access: switch it on" in line and "hush" not in line


def test_without_a_page_one_name_is_asked_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = fake_colab.enter(monkeypatch, page=False)
    assert "keep the page open" in colab.refused()[0] and len(panel.asked) == 1
    monkeypatch.setenv("SF_USR", "environment")
    assert Settings.load("nowhere").secret("SF_USR") == "environment" and len(panel.asked) == 2


def test_secrets_of_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_PWD", "environment")
    fake_colab.enter(monkeypatch, granted={"SF_USR": "panel", "SF_WH": " "}, withheld={"SF_PWD"})
    values = Settings.load("nowhere").values
    assert values["SF_USR"] == "panel" and values["SF_PWD"] == "environment"
    assert "SF_WH" not in values


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert colab.address(9090) == "http://127.0.0.1:9090" and colab.refused() == []
    fake_colab.enter(monkeypatch)
    assert colab.address(9090) == "https://9090-colab.example"


class _Anything:
    """A scorer and a source of attributes."""

    def read(self, _visitor: str) -> dict[str, object]:
        return dict.fromkeys(a.name for a in prospect_group.attributes)

    def score(self, _attributes: object, _at: object) -> SimpleNamespace:
        return SimpleNamespace(score=0.5, explanations={})


def test_the_site_knows_where_a_browser_finds_the_scores(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    token(home_settings.home)
    with Server(create_app(_Anything(), _Anything()), port=0) as server:
        assert colab.open_site(home_settings, server) == home_settings.sandbox_url
        assert announced(home_settings.home).predict_url == server.url
        fake_colab.enter(monkeypatch)
        found = colab.open_site(home_settings, server)
        announcement = announced(home_settings.home)
    assert found == f"https://{home_settings.sandbox_port}-colab.example"
    assert announcement.predict_url == f"https://{server.port}-colab.example"
    assert announcement.predict_token
