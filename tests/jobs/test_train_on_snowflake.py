"""The command ``train`` on Snowflake: it says what it will scan, asks, and reads once."""

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prospect_lib import cli as command_line
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.settings import SECRET_NAMES, Settings
from prospect_lib.warehouse import SnowflakeWarehouse
from tests.support import snow
from tests.support.worlds import DEVICE

pytestmark = pytest.mark.usefixtures("blank_pictures", "account")
END = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = ["--since", "2026-01-20"]
SECRETS = {
    "SF_ACNT": "myorg-account", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush",
    "ATOMIC_TABLE": "DB.PUBLIC.EVENTS", "SF_SCRATCH": "DB.SCRATCH",
}  # fmt: skip


class Terminal(io.StringIO):
    """Standard input with a person, who types these lines."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An account with sixty days of visitors."""
    with snow.server():
        warehouse = SnowflakeWarehouse.connect(
            Settings(tmp_path_factory.mktemp("account"), values=SECRETS)
        )
        snow.load_into_server("EVENTS", simulate(900, 60, end=END).events, (DEVICE,))
        snow.set_up("CREATE SCHEMA DB.SCRATCH")
        yield
        warehouse.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**SECRETS, "PROSPECT_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    snow.statements().clear()


def reads() -> list[str]:
    return [s for s in snow.statements() if "FROM DB.PUBLIC.EVENTS\nWHERE" in s and "CREATE" in s]


def test_train_reads_once_and_needs_no_question_with_yes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = command_line.main(["train", *WINDOW, "--yes", "--promote", "always"])
    printed = capsys.readouterr()
    assert code == 0 and json.loads(printed.out.splitlines()[-1])["promoted"]
    assert "Snowflake will scan DB.PUBLIC.EVENTS: " in printed.err
    assert len(reads()) == 1
    assert all("DB.SCRATCH." in s for s in snow.statements() if "CREATE" in s)
    assert "hush" not in printed.out + printed.err


def test_without_a_window_nothing_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["train", "--yes"]) == 4
    assert "--since" in capsys.readouterr().err and not reads()


def test_without_a_person_the_scan_needs_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert command_line.main(["train", *WINDOW]) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: Snowflake will scan") and "--yes" in error and not reads()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_person_who_does_not_agree_stops_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert command_line.main(["train", *WINDOW]) == 2
    assert "stopped, and nothing was read" in capsys.readouterr().err and not reads()


def test_a_person_who_agrees_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    # 10 or 11: a model of so few visitors need not be better than the base rate
    assert command_line.main(["train", *WINDOW, "--promote", "never"]) in (10, 11)
    assert len(reads()) == 1
