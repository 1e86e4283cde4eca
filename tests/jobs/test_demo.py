"""The demo as a command: its result, and that it stops what it started."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from prospect_lib import sandbox
from prospect_lib.settings import Settings
from tests.conftest import free_port


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which the whole job was run; a second run finds its history and its model."""
    home = tmp_path_factory.mktemp("job") / "home"
    return Settings(home=home, sandbox_port=free_port(), predict_port=free_port())


def demo(job: Settings, *options: str) -> "subprocess.Popen[str]":
    """The demo as a command of its own."""
    variables = {
        "PROSPECT_HOME": str(job.home),
        "PROSPECT_PORT": str(job.sandbox_port),
        "PREDICT_PORT": str(job.predict_port),
    }
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "prospect_lib", "demo", "--visitors", "1500", *options],
        env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_whole_job_once_prints_its_result_and_leaves_nothing_running(job: Settings) -> None:
    with demo(job, "--once") as run:
        out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert set(result) == {
        "score", "score_before", "latency_ms", "auc", "seconds", "share", "steps",
    }  # fmt: skip
    assert 0.5 < result["share"] < 1.2
    *visit, after = result["steps"].values()
    assert len(visit) > 6 and result["score"] == visit[-1] > 3 * after
    assert 0 <= result["score_before"] < result["score"] <= 1
    assert 0.6 < result["auc"] < 1
    assert "best observable" in out and "has not seen" in out
    assert (job.home / "token").read_text() not in out + err
    assert sandbox.holder(job.home) is None
    assert is_free(job.sandbox_port) and is_free(job.predict_port)


def test_a_sandbox_that_ran_before_the_job_stays(job: Settings) -> None:
    sandbox.ensure_running(job)
    pid = sandbox.holder(job.home)
    with demo(job, "--once") as run:
        _, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    assert sandbox.holder(job.home) == pid is not None
    assert sandbox.stop(job)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_the_demo_stops_what_it_started(job: Settings, end: signal.Signals) -> None:
    with demo(job) as run:
        assert run.stdout is not None
        assert any(line.startswith("Ready after") for line in run.stdout)
        assert not is_free(job.sandbox_port) and not is_free(job.predict_port)
        run.send_signal(end)
        run.communicate(timeout=60)
    assert run.returncode == (0 if end is signal.SIGINT else 128 + end)
    assert sandbox.holder(job.home) is None
    assert is_free(job.sandbox_port) and is_free(job.predict_port)


def test_an_interrupted_job_stops_what_it_started(job: Settings) -> None:
    with demo(job, "--once") as run:
        assert run.stdout is not None
        assert any(line.startswith("Sandbox:") for line in run.stdout)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and "Traceback" not in err
    assert sandbox.holder(job.home) is None
