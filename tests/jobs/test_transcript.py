"""A full run on real accounts, by doubles: every HTTP call, every statement, and no secret.

``PROSPECT_REWRITE=1 pytest tests/jobs/test_transcript.py`` writes the transcript again; then read
what changed. Long statements are there by their outline; ``tests/sql/statements`` has such
statements as a whole.
"""

import io
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prospect_lib import cli, signals
from prospect_lib.jobs.serve import Address, serving
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.server import Options
from prospect_lib.settings import SECRETS, Settings
from tests.conftest import free_port
from tests.support import keys, snow
from tests.support.accounts import (
    CONSOLE_PATH,
    KEY_ID,
    MY_SITE,
    ORGANISATION,
    SNOWFLAKE,
    Elsewhere,
    events_in_snowflake,
    run_notebook,
    signals_elsewhere,
    train_cheaply,
)
from tests.support.fake_ngrok import write_agent
from tests.support.serving import post_to

TRANSCRIPT = Path(__file__).parent / "transcript.txt"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_define_attributes.ipynb"
VISITOR, SHOP = "8e0b5a52-7d4e-4d2c-9e1b-0f6a3c2d1b47", "https://shop.example"
KEY, NGROK_TOKEN = keys.pem(keys.rsa_key(), keys.PASSPHRASE), "2abcNgrokTokenOfTheTests"
HERE = {"127.0.0.1", "localhost"}
LONGEST = 14  # lines of a statement that is shown as a whole
#: What differs from run to run, and how the transcript shows it.
PLACEHOLDERS = {
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?": "<time>",
    r"(PROSPECT_[A-Z]+)_[0-9A-F]{12,}": r"\1_<hash>",
    VISITOR: "<visitor>",
    ORGANISATION: "<organisation>",
}


@dataclass
class Run:
    """What a run of commands did.

    Attributes:
        account: the double of Signals.
        home: PROSPECT_HOME.
        steps: of the transcript.
        hosts: whose addresses were looked up, or to which something connected.
        logged: by every logger, at every level.
        shown: what was printed, and the command lines of all processes.
    """

    account: Elsewhere
    home: Path
    steps: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    logged: io.StringIO = field(default_factory=io.StringIO)
    shown: list[str] = field(default_factory=list)

    def command(self, *arguments: str) -> int:
        """Run one command, as a step."""
        with self.step(f"prospect {' '.join(arguments)}"):
            return cli.main(arguments)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Add what happens in the block."""
        self.account.calls.clear()
        snow.statements().clear()
        with self.watched():
            yield
        calls = [f"HTTP {call}" for call in self.account.calls]
        statements = [f"SQL  {outline(sql)}" for sql in snow.statements()]
        self.steps.append("\n".join([f"$ {title}", *calls, *statements]) + "\n")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep what the block prints."""
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
        self.shown.append(printed.getvalue())

    def transcript(self) -> str:
        """Return all steps, with placeholders."""
        text = "\n".join(self.steps)
        for pattern, placeholder in PLACEHOLDERS.items():
            text = re.sub(pattern, placeholder, text)
        return text


def outline(sql: str) -> str:
    """Return a statement; of a long one its beginning, the tables it reads, and its comments."""
    lines = sql.strip().splitlines()
    if len(lines) > LONGEST:
        told = re.compile(r"\s*--|.*\bDB\.PUBLIC\.|WHERE \"COLLECTOR_TSTAMP\" >=|QUALIFY")
        lines = [lines[0], *filter(told.match, lines[1:]), f"({len(lines)} lines)"]
    return "\n     ".join(line if len(line) <= 180 else f"{line[:180]}…" for line in lines)


