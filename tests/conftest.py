"""Fixtures of all tests: settings with an own home and free ports, and a running sandbox."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# One thread per process: `make test` has as many workers as cores, and threads that wait for one
# another spin. Before the first import of a library that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from prospect_lib import sandbox
from prospect_lib.settings import Settings
from tests.support.blank_pictures import blank_pictures  # noqa: F401 - a fixture
from tests.support.chromium import browser  # noqa: F401 - a fixture
from tests.support.leaks import no_secret_leaks, secret_watch  # noqa: F401 - fixtures
from tests.support.published_sample import sample  # noqa: F401 - a fixture
from tests.support.worlds import COMPARED, EXAMPLES

# Background jobs of a shell ignore Ctrl-C, and programs under nohup ignore the end of the
# terminal. Programs that tests start would inherit that, and these signals would not end them.
for ignored, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, handler)


# No test fails because the machine is busy.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "any machine")

#: The files that take more than twenty seconds, the longest first.
LONGEST = (
    "notebooks/test_notebooks.py",
    "warehouse/test_spark.py",
    "monitoring/test_causes.py",
    "monitoring/test_audit.py",
    "jobs/test_demo.py",
    "notebooks/test_accounts.py",
    "jobs/test_combinations.py",
    "jobs/test_train_command.py",
    "jobs/test_transcript.py",
    "sandbox/simulation/test_best_observable.py",
    "training_set/test_events_part.py",
    "colab/test_colab_versions.py",
    "test_browser.py",
)


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A test that sets up the library's logging, as `serve` does, changes no other test."""
    root, own = logging.getLogger(), logging.getLogger("prospect_lib")
    levels, propagate, handlers = (root.level, own.level), own.propagate, [*own.handlers]
    yield
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    own.propagate, own.handlers[:] = propagate, handlers


@pytest.fixture
def home_settings(tmp_path: Path) -> Settings:
    """Settings without secrets, with their own home and free ports."""
    return Settings(home=tmp_path / "home", sandbox_port=free_port(), predict_port=free_port())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running sandbox, in its own process; the settings to reach it."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), sandbox_port=free_port(), predict_port=free_port()
    )
    sandbox.ensure_running(settings)
    yield settings
    sandbox.stop(settings)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest files: with one of them at the end, a worker waits for the other."""
    order = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After `make parity`, print how many values were compared."""
    if EXAMPLES:
        for warehouse, count in COMPARED.items():
            terminalreporter.write_line(f"{count:,} values of {warehouse} equal to the fold's")
