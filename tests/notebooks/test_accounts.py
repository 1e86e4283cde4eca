"""The notebooks with accounts: in this process, on doubles of Signals and Snowflake."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prospect_lib import signals
from prospect_lib.sandbox.simulation import history
from prospect_lib.sandbox.simulation.history import FILE_NAME
from tests.conftest import free_port
from tests.support.accounts import (
    CONSOLE_PATH,
    SNOWFLAKE,
    events_in_snowflake,
    run_notebook,
    signals_elsewhere,
    train_cheaply,
)
from tests.support.fake_ngrok import write_agent

FOLDER = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with sixty days of 1,000 simulated visitors, until last midnight."""
    home = tmp_path_factory.mktemp("simulated")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    history.write(home, visitors=1000, days=60, end=midnight)
    return home


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Variables of a reader without secrets, with a home and ports of their own."""
    monkeypatch.chdir(tmp_path)
    train_cheaply(monkeypatch)
    for name, value in (
        ("PROSPECT_HOME", tmp_path / "home"),
        ("PROSPECT_PORT", free_port()),
        ("PREDICT_PORT", free_port()),
    ):
        monkeypatch.setenv(name, str(value))
    return monkeypatch


def run(*numbers: str, until: str | None = None) -> None:
    """Run notebooks by their numbers."""
    for number in numbers:
        (path,) = FOLDER.glob(f"{number}_*.ipynb")
        run_notebook(path, until)


def test_a_hosted_sandbox_with_events_that_are_here(
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    simulated: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(simulated, tmp_path / "home")
    with signals_elsewhere(tmp_path / "elsewhere", warehouse=False) as hosted:
        for name, value in hosted.secrets("signals-sandbox").items():
            environment.setenv(name, value)
        environment.setenv("NGROK_TOKEN", "2abcNgrokTokenOfTheTests")
        environment.setenv("PYNGROK_NGROK_PATH", str(write_agent(tmp_path)))
        run("00", "01", "04", "05")
    printed = capsys.readouterr().out
    assert "401 without a token\n200 with the token\npublic address: http" in printed
    assert "Not tested: Signals has no warehouse connection" in printed
    assert "No demo website: Signals is elsewhere" in printed and "http://127.0.0.1" in printed
    assert not (tmp_path / "home" / "token").exists(), "no local sandbox was started"


def test_an_account_with_events_in_snowflake(
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    simulated: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = pq.read_table(simulated / "history" / FILE_NAME)
    with signals_elsewhere(tmp_path / "elsewhere") as account, events_in_snowflake(events):
        environment.setattr(signals, "CONSOLE_URL", f"{account.url}{CONSOLE_PATH}")
        for name, value in (account.secrets("signals") | SNOWFLAKE).items():
            environment.setenv(name, value)
        run("00", "01", "02")
        run("03", until="job.training_set")
    printed = capsys.readouterr().out
    assert printed.count("Snowflake will scan DB.PUBLIC.EVENTS: 60 of 60 partitions") == 5
    assert "24 features, all as they would have been served" in printed
    assert not (tmp_path / "home" / "history").exists(), "nothing was simulated"
