"""The tunnel with a fake agent: open, call, wrong token, agent killed, close, exit."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
import requests

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.tunnel import open_tunnel
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


def test_a_token_that_ngrok_refuses(server, tmp_path, agent):
    refused = Settings(home=tmp_path / "home", values={"NGROK_TOKEN": "refused"})
    with pytest.raises(ServiceError, match="refuses NGROK_TOKEN"):
        open_tunnel(server, refused, ngrok_path=agent)
    assert not (tmp_path / "home" / "ngrok.yml").exists()


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


def test_without_ngrok_the_proxy_of_colab_is_used(server, tmp_path, monkeypatch):
    scripts = []
    colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
    output.eval_js = lambda code: scripts.append(code) or "https://abc-colab.example/"
    colab.output = output
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    with pytest.raises(SettingsError, match="NGROK_TOKEN"):
        open_tunnel(server, Settings(home=tmp_path), domain="name.ngrok-free.app")
    with open_tunnel(server, Settings(home=tmp_path)) as tunnel:
        assert scripts == [f"google.colab.kernel.proxyPort({server.port})"]
        assert tunnel.url == "https://abc-colab.example"
        assert [ask(server.url, t).status_code for t in (None, tunnel.token)] == [401, 200]


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


@pytest.mark.parametrize(
    ("end", "signal_sent"),
    [
        ("pass", None),
        ("raise ValueError", None),
        ("sys.stdin.read()", signal.SIGKILL),
        ("sys.stdin.read()", signal.SIGTERM),
        ("sys.stdin.read()", signal.SIGHUP),
    ],
)
def test_the_tunnel_closes_when_python_ends_or_a_kernel_is_killed(
    tmp_path, agent, end, signal_sent
):
    folders = {"tests": str(Path(__file__).parents[2]), "home": str(tmp_path / "home")}
    program = textwrap.dedent(CHILD).format(**folders, agent=str(agent), end=end)
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # as Jupyter starts its kernels
    )
    with child:
        assert child.stdout.readline() == b"open\n"
        if signal_sent == signal.SIGKILL:
            os.killpg(child.pid, signal_sent)  # as Jupyter kills them
        elif signal_sent is not None:
            child.send_signal(signal_sent)  # to Python alone: it has to end the agent itself
            assert child.wait(60) == 128 + signal_sent
            assert not (tmp_path / "home" / "ngrok.yml").exists()
    wait_until_gone(int((agent.parent / "pid").read_text()))
