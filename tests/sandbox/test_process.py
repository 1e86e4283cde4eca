"""Starting, stopping and resetting the sandbox, and what prevents it."""

import socket

import pytest
import requests

from prospect_lib import sandbox
from prospect_lib.errors import ServiceError, SettingsError
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
    with pytest.raises(SettingsError, match="Set PROSPECT_HOME"):
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
