"""One little world for the tests: a sandbox with history, on free ports."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prospect_lib import sandbox
from prospect_lib.settings import Settings
from tests.support.leaks import nothing_leaks, watch  # noqa: F401 - fixtures of every test
from tests.support.worlds import COMPARED, EXAMPLES

# A shell lets its background jobs ignore Ctrl-C, and nohup the end of the terminal. Programs
# that tests start inherit that, and would not end as they do for people.
for ignored, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, usual)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home_settings(tmp_path: Path) -> Settings:
    """Settings of a machine without secrets, with a home and ports of its own."""
    return Settings(home=tmp_path / "home", sandbox_port=free_port(), predict_port=free_port())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A sandbox in a process of its own."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), sandbox_port=free_port(), predict_port=free_port()
    )
    sandbox.ensure_running(settings)
    yield settings
    sandbox.stop(settings)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After a long run: how many (definition, history, moment) cases were compared."""
    if EXAMPLES:
        for warehouse, count in COMPARED.items():
            terminalreporter.write_line(f"{count:,} values of {warehouse} equal to the fold's")
