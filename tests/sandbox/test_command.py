"""The sandbox's commands: what they do and print, and two sandboxes side by side."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from prospect_lib import cli as command_line
from prospect_lib import sandbox
from prospect_lib.jobs import preview
from prospect_lib.problem import prospect_problem
from prospect_lib.sandbox import command
from prospect_lib.settings import Settings
from tests.conftest import free_port


@contextmanager
def foreground(settings: Settings, *arguments: str) -> Iterator[list[str]]:
    """The command in a process of its own; its first lines."""
    variables = {
        "PROSPECT_HOME": str(settings.home),
        "PROSPECT_PORT": str(settings.sandbox_port),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "prospect_lib", "sandbox", *arguments],
        env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield [process.stdout.readline() for _ in range(3 if arguments else 2)]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@pytest.fixture
def run(home_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Commands of this test are about a home and a port of its own."""
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    return home_settings


def test_start_status_stop_and_reset_report_what_they_did(
    run: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["sandbox", "status"]) == 1
    assert command_line.main(["sandbox", "stop"]) == 0
    assert capsys.readouterr().out.count(f"No sandbox runs in {run.home}") == 2
    sandbox.ensure_running(run)
    requests.get(f"{run.sandbox_url}/i?e=pv", timeout=5)
    assert command_line.main(["sandbox", "status"]) == 0
    out = capsys.readouterr().out
    assert f"at {run.sandbox_url}: 0 live events, 1 bad ones" in out
    assert command_line.main(["sandbox", "stop"]) == 0
    assert "is stopped" in capsys.readouterr().out and (run.home / "events.sqlite").exists()
    assert command_line.main(["sandbox", "reset"]) == 0
    assert "Deleted: events.sqlite, sandbox.log." in capsys.readouterr().out
    assert not list(run.home.glob("events.*")) and (run.home / "token").exists()
    assert command_line.main(["sandbox", "reset"]) == 0
    assert "Deleted: nothing." in capsys.readouterr().out


def test_two_side_by_side(run: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other", sandbox_port=free_port())
    sandbox.ensure_running(run)
    sandbox.ensure_running(other)
    requests.get(f"{run.sandbox_url}/i?e=pv", timeout=5)
    counts = [
        requests.get(f"{one.sandbox_url}/micro/all", timeout=5).json() for one in (run, other)
    ]
    assert [count["bad"] for count in counts] == [1, 0]
    assert sandbox.stop(run) and not sandbox.stop(run)
    assert requests.get(f"{other.sandbox_url}/health", timeout=5).status_code == 200
    assert sandbox.stop(other)


def test_status_reports_that_the_sandbox_uses_another_port(
    run: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.ensure_running(run)
    elsewhere = Settings(home=run.home, sandbox_port=free_port())
    assert command.status_command(elsewhere)
    assert f"does not answer at {elsewhere.sandbox_url}" in capsys.readouterr().out
    sandbox.stop(run)


def test_the_foreground_prints_its_address(home_settings: Settings) -> None:
    with foreground(home_settings) as lines:
        assert f"answers at {home_settings.sandbox_url}\n" in lines[0]
        assert "/board" in lines[1]
        assert requests.get(f"{home_settings.sandbox_url}/board", timeout=5).status_code == 200
    assert not sandbox.stop(home_settings)


def test_another_host_needs_an_option_and_prints_its_consequences(home_settings: Settings) -> None:
    with foreground(home_settings, "--host", "0.0.0.0") as lines:
        assert "It listens on 0.0.0.0" in lines[2]
        for part in ("send events", "need the token", "Nothing is encrypted"):
            assert part in lines[2]
        assert sandbox.token(home_settings.home) not in "".join(lines)
        assert sandbox.ensure_running(home_settings) == home_settings.sandbox_url


def test_it_can_do_without_a_warehouse_as_signals_can(home_settings: Settings) -> None:
    lines: list[str] = []
    with foreground(home_settings, "--host", "0.0.0.0", "--no-warehouse"):
        assert len(preview(home_settings, prospect_problem, say=lines.append)) == 0
    assert "warehouse connection is required" in lines[0]


def test_by_default_only_this_machine_is_listened_to(run: Settings) -> None:
    sandbox.ensure_running(run)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", run.sandbox_port), 2):
        pass
    sandbox.stop(run)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_of_this_machine_is_named(
    run: Settings, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert command_line.main(["sandbox", "--host", host]) == 2
    err = capsys.readouterr().err
    assert f"host={host!r}" in err and "0.0.0.0" in err
    assert sandbox.holder(run.home) is None
