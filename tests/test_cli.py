"""The command line: its help, one line per error, and training on the published sample."""

import errno
import json
import os
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from prospect_lib import cli, sandbox
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from prospect_lib.sandbox.events import EventStore
from prospect_lib.settings import Settings
from tests.support.ordinary_user import Attempt, results_of
from tests.support.serving import save_and_promote
from tests.support.synthetic import training_table


@pytest.fixture
def own_home(home_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Commands use a home and ports of their own."""
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    return home_settings


def test_training_on_the_published_sample(
    own_home: Settings, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_home.home.mkdir(parents=True)
    shutil.copy(sample, own_home.home)
    assert cli.main(["demo", "--data", "sample", "--once"]) == 0
    printed = capsys.readouterr().out
    assert "Training set (sample): 4," in printed and "that of a stranger" in printed
    result = json.loads(printed.splitlines()[-1])
    assert 0 < result["score"] < 1 and result["score_before"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 4, "no events in"),
        (["serve"], 5, "no model is promoted"),
        (["train", "--data", "nowhere.csv"], 4, "nowhere.csv: there is no such file"),
        (["demo", "--data", "nowhere.parquet"], 4, "there is no such file"),
        (["train", "--out", "/proc/models"], 2, "/proc/models cannot be written"),
        (
            ["audit", "--since", "2026-02-01", "--until", "2026-01-01"],
            2,
            "2026-02-01 is not before",
        ),
        (["audit", "--models", "/nonexistent"], 4, "no served scores"),
        (["sandbox", "--host", "999.1.1.1"], 2, "999.1.1.1', port"),
        (["train", "--capacity", "5", "--cost", "1"], 2, "--capacity excludes --value and --cost"),
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
    assert not re.search(r"\w\.\.(?!\.)", line)


@pytest.mark.parametrize("command", ["train", "serve", "audit", "sandbox", "demo --once"])
def test_a_home_that_is_no_folder_is_one_line(
    own_home: Settings, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    own_home.home.write_text("a file")
    assert cli.main(command.split()) in range(1, 8)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and str(own_home.home) in line


def test_a_folder_without_permission_is_one_line_and_nothing_is_lost(own_home: Settings) -> None:
    """The home, models or served scores, read-only or unreadable for this user."""
    home = own_home.home
    sandbox.token(home)
    with closing(EventStore(home)) as store:
        store.add([{"event_id": str(uuid4()), "derived_tstamp": "2026-01-05T10:00:00.000000Z"}])
    table = training_table(visitors=200)
    model = ProspectModel.fit(table, recipe=Recipe(rounds=5), calibrate=False)
    save_and_promote(home / "models", model)
    (home / "served").mkdir()
    (home / "served" / "2026-01-05.ndjson").write_text("{}\n")
    before = contents(home)
    cases = [
        ("", 0o500, ["sandbox", "serve", "audit", "demo --once"], "cannot be written"),
        ("", 0o500, ["sandbox reset"], "cannot be deleted"),
        ("models", 0o500, ["train", "demo --once"], "models cannot be written"),
        ("models", 0o000, ["serve"], "current cannot be read"),
        ("served", 0o500, ["serve"], "served cannot be written"),
        ("served", 0o000, ["audit"], "served cannot be read"),
    ]
    attempts = [
        (Attempt(str(home / folder), mode, command), reason)
        for folder, mode, commands, reason in cases
        for command in commands
    ]
    results = results_of([attempt for attempt, _ in attempts], PROSPECT_HOME=str(home))
    for (attempt, reason), (code, error) in zip(attempts, results, strict=True):
        (line,) = error.splitlines()
        assert (code, line.startswith(f"error: {home}"), reason in line) == (2, True, True), (
            attempt, line,
        )  # fmt: skip
    assert contents(home) == before


def test_a_file_elsewhere_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["new", "/proc/site.py"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: /proc/site.py: ") and line.endswith("or name another file.")


def contents(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def test_a_full_disk_is_one_line(
    own_home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(own_home.home / "models"))

    monkeypatch.setattr("prospect_lib.files.sync", full)
    assert cli.main(["new", str(own_home.home / "site.py")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "models: No space left on device. Check the disk" in line
    assert [*own_home.home.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["audit", "--backend", "databricks"], "unrecognized arguments: --backend databricks. For"),
        (["demos"], "invalid choice: 'demos' (choose from"),
        (["demo", "--visitors", "none"], "--visitors: 'none', expected a whole number of at least"),
        (["simulate", "--live", "--per-minute", "0"], "'0', expected a number of at least 0.01"),
        (["train", "--tries", "-1"], "--tries: '-1', expected a whole number of at least 0"),
        (["train", "--capacity", "0"], "--capacity: '0', expected a number above 0"),
        (["train", "--value", "nan"], "--value: 'nan', expected a number above 0"),
        (["train", "--cost", "-1"], "--cost: '-1', expected a number above 0"),
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
    command = arguments[0] if message.startswith("unrecognized") else ""
    assert message in line and line.endswith(f"{command} --help")


COMMANDS = (
    "demo", "new", "sandbox", "simulate", "train", "publish", "status", "unpublish", "serve",
    "audit", "doctor",
)  # fmt: skip


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
        assert re.search(rf"{option}(?: \[?[A-Z]+\]?| \{{.*?\}})? \w", options), option


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
    assert cli.main(["train", "--data", str(path)]) == 11
    assert "0 of 19 visitors have a row that the goal follows" in capsys.readouterr().err
