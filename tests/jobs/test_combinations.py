"""Each Signals with each source of events: the table in docs/accounts.md."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import requests
from snowplow_signals import Service

from prospect_lib import cli, doctor, sandbox, signals
from prospect_lib.errors import DataError, ServiceError, SettingsError
from prospect_lib.jobs import demo
from prospect_lib.jobs.demo import Demo, once, watch
from prospect_lib.jobs.publishing import publish
from prospect_lib.jobs.serve import serving
from prospect_lib.problem import ScoringProblem, sample_problem
from prospect_lib.sandbox.simulation import history
from prospect_lib.sandbox.simulation.history import FILE_NAME
from prospect_lib.settings import Settings
from tests.support.accounts import (
    CONSOLE_PATH,
    MY_SITE,
    SNOWFLAKE,
    Elsewhere,
    events_in_snowflake,
    signals_elsewhere,
    train_cheaply,
)

END = datetime(2026, 3, 1, tzinfo=UTC)
HOSTED, ACCOUNT = "signals-sandbox", "signals"
SHOP = "https://shop.example"
#: Signals and events; tests/jobs/test_demo.py has the demo with neither chosen.
COMBINATIONS = [
    (signals, events)
    for signals in ("local", HOSTED, ACCOUNT)
    for events in ("sandbox", "file", "snowflake")
    if (signals, events) != ("local", "sandbox")
]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the history of 1,000 simulated visitors, and nothing else."""
    home = tmp_path_factory.mktemp("simulated")
    history.write(home, visitors=1000, days=40, end=END)
    return home


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Elsewhere]]:
    """A hosted sandbox, whose Signals has no warehouse, and an account."""
    homes = tmp_path_factory.mktemp("hosted"), tmp_path_factory.mktemp("account")
    with (
        signals_elsewhere(homes[0], warehouse=False) as hosted,
        signals_elsewhere(homes[1]) as account,
    ):
        yield {HOSTED: hosted, ACCOUNT: account}


@pytest.fixture
def chosen(
    request: pytest.FixtureRequest,
    home_settings: Settings,
    running: Settings,
    doubles: dict[str, Elsewhere],
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of one Signals, named by the parameter; but for the sandbox, with a new home."""
    monkeypatch.setattr(signals, "CONSOLE_URL", f"{doubles[ACCOUNT].url}{CONSOLE_PATH}")
    train_cheaply(monkeypatch)
    if request.param == "local":
        return running
    doubles[request.param].calls.clear()
    return replace(home_settings, values=doubles[request.param].secrets(request.param))


@pytest.fixture(scope="module")
def in_snowflake(simulated: Path) -> Iterator[None]:
    """The same events in the stand-in for Snowflake."""
    with events_in_snowflake(pq.read_table(simulated / "history" / FILE_NAME)):
        yield


def with_events(settings: Settings, events: str, simulated: Path) -> tuple[Settings, Path | None]:
    """Return the settings and the file for one source of events."""
    if events == "sandbox":
        return replace(settings, home=simulated), None
    if events == "snowflake":
        return replace(settings, values={**settings.values, **SNOWFLAKE}), None
    return settings, simulated / "history" / FILE_NAME


@pytest.mark.usefixtures("in_snowflake")
@pytest.mark.parametrize(("chosen", "events"), COMBINATIONS, indirect=["chosen"])
def test_the_demo_trains_publishes_and_scores(
    chosen: Settings, events: str, simulated: Path, doubles: dict[str, Elsewhere]
) -> None:
    is_local = chosen.signals_backend == "local"
    chosen, data = with_events(chosen, events, simulated)
    lines: list[str] = []
    before = files_in(simulated)
    result = once(Demo(chosen, data=data, days=30, say=lines.append, before_read=lines.append))
    text = "\n".join(lines)
    steps = ["Signals: ", "Training set", "Model ", "Published"]
    if is_local:
        steps += ["looks at pricing"]
        assert 0 < result["score_before"] < result["score"] < 1
    else:
        steps += ["that of a stranger"]
        assert 0 < result["score"] < 1 and result["score_before"] is None
        assert sandbox.holder(chosen.home) is None and not (chosen.home / "token").exists()
        assert "POST /api/v1/get-online-attributes 200" in doubles[chosen.signals_backend].calls
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert ("best observable" in text) == (events == "sandbox")
    assert ("will scan DB.PUBLIC.EVENTS" in text) == (events == "snowflake")
    assert files_in(simulated) == before


def into_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give settings to commands."""
    ports = {"PROSPECT_PORT": settings.sandbox_port, "PREDICT_PORT": settings.predict_port}
    for name, value in {"PROSPECT_HOME": settings.home, **ports, **settings.values}.items():
        monkeypatch.setenv(name, str(value))


def files_in(home: Path) -> dict[Path, int]:
    """Return when each file of events was written."""
    return {path: path.stat().st_mtime_ns for path in home.rglob("*.parquet")}


@pytest.mark.parametrize("chosen", [HOSTED], indirect=True)
def test_the_demo_elsewhere_serves_pages_of_ones_own_until_ctrl_c(
    chosen: Settings, simulated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    headers = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}

    def ctrl_c(_: float) -> None:
        url = f"{chosen.predict_url}/predict"
        lines.append(str(requests.options(url, headers=headers, timeout=10).headers))
        raise KeyboardInterrupt

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=ctrl_c)
    monkeypatch.setattr(demo, "time", clock)
    data = simulated / "history" / FILE_NAME
    watch(Demo(chosen, data=data, origins=(SHOP,), say=lines.append))
    *printed, answered, last = lines
    assert f"'Access-Control-Allow-Origin': '{SHOP}'" in answered and last == "\nStopping."
    text = "\n".join(printed)
    assert f'src="{chosen.predict_url}/prospect.js"' in text and "Open http" not in text


