"""The prediction server as a command: it starts, logs lines, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from prospect_lib import cli
from prospect_lib.jobs.serve import Address, serving
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from prospect_lib.server import Options
from prospect_lib.server.announcement import announced
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.serving import PUBLIC, SHOP, VISITOR, WARM, post_to, save_and_promote
from tests.support.synthetic import training_table

NGROK_TOKEN = "2abcNgrokTokenOfTheTests"


@pytest.fixture
def home(home_settings: Settings) -> Path:
    """A home with a promoted model."""
    table = training_table(visitors=200)
    model = ProspectModel.fit(table, recipe=Recipe(rounds=5), calibrate=False)
    save_and_promote(home_settings.home / "models", model)
    return home_settings.home


@contextmanager
def command(
    settings: Settings, signals: str, *options: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yields its process and what it printed until it was ready."""
    home = {"PREDICT_PORT": str(settings.predict_port), "PROSPECT_HOME": str(settings.home)}
    secrets = {"SP_SANDBOX_URL": signals, "SP_SANDBOX_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "prospect_lib", "serve", *options],
        env={**os.environ, **secrets, **home, **variables},
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
        yield process, "".join(printed)
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """End the command with a signal; returns what it logged."""
    process.send_signal(by)
    _, logged = process.communicate(timeout=60)
    assert process.returncode == (130 if by == signal.SIGINT else 128 + by)
    return logged


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_logs_json_lines_and_ends(home_settings, home, by):
    with FakeSignals(WARM) as fake, command(home_settings, fake.url) as (process, printed):
        url = home_settings.predict_url
        assert f"{url}/predict" in printed
        answer = post_to(url)
        assert answer.status_code == 200, answer.text
        assert post_to(url, headers=PUBLIC).status_code == 401
        fake.mode = "503"
        assert post_to(url).json()["stale"]
        logged = end(process, by)
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    events = [line["event"] for line in lines]
    assert [line["status"] for line in lines if line["event"] == "request"] == [200, 401, 200]
    assert "attributes cannot be read; /health reports the reason" in events
    assert {"at", "level", "logger"} <= lines[0].keys()
    for personal in (VISITOR, TOKEN, "website", "email", "203.0.113", "Traceback"):
        assert personal not in logged
    (served,) = (home / "served").glob("*.ndjson")
    assert len(served.read_text().splitlines()) == 2


def test_a_public_server_that_restarts_on_its_domain_serves_the_installed_snippet(
    home_settings, home, tmp_path
):
    folder, file = tmp_path / "agent", tmp_path / "site" / "token"
    folder.mkdir()
    ngrok = {"PYNGROK_NGROK_PATH": str(write_agent(folder)), "NGROK_TOKEN": NGROK_TOKEN}
    options = ("--public", "--domain", "name.ngrok-free.app", "--token-file", str(file))
    installed, statuses = "", []
    with FakeSignals(WARM) as fake:
        for _ in range(2):
            with command(home_settings, fake.url, *options, "--origin", SHOP, **ngrok) as (
                process,
                printed,
            ):
                installed = installed or printed
                token = installed.split('"token": "')[1].split('"')[0]
                public = f"http://127.0.0.1:{(folder / 'port').read_text()}"
                bearer = {"Authorization": f"Bearer {token}"}
                tried = (
                    {},
                    bearer,
                    bearer | {"Origin": SHOP},
                    bearer | {"Origin": "https://other.example"},
                )
                statuses += [post_to(public, headers=headers).status_code for headers in tried]
                logged = end(process, signal.SIGTERM)
    assert statuses == [401, 200, 200, 403] * 2 and printed == installed
    assert "https://name.ngrok-free.app" in installed and file.read_text() == token
    operator = file.with_name("token.operator").read_text()
    assert operator not in installed
    for secret in (token, operator, NGROK_TOKEN, TOKEN):
        assert secret not in logged
    assert not (home / "ngrok.yml").exists()


@pytest.mark.usefixtures("home")
def test_the_demo_website_and_this_program_are_told_the_tokens(home_settings, tmp_path):
    options, said = Options(origins=(SHOP,), token_file=tmp_path / "token", behind_proxy=True), []
    address = Address(proxy="https://scores.example.com", tracker="acme")
    with serving(home_settings, options=options, address=address, say=said.append) as server:
        announcement = announced(home_settings.home)
        assert announcement.predict_token == (tmp_path / "token").read_text()
        assert requests.get(f"{server.url}/metrics", headers=server.headers, timeout=10).ok
    (text,) = said
    for part in (address.proxy, announcement.predict_token, '"tracker": "acme"'):
        assert part in text
    with serving(home_settings, options=options, say=said.append):
        assert "--behind-proxy https://" in said[1] and server.url not in said[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--origin", "www.example.com"], "is missing. Write it as https://www.example.com"),
        (["--origin", "*"], "each website is named in full, without *"),
        (["--domain", "https://a.ngrok.app"], "not the name of a host. Write it as a.ngrok.app"),
        (["--behind-proxy", "www.example.com"], "Write it as https://www.example.com"),
        (["--behind-proxy"], "--behind-proxy needs --token-file FILE"),
        (["--behind-proxy", "--token-file", "short"], "short holds no secret: expected one line"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    home_settings, options, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("SP_SANDBOX_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SP_SANDBOX_TOKEN", TOKEN)
    (tmp_path / "short").write_text("s3cr3t")
    code = exit_code("serve", *options)
    printed = capsys.readouterr().err
    assert code == 2 and sentence in printed
    assert printed.startswith("error: ") and printed.count("\n") == 1 and "s3cr3t" not in printed


def exit_code(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as ended:  # of argparse
        return int(ended.code or 0)
