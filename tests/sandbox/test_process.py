"""Starting, stopping and resetting the sandbox, and what prevents it."""

import errno
import os
import socket
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from prospect_lib import cli, sandbox
from prospect_lib.errors import DataError, ServiceError, SettingsError
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from tests.support.sandbox import publish


def test_a_port_in_use_by_something_else_is_named(home_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", home_settings.sandbox_port)):
        with pytest.raises(ServiceError, match=rf"port {home_settings.sandbox_port} is in use"):
            sandbox.ensure_running(home_settings)
        with pytest.raises(SettingsError, match="PROSPECT_PORT"):
            sandbox.serve(home_settings)


def test_a_home_that_is_a_file_is_refused(home_settings: Settings) -> None:
    home_settings.home.write_text("a file")
    with pytest.raises(SettingsError, match="set PROSPECT_HOME"):
        sandbox.ensure_running(home_settings)


@pytest.mark.parametrize("content", ["", "short", "two words, and long enough"])
def test_a_file_without_a_valid_token_is_refused(home_settings: Settings, content: str) -> None:
    home_settings.home.mkdir()
    (home_settings.home / "token").write_text(content)
    for start in (sandbox.ensure_running, sandbox.serve):
        with pytest.raises(
            SettingsError, match=r"token (is empty|holds no secret).*Delete the file"
        ):
            start(home_settings)
    assert [path.name for path in home_settings.home.iterdir()] == ["token"]


@pytest.mark.parametrize("name", ["sandbox.log", "sandbox.pid"])
def test_a_file_that_cannot_be_written_is_refused_in_one_line(
    home_settings: Settings, name: str
) -> None:
    (home_settings.home / name).mkdir(parents=True)
    start = sandbox.ensure_running if name == "sandbox.log" else sandbox.serve
    with pytest.raises(SettingsError, match=r"cannot be written.*set PROSPECT_HOME"):
        start(home_settings)


def test_a_reset_that_cannot_delete_is_an_error(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a read-only file system; whether the tests run as root or not."""
    home = home_settings.home
    sandbox.token(home)
    EventStore(home).close()
    (home / "history").mkdir()
    (home / "history" / "part.parquet").touch()

    def refuse(path: Any, **_options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setenv("PROSPECT_HOME", str(home))
    for function, name in (("unlink", "events.sqlite"), ("rmdir", "history")):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, refuse)
            assert cli.main(["sandbox", "reset"]) == SettingsError.exit_code
        printed = capsys.readouterr()
        assert f"{name} cannot be deleted (Read-only file system)" in printed.err
        assert printed.out == "" and (home / name).exists() and printed.err.count("\n") == 1
    assert cli.main(["sandbox", "reset"]) == 0
    assert not (home / "history").exists()


def test_damaged_history_is_set_aside_and_written_again(
    home_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    home, end = home_settings.home, datetime(2026, 1, 5, tzinfo=UTC)
    path = home / "history" / history.FILE_NAME
    history.write(home, visitors=5, days=3, end=end)
    whole = path.read_bytes()
    assert home.stat().st_mode & 0o777 == 0o700
    path.write_bytes(whole[: len(whole) // 2])
    app = create_sandbox(home_settings)
    with closing(app.extensions["sandbox"].events):
        assert "history cannot be read" in caplog.text and "simulated.damaged now" in caplog.text
        assert len(caplog.text.splitlines()) == 1
        assert app.test_client().get("/health").status_code == 200
    assert [each.name for each in sorted(path.parent.iterdir())] == [
        "manifest.json",
        "simulated.damaged",
    ]
    history.write(home, visitors=5, days=3, end=end)
    assert path.read_bytes() == whole
    path.write_bytes(whole[: len(whole) // 2])  # without a start in between
    history.write(home, visitors=5, days=3, end=end)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0.5, 1.0], ids=["cut", "overwritten"])
def test_damaged_events_are_named_when_it_starts(home_settings: Settings, kept: float) -> None:
    """The first page is whole, so that it is a database all the same."""
    path = home_settings.home / "events.sqlite"
    sandbox.token(home_settings.home)
    with closing(EventStore(home_settings.home)) as store:
        store.add([], [("x" * 900, None)] * 99)
    content = path.read_bytes()
    whole = content[:4096] + bytes(len(content) - 4096) if kept == 1 else content
    path.write_bytes(whole[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"events\.sqlite cannot be used.*malformed.*sandbox reset"):
        create_sandbox(home_settings)


def test_events_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    EventStore(tmp_path).close()
    path = tmp_path / "events.sqlite"
    path.chmod(0o644)
    with closing(EventStore(tmp_path)) as store:
        store.add([], [("reason", None)])
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert len(modes) == 3 and set(modes.values()) == {0o600}


def test_a_running_sandbox_is_reused_stopped_and_reset(home_settings: Settings) -> None:
    sandbox.ensure_running(home_settings)
    pid = (home_settings.home / "sandbox.pid").read_text()
    sandbox.ensure_running(home_settings)
    assert (home_settings.home / "sandbox.pid").read_text() == pid
    publish(home_settings)
    sandbox.stop(home_settings)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{home_settings.sandbox_url}/health", timeout=2)
    assert (home_settings.home / "registry.json").exists()
    sandbox.reset(home_settings)
    assert not (home_settings.home / "registry.json").exists()
    sandbox.stop(home_settings)  # harmless


def test_a_stream_of_interventions_ends_well_when_the_sandbox_stops(
    home_settings: Settings,
) -> None:
    sandbox.ensure_running(home_settings)
    address = f"{home_settings.sandbox_url}/api/v1/interventions?domain_userid=u"
    with requests.get(address, stream=True, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"
        sandbox.stop(home_settings)
        assert [line for line in lines if line] == []  # not cut off in the middle
