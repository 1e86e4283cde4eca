"""Each check of the doctor: its state, and what it says to do."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prospect_lib import cli, colab, doctor
from prospect_lib.settings import SECRET_NAMES, SECRETS, Settings
from tests.support.fake_colab import enter

COLAB_VERSIONS = Path(__file__).parent / "colab" / "versions.txt"


@pytest.fixture
def foreign_port() -> Iterator[int]:
    """A port at which another program listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_the_oldest_tested_versions_are_colabs_and_the_newest_are_pinned() -> None:
    colabs = dict(re.findall(r"^([\w-]+)==([\d.]+)$", COLAB_VERSIONS.read_text(), re.MULTILINE))
    pins = colab.pinned()
    older = {
        name: version for name, version in colabs.items() if version != pins.get(name, version)
    }
    assert older == doctor.OLDEST
    for name, (oldest, newest) in doctor.tested().items():
        assert doctor._number(oldest) <= doctor._number(newest) == doctor._number(pins[name])


def test_this_machine_without_secrets(home_settings: Settings) -> None:
    def refuse(host: str, port: int) -> None:
        raise AssertionError(f"{host}:{port} is not needed")

    checks = doctor.examine(home_settings, reach=refuse)
    assert [c for c in checks if c.state == "failure"] == []
    report = doctor.report(checks)
    assert report.splitlines()[-1].startswith("Ready.") and "embedded DuckDB" in report
    assert not home_settings.home.exists()  # the checks change nothing


def test_python_older_than_3_11_fails() -> None:
    assert doctor.python((3, 10, 13)).state == "failure"
    assert doctor.python((3, 14, 0)).state == "ok"


@pytest.mark.parametrize(
    ("name", "version", "state", "do"),
    [
        ("pandas", None, "failure", "pip install pandas=="),
        ("pandas", "1.5.3", "warning", "2.2.3 to"),
        ("pandas", "2.2.3", None, ""),
        ("duckdb", "99.0.dev1", "warning", "Tested with"),
        ("xgboost-cpu", None, "failure", "pip install xgboost-cpu"),
        ("xgboost", "3.4.1", "failure", "uninstall"),
    ],
)
def test_a_package_is_missing_or_of_another_version(
    name: str, version: str | None, state: str | None, do: str
) -> None:
    pins = {name: newest for name, (_, newest) in doctor.tested().items()}
    versions = {**pins, "xgboost-cpu": "3.2.0", name: version}
    (check,) = doctor.packages(versions.get)
    assert check.state == (state or "ok") and do in check.do


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = doctor.home(tmp_path / "file")
    assert check.state == "failure" and "PROSPECT_HOME" in check.do
    assert doctor.home(tmp_path / "new" / "folder").state == "ok"


def test_the_scoring_problem_in_use_is_loaded(home_settings: Settings, tmp_path: Path) -> None:
    assert doctor.scoring_problem(home_settings).observed.endswith("attributes of a domain_userid")
    broken = tmp_path / "my_site.py"
    broken.write_text("problem = 1 / 0\n")
    check = doctor.scoring_problem(replace(home_settings, problem=str(broken)))
    assert check.state == "failure" and "line 1: division by zero" in check.observed


@pytest.mark.parametrize(
    ("free", "state"), [(3e9, "ok"), (1e9, "warning"), (1e8, "failure"), (0, "failure")]
)
def test_little_disk_space_is_a_warning_and_very_little_a_failure(
    tmp_path: Path, free: float, state: str
) -> None:
    assert doctor.disk(tmp_path / "new", int(free)).state == state


def test_a_port_of_another_program(foreign_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_health", lambda _: "<html>")
    check = doctor.port("sandbox port", foreign_port, "PROSPECT_PORT", "prospect-sandbox")
    assert check.state == "failure" and f"PROSPECT_PORT={foreign_port + 100}" in check.do


def test_a_port_of_our_own_server(running: Settings) -> None:
    number = running.sandbox_port
    check = doctor.port("sandbox port", number, "PROSPECT_PORT", "prospect-sandbox")
    assert check.state == "ok" and "ours" in check.observed


def test_missing_programs_are_warnings() -> None:
    checks = list(doctor.programs(lambda _: None))
    assert [c.state for c in checks] == ["warning", "warning"] and all(c.do for c in checks)


def test_an_incomplete_set_of_secrets_names_the_missing_ones_and_where_to_find_them() -> None:
    settings = Settings(Path(), values={"SF_ACNT": "hush", "SP_API_KEY": "hush"})
    signals, warehouse, _ = doctor.secrets(settings)
    assert signals.state == warehouse.state == "failure"
    assert "SP_ORG_ID" in signals.do and SECRETS["SF_WH"] in warehouse.do
    assert "SP_API_KEY," not in signals.observed and "hush" not in f"{signals}{warehouse}"


def test_only_hosts_that_a_secret_requires_are_reached() -> None:
    values = {"SP_API_URL": "https://x.signals.example", "SF_ACNT": "AB-C", "NGROK_TOKEN": "hush"}
    reached: list[str] = []

    def reach(host: str, port: int) -> None:
        reached.append(f"{host}:{port}")
        if "snowflake" in host:
            raise ConnectionRefusedError

    checks = list(doctor.network(Settings(Path(), values=values), reach))
    assert reached == [
        "x.signals.example:443", "console.snowplowanalytics.com:443",
        "ab-c.snowflakecomputing.com:443", "connect.ngrok-agent.com:443",
    ]  # fmt: skip
    assert [c.state for c in checks] == ["ok", "ok", "failure", "ok"]
    assert "SF_ACNT" in checks[2].do and "hush" not in str(checks)


def test_the_command_prints_the_checks_and_exits_with_2_if_one_fails(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    monkeypatch.setenv("SF_USR", "me")
    assert cli.main(["doctor"]) == 2
    assert re.search(r"failure +Warehouse .*\n +-> Set SF_ACNT", capsys.readouterr().out)


def test_a_secret_that_colab_withholds_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, withheld={"SF_PWD"})
    (check,) = (c for c in doctor.secrets(Settings(Path())) if c.name == "Colab")
    assert check.state == "warning" and "SF_PWD" in check.observed and "Switch it on" in check.do