@pytest.mark.parametrize("chosen", [HOSTED, ACCOUNT], indirect=True)
def test_without_events_nothing_is_simulated_started_or_published(
    chosen: Settings, doubles: dict[str, Elsewhere]
) -> None:
    chosen.home.mkdir()
    with pytest.raises(DataError, match=r"no events in .*--data.*Snowflake.*simulate") as error:
        once(Demo(chosen, say=lambda _: None))
    assert "\n" not in str(error.value)
    assert list(chosen.home.iterdir()) == []
    assert not any(call.startswith("POST") for call in doubles[chosen.signals_backend].calls)


def test_a_missing_secret_is_an_error_before_events_are_read(home_settings: Settings) -> None:
    settings = replace(home_settings, values={"SP_SANDBOX_URL": "https://a.example", **SNOWFLAKE})
    with pytest.raises(SettingsError, match="not set: SP_SANDBOX_TOKEN"):
        once(Demo(settings, say=lambda _: None))


@pytest.mark.usefixtures("in_snowflake")
@pytest.mark.parametrize("chosen", [ACCOUNT], indirect=True)
def test_nothing_is_published_if_nobody_agrees_to_what_snowflake_will_scan(
    chosen: Settings,
    doubles: dict[str, Elsewhere],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    into_environment(replace(chosen, values={**chosen.values, **SNOWFLAKE}), monkeypatch)
    assert cli.main(["demo", "--once"]) == 2
    assert "add --yes" in capsys.readouterr().err.splitlines()[-1]
    assert not any(call.startswith("POST") for call in doubles[ACCOUNT].calls)


@pytest.mark.parametrize("chosen", [HOSTED], indirect=True)
def test_another_definition_is_refused_before_events_are_read(chosen: Settings) -> None:
    def problem(days: int) -> ScoringProblem:
        group = sample_problem.group.model_copy(
            update={"name": "early", "ttl": timedelta(days=days)}
        )
        service = Service(name="early_service", owner=group.owner, attribute_groups=[group])
        return ScoringProblem("early", group, service)

    publish(chosen, problem(7), say=lambda _: None)
    with pytest.raises(ServiceError, match="another definition of early v1"):
        once(Demo(chosen, problem(8), data="nowhere.parquet", say=lambda _: None))


@pytest.mark.usefixtures("in_snowflake")
@pytest.mark.parametrize(
    ("chosen", "events"),
    [(HOSTED, "file"), (ACCOUNT, "sandbox"), ("local", "snowflake")],
    indirect=["chosen"],
)
def test_every_command_ends_with_its_code_and_at_most_one_line_of_error(
    chosen: Settings,
    events: str,
    simulated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen, data = with_events(chosen, events, simulated)
    monkeypatch.chdir(tmp_path)
    into_environment(chosen, monkeypatch)
    file = ("--data", str(data)) if data else ()
    window = ("--since", "2026-02-01", "--yes") if events == "snowflake" else ()
    problem, written = ("--problem", "tests.support.accounts:MY_SITE"), str(tmp_path / "new.py")
    for expected, command in (
        (0, ["new", written, *file]),
        (0, ["train", *problem, *file, *window, "--promote", "always"]),
        (1, ["status", *problem]),
        (0, ["publish", *problem]),
        (0, ["status", *problem]),
        (4, ["audit", *problem, *file, *window[2:]]),
        (0, ["unpublish", *problem]),
        (0 if chosen.signals_backend == "local" else 1, ["sandbox", "status"]),
    ):
        if command[0] == "audit":
            with serving(chosen, MY_SITE) as server:
                body = {"domain_userid": "8e0b5a52-7d4e-4d2c-9e1b-0f6a3c2d1b47"}
                assert requests.post(f"{server.url}/predict", json=body, timeout=10).ok
        code = cli.main(command)
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert (code, len(errors)) == (expected, int(expected == 4)), command
    checks = doctor.examine(chosen, reach=lambda *_: None)
    assert [check for check in checks if check.state == "failure"] == []
