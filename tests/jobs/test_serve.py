"""The prediction server as a command, in one process or several: it starts, logs lines, and
leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from prospect_lib.errors import SettingsError
from prospect_lib.jobs.serve import serve
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promote
from prospect_lib.model.training import Recipe
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.serving import PUBLIC, VISITOR, WARM
from tests.support.synthetic import training_table

NGROK_TOKEN = "2abcNgrokTokenOfTheTests"
SHOP = "https://shop.example"


@pytest.fixture
def home(home_settings: Settings) -> Path:
    """A home with a promoted model."""
    models = home_settings.home / "models"
    table = training_table(visitors=200)
    model = ProspectModel.fit(table, recipe=Recipe(rounds=5), calibrate=False)
    model.save(models / "first")
    promote(models, "first")
    return home_settings.home


@contextmanager
def command(home_settings: Settings, signals: str, *options: str, **extra: str) -> Iterator[list]:
    """Run it; gives the process, and what it printed before it was ready."""
    ports = {"PREDICT_PORT": str(home_settings.predict_port), "PROSPECT_HOME": home_settings.home}
    secrets = {"SP_SANDBOX_URL": signals, "SP_SANDBOX_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "prospect_lib", "serve", *options],
        env={**os.environ, **secrets, **ports, **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed = []
    try:
        for line in process.stdout or ():
            printed.append(line)
            if line.startswith("Scores at"):
                break
        assert printed, process.stderr.read() if process.stderr else ""
        yield [process, "".join(printed)]
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """End it; everything that it logged."""
    process.send_signal(by)
    _, logged = process.communicate(timeout=20)
    assert process.returncode == (130 if by == signal.SIGINT else 128 + by)
    return logged


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_logs_lines_and_ends(home_settings: Settings, home: Path, by) -> None:
    with FakeSignals(WARM) as fake, command(home_settings, fake.url) as (process, printed):
        url = f"http://127.0.0.1:{home_settings.predict_port}"
        assert f"{url}/predict" in printed
        body = {"domain_userid": VISITOR}
        answer = requests.post(f"{url}/predict", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        assert requests.post(f"{url}/predict", json=body, headers=PUBLIC, timeout=5).status_code
        fake.mode = "503"
        assert requests.post(f"{url}/predict", json=body, timeout=5).json()["stale"]
        logged = end(process, by)
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    requested = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requested] == [200, 401, 200]
    assert "attributes cannot be read; /health says why" in [line["event"] for line in lines]
    assert {"at", "level", "logger"} <= lines[0].keys()
    for personal in (VISITOR, TOKEN, "website", "email", "203.0.113", "Traceback"):
        assert personal not in logged
    (served,) = (home / "served").glob("*.ndjson")
    assert len(served.read_text().splitlines()) == 2


def test_in_public(home_settings: Settings, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    extra = {"PYNGROK_NGROK_PATH": str(write_agent(folder)), "NGROK_TOKEN": NGROK_TOKEN}
    with (
        FakeSignals(WARM) as fake,
        command(home_settings, fake.url, "--public", "--origin", SHOP, **extra) as started,
    ):
        process, printed = started
        public, token = printed.split()[0], printed.split('"token": "')[1].split('"')[0]
        bearer = {"Authorization": f"Bearer {token}"}
        given = {"domain_userid": VISITOR}
        tried = (
            {},
            bearer,
            bearer | {"Origin": SHOP},
            bearer | {"Origin": "https://other.example"},
        )
        heard = [
            requests.post(f"{public}/predict", json=given, headers=headers, timeout=5).status_code
            for headers in tried
        ]
        logged = end(process, signal.SIGTERM)
    assert heard == [401, 200, 200, 403]
    assert "free requests used this month" in printed
    for secret in (token, NGROK_TOKEN, TOKEN):
        assert secret not in logged
    assert not (home / "ngrok.yml").exists()
    assert json.loads((home / "tunnel.json").read_text())["requests"] == 4


def pids(process: subprocess.Popen[str], count: int) -> list[int]:
    """Of the processes that serve, as the log names them."""
    found: list[int] = []
    for line in process.stderr or ():
        if " serves" in line:
            found.append(int(line.split("process ")[1].split()[0]))
        if len(found) == count:
            break
    return found


def answered(asked: dict[str, Any]) -> int:
    """The status of the first answer; a process may still take a question while it stops."""
    for _ in range(5):
        with suppress(requests.Timeout):
            return requests.post(**asked, timeout=3).status_code
    return 0


def test_several_processes_answer_on_one_port(home_settings: Settings, home: Path) -> None:
    asked = {
        "url": f"http://127.0.0.1:{home_settings.predict_port}/predict",
        "json": {"domain_userid": VISITOR},
    }
    with (
        FakeSignals(WARM) as fake,
        command(home_settings, fake.url, "--processes", "2") as (process, printed),
    ):
        assert asked["url"] in printed
        first, second = pids(process, 2)
        for paused in (first, second):
            os.kill(paused, signal.SIGSTOP)
            try:
                assert answered(asked) == 200
            finally:
                os.kill(paused, signal.SIGCONT)
        end(process, signal.SIGTERM)
        for pid in (first, second):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    (served,) = (home / "served").glob("*.ndjson")
    records = [json.loads(line) for line in served.read_text().splitlines()]
    assert len(records) >= 2 and {record["domain_userid"] for record in records} == {VISITOR}


@pytest.mark.usefixtures("home")
def test_when_one_process_dies_all_end(home_settings: Settings) -> None:
    with (
        FakeSignals(WARM) as fake,
        command(home_settings, fake.url, "--processes", "2") as (process, _),
    ):
        first, second = pids(process, 2)
        os.kill(first, signal.SIGKILL)
        _, logged = process.communicate(timeout=20)
        assert process.returncode == 6
        assert f"process {first} of 2 ended with code -9" in logged
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"public": True, "processes": 2}, "--public and --processes 2"),
        ({"processes": 0}, "--processes 0: expected 1 to 64"),
        ({"processes": 65}, "--processes 65: expected 1 to 64"),
    ],
)
def test_what_several_processes_cannot_do(home_settings, monkeypatch, arguments, says) -> None:
    monkeypatch.setattr("prospect_lib.jobs.serve.log_lines", lambda _stream: None)
    monkeypatch.setattr("prospect_lib.jobs.serve.end_with_signals", lambda: None)
    with pytest.raises(SettingsError, match=says):
        serve(home_settings, **arguments)


def test_what_a_process_raises_the_command_says(home_settings: Settings) -> None:
    ports = {
        "PREDICT_PORT": str(home_settings.predict_port),
        "PROSPECT_HOME": str(home_settings.home),
        "SP_SANDBOX_URL": "http://127.0.0.1:1",
        "SP_SANDBOX_TOKEN": TOKEN,
    }
    done = subprocess.run(
        [sys.executable, "-m", "prospect_lib", "serve", "--processes", "2"],
        env={**os.environ, **ports},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 5 and "no model is promoted" in done.stderr
    assert "Traceback" not in done.stderr
