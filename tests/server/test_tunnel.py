"""The tunnel with a fake agent: open, call, errors, agent killed, close, exit, left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.tunnel import open_tunnel
from prospect_lib.server.tunnel.agent import remove_left_behind, running_agents
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.serving import MemoryAttributes, Rule, post_to
from tests.support.waiting import wait_for

TOKEN = "2abcNgrokTokenOfTheTests"


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    return write_agent(folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", values={"NGROK_TOKEN": TOKEN})


@pytest.fixture
def server():
    app = create_app(Rule(), MemoryAttributes(), options=Options(origins=("https://shop.example",)))
    with Server(app, port=0) as running:
        yield running


def ask(url: str, token: str | None = None) -> requests.Response:
    return post_to(url, headers={"Authorization": f"Bearer {token}"} if token else {})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


def ngrok_agents(agent: Path) -> list[int]:
    """Return the running agents of one executable."""
    return [p.pid for p in running_agents() if str(agent) in p.info["cmdline"]]


@pytest.fixture(scope="module")
def other_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An agent that somebody else has started, by its number."""
    folder = tmp_path_factory.mktemp("other")
    config = folder / "ngrok.yml"
    config.write_text('{"agent": {"authtoken": "t"}}')
    program = [write_agent(folder), "start", "--none", "--config", config]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


def wait_until_gone(pid: int) -> None:
    wait_for(lambda: not is_alive(pid))