def secrets() -> dict[str, str]:
    """Return the secrets of Snowflake and ngrok that a run uses."""
    names = [name for name in SNOWFLAKE if name != "SF_PWD"]
    key = {"SF_PRIVATE_KEY": KEY, "SF_PRIVATE_KEY_PWD": keys.PASSPHRASE}
    return {name: SNOWFLAKE[name] for name in names} | key | {"NGROK_TOKEN": NGROK_TOKEN}


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Doubles of all accounts, the environment that names them, and a record of what is shown."""
    folder = tmp_path_factory.mktemp("run")
    events = simulate(1000, 20, end=datetime.now(UTC), seed=0).events
    with (
        pytest.MonkeyPatch.context() as patch,
        signals_elsewhere(folder / "elsewhere") as account,
        events_in_snowflake(events),
    ):
        run = Run(account, folder / "home")
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def connected(sock: socket.socket, address: Any) -> None:
            run.hosts.add(str(address[0]))
            connect(sock, address)

        def looked_up(host: str, *arguments: Any, **options: Any) -> Any:
            run.hosts.add(host)
            if host not in HERE:
                raise socket.gaierror(f"{host}: tests use no network")
            return look_up(host, *arguments, **options)

        patch.setattr(socket.socket, "connect", connected)
        patch.setattr(socket, "getaddrinfo", looked_up)
        patch.setattr(signals, "CONSOLE_URL", f"{account.url}{CONSOLE_PATH}")
        train_cheaply(patch)
        patch.chdir(folder)
        patch.setenv("PROSPECT_HOME", str(run.home))
        patch.setenv("PREDICT_PORT", str(free_port()))
        patch.setenv("PYNGROK_NGROK_PATH", str(write_agent(folder)))
        for name, value in (account.secrets("signals") | secrets()).items():
            patch.setenv(name, value)
        root, handler = logging.getLogger(), logging.StreamHandler(run.logged)
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        yield run
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture(scope="module")
def run(accounts: Run) -> Run:
    """The whole way, from publishing to its undoing."""
    run, problem = accounts, ("--problem", "tests.support.accounts:MY_SITE")
    since = (datetime.now(UTC) - timedelta(days=15)).date().isoformat()
    assert run.command("publish", *problem) == 0
    with run.step("prospect train --since 2026-01-31 --yes"):
        window = ("--since", since, "--yes", "--promote", "always")
        assert cli.main(["train", *window, *problem]) == 0
    with run.step(f"prospect serve --public --origin {SHOP}, and one score"):
        options, address = Options(origins=(SHOP,)), Address(public=True)
        with serving(Settings.load(), MY_SITE, options=options, address=address) as server:
            assert post_to(server.url, VISITOR, headers=server.headers).ok
            run.shown += command_lines()
    assert run.command("audit", "--yes", *problem) in (0, 12)
    assert run.command("status", *problem) == 0
    assert run.command("unpublish", *problem) == 0
    assert run.command("status", *problem) == 1
    with run.watched():
        run_notebook(NOTEBOOK)
    assert run.hosts <= HERE, "nothing else was connected to"
    return run


def command_lines() -> list[str]:
    """Return the command line of every process, as ``ps`` shows it."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(path.read_text().replace("\0", " "))
    return lines


def test_calls_and_statements_are_those_of_the_transcript(run: Run) -> None:
    if os.environ.get("PROSPECT_REWRITE"):
        TRANSCRIPT.write_text(run.transcript())
    assert run.transcript() == TRANSCRIPT.read_text(), "read what differs, then rewrite it"


def pieces(*secrets: str) -> set[str]:
    """Return pieces of secrets, one of which is in every text with half a line of a secret."""
    lines = [line for text in secrets for line in text.splitlines() if "-----" not in line]
    return {line[at : at + 12] for line in lines for at in range(0, max(1, len(line) - 11), 12)}


def test_no_secret_is_shown_logged_or_kept(run: Run) -> None:
    files = [path.read_text("latin-1") for path in run.home.rglob("*") if path.is_file()]
    assert any(VISITOR in text for text in files), "the log of served scores has visitors"
    everything = "\n".join([run.transcript(), run.logged.getvalue(), *run.shown, *files])
    assert "23 attributes looked up" in everything, "what the notebook prints is searched too"
    assert "ngrok.yml" in everything, "and so is the command line of the tunnel's agent"
    secrets = (run.account.token, KEY, keys.PASSPHRASE, NGROK_TOKEN, KEY_ID)
    assert [piece for piece in pieces(*secrets) if piece in everything] == []


@pytest.mark.parametrize("setting", SECRETS)
def test_a_key_pasted_into_the_wrong_setting_is_not_shown(
    accounts: Run, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, keys.pem(keys.rsa_key()))
    shown, logged = len(accounts.shown), accounts.logged.tell()
    accounts.command("doctor")
    if setting.startswith("SP_"):
        accounts.command("publish")
    elif setting != "NGROK_TOKEN":
        problem = ("--problem", "tests.support.accounts:MY_SITE")
        accounts.command("train", "--since", "2099-01-31", "--yes", *problem)
    printed = "\n".join(accounts.shown[shown:])
    assert "Traceback" not in printed and (setting in printed or setting == "SF_PRIVATE_KEY")
    everything = printed + accounts.logged.getvalue()[logged:]
    assert [piece for piece in pieces(keys.pem(keys.rsa_key())) if piece in everything] == []
