"""The command line: the whole job once, and one clear message for what can go wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prospect_lib import cli as command_line
from prospect_lib import sandbox
from prospect_lib.settings import Settings

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "sample_events.csv.gz"


@pytest.fixture
def elsewhere(home_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    return home_settings


def test_the_whole_job_once(elsewhere: Settings) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "prospect_lib", "demo", "--once", "--visitors", "1500"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    sandbox.stop(elsewhere)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert set(result) == {"score", "score_before", "latency_ms", "auc", "seconds"}
    assert 0 <= result["score_before"] < result["score"] <= 1
    assert 0.6 < result["auc"] < 1
    assert "true probability" in run.stdout and "never seen" in run.stdout
    assert (elsewhere.home / "token").read_text() not in run.stdout + run.stderr


def test_training_on_the_published_sample(
    elsewhere: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    if not SAMPLE.is_file():
        pytest.skip("the published sample is not at hand; test_warehouse downloads it")
    elsewhere.home.mkdir(parents=True)
    shutil.copy(SAMPLE, elsewhere.home)
    assert command_line.main(["demo", "--data", "sample"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no others" in lines[0]
    assert json.loads(lines[-1])["rows"] > 4000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train"], 4, "no events in"),
        (["serve"], 5, "no model is promoted"),
        (["train", "--data", "nowhere.csv"], 4, "nowhere.csv: there is no such file"),
        (["demo", "--data", "nowhere.parquet"], 4, "there is no such file"),
    ],
)
def test_errors_are_one_message_and_an_exit_code(
    elsewhere: Settings,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    sandbox.token(elsewhere.home)
    assert command_line.main(arguments) == code
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err


@pytest.mark.usefixtures("elsewhere")
def test_a_training_set_with_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "domain_userid,derived_tstamp,event_name,event_vendor,event_version,app_id,page_url,domain_sessionid,refr_medium,mkt_medium,mkt_campaign,contexts_nl_basjes_yauaa_context_1\n"  # noqa: E501
    row = "u{},2026-01-0{} 10:00:00,page_view,com.snowplowanalytics.snowplow,1-0-0,w,/,s,,,,\n"
    path = tmp_path / "one.csv"
    path.write_text(header + "".join(row.format(i, 1 + i % 9) for i in range(40)))
    assert command_line.main(["train", "--data", str(path)]) == 4
    assert "one class only" in capsys.readouterr().err