def test_a_tunnel_is_opened_called_with_its_token_and_closed(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        pid = int((agent.parent / "pid").read_text())
        assert ask(tunnel.url).status_code == 401
        assert ask(tunnel.url, "wrong").status_code == 401
        assert ask(tunnel.url, tunnel.token).json()["score"] == 0.6
        assert tunnel.alive
        assert ask(server.url).status_code == 401, "on this machine too"
        assert post_to(server.url, headers=server.headers).status_code == 200
    assert ask(server.url).status_code == 200, "without a tunnel there is no token"
    wait_until_gone(pid)
    assert not tunnel.alive
    assert not (settings.home / "ngrok.yml").exists()
    assert server.app.extensions["prospect_guard"].token is None
    tunnel.close()


def test_the_ngrok_token_is_neither_printed_nor_logged(server, settings, agent, caplog):
    with caplog.at_level("DEBUG"), open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        assert (settings.home / "ngrok.yml").stat().st_mode & 0o777 == 0o600
        shown = [(agent.parent / "arguments").read_text(), str(tunnel), caplog.text]
    assert all(TOKEN not in text for text in shown)


def test_a_new_tunnel_has_a_new_token(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as first:
        before = first.token
    with open_tunnel(server, settings, ngrok_path=agent) as second:
        assert ask(second.url, before).status_code == 401
        assert ask(second.url, second.token).status_code == 200


def test_after_the_agent_is_killed_another_tunnel_can_be_opened(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        os.kill(int((agent.parent / "pid").read_text()), signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            ask(tunnel.url, tunnel.token)
        wait_for(lambda: not tunnel.alive)
        assert "closed" in str(tunnel)
        assert ask(server.url, tunnel.token).status_code == 200
    with open_tunnel(server, settings, ngrok_path=agent) as again:
        assert ask(again.url, again.token).status_code == 200


def test_a_printed_tunnel_shows_its_address_and_the_snippet(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        text = str(tunnel)
        assert tunnel.url in text
        assert tunnel.token in text
        assert str(tunnel.snippet()) in text
        assert "ngrok-skip-browser-warning" in text
        options = re.search(r"prospect\.start\((.*)\);", str(tunnel.snippet("sp2", every=5)))
        assert json.loads(options[1]) == {
            "url": tunnel.url, "token": tunnel.token, "tracker": "sp2", "every": 5,
            "key": "domain_userid",
        }  # fmt: skip


def test_a_cell_that_is_run_again_closes_the_tunnel_before(server, settings, agent):
    first, second, third = (open_tunnel(server, settings, ngrok_path=agent) for _ in range(3))
    assert (first.alive, second.alive, third.alive) == (False, False, True)
    assert [ask(third.url, tunnel.token).status_code for tunnel in (first, third)] == [401, 200]
    assert ngrok_agents(agent) == [int((agent.parent / "pid").read_text())]
    server.stop()
    assert not third.alive and ngrok_agents(agent) == []


def test_an_interrupted_cell_leaves_no_agent_behind(server, settings, agent, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("prospect_lib.server.tunnel.tunnel._check_address", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_tunnel(server, settings, ngrok_path=agent)
    assert ngrok_agents(agent) == [] and not (settings.home / "ngrok.yml").exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (105, r"NGROK_TOKEN is no authtoken .*Copy it again: https://dashboard\.ngrok\.com"),
        (107, r"not valid any more.*Copy it again: https://dashboard\.ngrok\.com"),
        (
            108,
            r"as many agents as its plan allows.*kill [\d ]*{other}.*dashboard\.ngrok\.com/agents",
        ),
        (120, r"too old.*`ngrok update`, or delete {agent}: then the next start downloads"),
        (121, r"too old for your ngrok account.*`ngrok update`, or delete {agent}: then"),
        (320, r"belongs to another ngrok account.*dashboard\.ngrok\.com/domains"),
        (334, r"another tunnel is online.*kill [\d ]*{other}.*dashboard\.ngrok\.com/endpoints"),
        (725, r"used up its traffic of this month.*dashboard\.ngrok\.com/usage"),
        (4018, r"needs a verified account.*Confirm your e-mail address.*copy NGROK_TOKEN again"),
        (9999, r"refuses the tunnel.*ngrok\.com/docs/errors/err_ngrok_9999"),
    ],
)
def test_an_error_of_ngrok_is_one_sentence_with_its_remedy(
    server, settings, agent, other_agent, caplog, capfd, code, says
):
    secret = {"NGROK_TOKEN": f"ERR_NGROK_{code}"}
    with pytest.raises(ServiceError) as refused, caplog.at_level("DEBUG"):
        open_tunnel(server, Settings(home=settings.home, values=secret), ngrok_path=agent)
    text = str(refused.value)
    assert re.search(says.format(agent=agent, other=other_agent), text), text
    assert f"(ERR_NGROK_{code})" in text and "\n" not in text
    printed = capfd.readouterr()
    assert all("Your authtoken" not in shown for shown in (caplog.text, *printed, text))
    assert not (settings.home / "ngrok.yml").exists() and ngrok_agents(agent) == []


def test_an_agent_that_does_not_reach_ngrok(server, settings, agent):
    line = 'lvl=crit msg="command failed" err="failed to dial ngrok server: i/o timeout"'
    agent.write_text(f"#!/bin/sh\necho '{line}'\nexit 1\n")
    with pytest.raises(ServiceError, match=r"firewall.*connect\.ngrok-agent\.com:443"):
        open_tunnel(server, settings, ngrok_path=agent)


def test_an_agent_that_cannot_be_downloaded(server, settings, tmp_path, monkeypatch):
    def offline(*_args, **_kwargs):
        from pyngrok.exception import PyngrokNgrokInstallError

        raise PyngrokNgrokInstallError("no network")

    monkeypatch.setattr("pyngrok.installer.install_ngrok", offline)
    with pytest.raises(ServiceError, match="cannot be downloaded"):
        open_tunnel(server, settings, ngrok_path=tmp_path / "missing")


def test_an_agent_that_does_not_work(server, settings, tmp_path):
    broken = tmp_path / "ngrok"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ServiceError, match="did not open the tunnel"):
        open_tunnel(server, settings, ngrok_path=broken)


def test_without_a_token_the_message_says_how_to_get_one(server, tmp_path):
    with pytest.raises(SettingsError, match=r"dashboard\.ngrok\.com.*Without it"):
        open_tunnel(server, Settings(home=tmp_path))


CHILD = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tests.support.serving import MemoryAttributes, Rule
    from prospect_lib.server.app import Server, create_app
    from prospect_lib.settings import Settings
    from prospect_lib.server.tunnel import open_tunnel
    settings = Settings(home=Path({home!r}), values={{"NGROK_TOKEN": "t"}})
    server = Server(create_app(Rule(), MemoryAttributes()), port=0).start()
    tunnel = open_tunnel(server, settings, ngrok_path=Path({agent!r}))
    print("open", flush=True)
    {end}
"""


@contextmanager
def child(tmp_path: Path, agent: Path, end: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with a tunnel that ends in some way; yields once the tunnel is open."""
    folders = {"tests": str(Path(__file__).parents[2]), "home": str(tmp_path / "home")}
    program = textwrap.dedent(CHILD).format(**folders, agent=str(agent), end=end)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # as Jupyter starts its kernels
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield process


@pytest.mark.parametrize(
    ("end", "signal_sent", "to_all"),
    [
        ("pass", None, False),
        ("sys.stdin.read()", signal.SIGKILL, True),  # as Jupyter ends kernels
        ("sys.stdin.read()", signal.SIGINT, True),  # as Ctrl-C, and as Jupyter stops cells
        ("sys.stdin.read()", signal.SIGTERM, False),  # to Python alone: it has to end the agent
        ("sys.stdin.read()", signal.SIGHUP, False),
    ],
)
def test_the_tunnel_closes_when_python_ends_or_a_kernel_is_killed(
    tmp_path, agent, end, signal_sent, to_all
):
    with child(tmp_path, agent, end) as process:
        if signal_sent is not None:
            (os.killpg if to_all else os.kill)(process.pid, signal_sent)
            process.wait(60)
        if not to_all and signal_sent is not None:
            assert process.returncode == 128 + signal_sent
    wait_until_gone(int((agent.parent / "pid").read_text()))
    assert (tmp_path / "home" / "ngrok.yml").exists() == (signal_sent == signal.SIGKILL)


def test_a_tunnel_of_another_process_is_named_and_once_it_is_killed_removed(
    server, settings, tmp_path, agent, caplog
):
    with child(tmp_path, agent, "sys.stdin.read()") as process:
        with pytest.raises(ServiceError, match=f"process {process.pid} has a tunnel.*kill"):
            open_tunnel(server, settings, ngrok_path=agent)
        remove_left_behind(settings.home)
        pid = int((agent.parent / "pid").read_text())
        assert is_alive(pid) and (settings.home / "ngrok.yml").exists()
        os.kill(process.pid, signal.SIGKILL)  # Python alone
    assert is_alive(pid)
    open_tunnel(server, settings, ngrok_path=agent).close()
    wait_until_gone(pid)
    assert f"left behind: {pid}" in caplog.text


def test_a_start_without_a_tunnel_removes_what_was_left_behind(settings, agent, other_agent):
    (settings.home / "one").mkdir(parents=True)
    config = settings.home / "ngrok.yml"
    draft = settings.home / ".ngrok.yml.1f.draft"
    for file in (config, draft):
        file.write_text('{"agent": {"authtoken": "t"}}')
    with subprocess.Popen([agent, "start", "--config", config], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        remove_left_behind(settings.home / "one" / "..")
        process.wait(60)
    assert not config.exists() and not draft.exists()
    assert is_alive(other_agent)
