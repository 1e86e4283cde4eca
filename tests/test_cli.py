"""The command line: the whole job once, its help, and one line per error."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prospect_lib import cli, sandbox
from prospect_lib.settings import Settings
from tests.conftest import free_port

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "sample_events.csv.gz"


@pytest.fixture
def own_home(home_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Commands use a home and ports of their own."""
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    return home_settings


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
    assert set(result) == {"score", "score_before", "latency_ms", "auc", "seconds"}
    assert 0 <= result["score_before"] < result["score"] <= 1
    assert 0.6 < result["auc"] < 1
    assert "true probability" in out and "has not seen" in out
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


def test_training_on_the_published_sample(
    own_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    if not SAMPLE.is_file():
        pytest.skip("the published sample is not downloaded; see tests/warehouse")
    own_home.home.mkdir(parents=True)
    shutil.copy(SAMPLE, own_home.home)
    assert cli.main(["demo", "--data", "sample"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no others" in lines[0]
    assert json.loads(lines[-1])["rows"] > 4000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 4, "no events in"),
        (["serve"], 5, "no model is promoted"),
        (["train", "--data", "nowhere.csv"], 4, "nowhere.csv: there is no such file"),
        (["demo", "--data", "nowhere.parquet"], 4, "there is no such file"),
    ],
)
def test_errors_are_one_message_and_an_exit_code(
    own_home: Settings,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    sandbox.token(own_home.home)
    assert cli.main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["demos"], "invalid choice: 'demos' (choose from"),
        (["demo", "--visitors", "none"], "--visitors: 'none', expected a whole number of at least"),
        (["simulate", "--live", "--per-minute", "0"], "'0', expected a number of at least 0.01"),
        (["train", "--tries", "-1"], "--tries: '-1', expected a whole number of at least 0"),
        (["audit", "--tolerated", "nan"], "--tolerated: 'nan', expected a number from 0 to 1"),
    ],
)
def test_a_wrong_argument_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert message in line and line.endswith("--help")


COMMANDS = ("demo", "sandbox", "simulate", "train", "serve", "audit", "doctor")


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_the_help_lists_every_command_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for command in COMMANDS:
        assert re.search(rf" {command} [a-z]+ [a-z]", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_describes_it_and_every_option(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    usage, sentence, text = re.split(r"\] ([A-Z][^.]+)\. ", help_of(capsys, command), maxsplit=1)
    assert len(sentence.split()) > 5
    options = text.partition("options: ")[2]
    for option in re.findall(r"(--[\w-]+)", usage):
        assert re.search(rf"{option}(?: [A-Z]+| \{{.*?\}})? \w", options), option


def test_the_console_script_is_named_in_its_own_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/prospect"])
    assert help_of(capsys).startswith("usage: prospect [-h] command")


@pytest.mark.usefixtures("own_home")
def test_training_on_one_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "domain_userid,derived_tstamp,event_name,event_vendor,event_version,app_id,page_url,domain_sessionid,refr_medium,mkt_medium,mkt_campaign,contexts_nl_basjes_yauaa_context_1\n"  # noqa: E501
    row = "u{},2026-01-0{} 10:00:00,page_view,com.snowplowanalytics.snowplow,1-0-0,w,/,s,,,,\n"
    path = tmp_path / "one.csv"
    path.write_text(header + "".join(row.format(i, 1 + i % 9) for i in range(40)))
    assert cli.main(["train", "--data", str(path)]) == 4
    assert "one class only" in capsys.readouterr().err
