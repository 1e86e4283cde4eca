"""Each line of the doctor: what is well, what is not, and that it says what to do."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prospect_lib import cli as command_line
from prospect_lib import doctor
from prospect_lib.settings import SECRETS, Settings
from tests.support.fake_colab import enter

PINS = dict(
    line.split(";")[0].strip().split("==")
    for line in (Path(__file__).parents[1] / "requirements.txt").read_text().splitlines()
    if "==" in line
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which something listens that is not ours, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_the_newest_tested_version_is_the_pinned_one() -> None:
    assert {name: newest for name, (_, newest) in doctor.TESTED.items()} == {
        name: PINS[name] for name in doctor.TESTED
    }
    for oldest, newest in doctor.TESTED.values():
        assert doctor._number(oldest) <= doctor._number(newest)


def test_this_machine_without_secrets(home_settings: Settings) -> None:
    def never(host: str, port: int) -> None:
        raise AssertionError(f"{host}:{port} is not needed")

    checks = doctor.examine(home_settings, reach=never)
    assert [c for c in checks if c.state == "failure"] == []
    said = doctor.report(checks)
    assert said.splitlines()[-1].startswith("Ready.") and "embedded DuckDB" in said
    assert not home_settings.home.exists()  # looking changes nothing


def test_an_old_python() -> None:
    assert doctor.python((3, 10, 13)).state == "failure"
    assert doctor.python((3, 14, 0)).state == "ok"


@pytest.mark.parametrize(
    ("name", "version", "state", "said"),
    [
        ("pandas", None, "failure", "pip install pandas=="),
        ("pandas", "1.5.3", "warning", "2.2.3 to"),
        ("pandas", "2.2.3", None, ""),
        ("duckdb", "99.0.dev1", "warning", "Tested with"),
        ("xgboost-cpu", None, "failure", "pip install xgboost-cpu"),
        ("xgboost", "3.4.1", "failure", "uninstall"),
    ],
)
def test_packages(name: str, version: str | None, state: str | None, said: str) -> None:
    versions = {**{n: pins[1] for n, pins in doctor.TESTED.items()}, "xgboost-cpu": "3.2.0"}
    found = list(doctor.packages({**versions, name: version}.get))
    assert len(found) == 1
    assert found[0].state == (state or "ok") and said in found[0].do


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = doctor.home(tmp_path / "file")
    assert found.state == "failure" and "PROSPECT_HOME" in found.do
    assert doctor.home(tmp_path / "new" / "folder").state == "ok"


@pytest.mark.parametrize(
    ("free", "state"), [(3e9, "ok"), (1e9, "warning"), (1e8, "failure"), (0, "failure")]
)
def test_disk(tmp_path: Path, free: float, state: str) -> None:
    assert doctor.disk(tmp_path / "new", int(free)).state == state


def test_a_port_of_something_else(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_health", lambda _: "<html>")
    found = doctor.port("sandbox port", taken, "PROSPECT_PORT", "prospect-sandbox")
    assert found.state == "failure" and f"PROSPECT_PORT={taken + 100}" in found.do


def test_a_port_of_ours(running: Settings) -> None:
    number = running.sandbox_port
    found = doctor.port("sandbox port", number, "PROSPECT_PORT", "prospect-sandbox")
    assert found.state == "ok" and "ours" in found.found


def test_programs_that_are_not_there_are_warnings() -> None:
    found = list(doctor.programs(lambda _: None))
    assert [c.state for c in found] == ["warning", "warning"] and all(c.do for c in found)


def test_half_a_set_of_secrets_names_the_rest_and_where_to_get_it() -> None:
    settings = Settings(Path(), values={"SF_ACNT": "hush", "SP_API_KEY": "hush"})
    signals, warehouse, _ = doctor.secrets(settings)
    assert signals.state == warehouse.state == "failure"
    assert "SP_ORG_ID" in signals.do and SECRETS["SF_WH"] in warehouse.do
    assert "SP_API_KEY," not in signals.found and "hush" not in f"{signals}{warehouse}"


def test_hosts_are_asked_only_where_a_secret_needs_them() -> None:
    values = {"SP_API_URL": "https://x.signals.example", "SF_ACNT": "AB-C", "NGROK_TOKEN": "hush"}
    asked: list[str] = []

    def reach(host: str, port: int) -> None:
        asked.append(f"{host}:{port}")
        if "snowflake" in host:
            raise ConnectionRefusedError

    found = list(doctor.network(Settings(Path(), values=values), reach))
    assert asked == [
        "x.signals.example:443", "console.snowplowanalytics.com:443",
        "ab-c.snowflakecomputing.com:443", "connect.ngrok-agent.com:443",
    ]  # fmt: skip
    assert [c.state for c in found] == ["ok", "ok", "failure", "ok"]
    assert "SF_ACNT" in found[2].do and "hush" not in str(found)


def test_the_command(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    assert command_line.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    monkeypatch.setenv("SF_USR", "me")
    assert command_line.main(["doctor"]) == 2
    assert re.search(r"failure +Warehouse .*\n +-> Set SF_ACNT", capsys.readouterr().out)


def test_a_secret_that_colab_withholds_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, withheld={"SF_PWD"})
    (found,) = (c for c in doctor.secrets(Settings(Path())) if c.name == "Colab")
    assert found.state == "warning" and "SF_PWD" in found.found and "Switch it on" in found.do
