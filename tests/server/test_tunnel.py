"""The tunnel against a fake agent: open, call, wrong token, agent dies, close, exit."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import types
from datetime import date
from pathlib import Path

import pytest
import requests

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.tunnel import MonthlyCount, open_tunnel
from prospect_lib.settings import Settings
from tests.support.fake_ngrok import write_agent
from tests.support.serving import VISITOR, Profiles, Rule

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
    app = create_app(Rule(), Profiles(), options=Options(origins=("https://shop.example",)))
    with Server(app, port=0) as running:
        yield running


def ask(url: str, token: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"domain_userid": VISITOR}
    return requests.post(f"{url}/predict", json=body, headers=headers, timeout=5)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The tunnel's own; waitress too says something when the machine is slow."""
    return [r.getMessage() for r in caplog.records if r.name == "prospect_lib.server.tunnel"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


def wait_until_gone(pid: int) -> None:
    for _ in range(250):
        if not is_alive(pid):
            return
        time.sleep(0.02)
    raise AssertionError(f"agent {pid} still runs")


def test_open_call_close(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        pid = int((agent.parent / "pid").read_text())
        assert ask(tunnel.url).status_code == 401
        assert ask(tunnel.url, "wrong").status_code == 401
        assert ask(tunnel.url, tunnel.token).json()["score"] == 0.6
        assert tunnel.alive
        assert tunnel.requests_this_month == 3
        assert ask(server.url).status_code == 200, "this machine needs no token"
        assert tunnel.requests_this_month == 3
    wait_until_gone(pid)
    assert not tunnel.alive
    assert not (settings.home / "ngrok.yml").exists()
    assert server.app.extensions["prospect_guard"]._token is None
    tunnel.close()


def test_the_ngrok_token_is_nowhere_to_be_seen(server, settings, agent, caplog):
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
        assert second.requests_this_month == 2


def test_the_agent_dies(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        os.kill(int((agent.parent / "pid").read_text()), signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            ask(tunnel.url, tunnel.token)
        wait_for_death = time.monotonic() + 5
        while tunnel.alive and time.monotonic() < wait_for_death:
            time.sleep(0.02)
        assert not tunnel.alive
        assert "closed" in str(tunnel)
        assert ask(server.url).status_code == 200
    with open_tunnel(server, settings, ngrok_path=agent) as again:
        assert ask(again.url, again.token).status_code == 200


def test_what_it_prints(server, settings, agent):
    with open_tunnel(server, settings, ngrok_path=agent) as tunnel:
        text = str(tunnel)
        assert tunnel.url in text
        assert tunnel.token in text
        assert "0 of ngrok's 20,000 free requests" in text
        assert "ngrok-skip-browser-warning" in tunnel.snippet()
        given = re.search(r"prospect\.start\((.*)\); \}", tunnel.snippet("sp2", every=5))
        assert json.loads(given[1]) == {
            "url": tunnel.url, "token": tunnel.token, "tracker": "sp2", "every": 5,
        }  # fmt: skip
        assert tunnel.bookmarklet().startswith("javascript:")
        assert "\n" not in tunnel.bookmarklet()


def test_a_refused_token(server, tmp_path, agent):
    refused = Settings(home=tmp_path / "home", values={"NGROK_TOKEN": "refused"})
    with pytest.raises(ServiceError, match="refuses NGROK_TOKEN"):
        open_tunnel(server, refused, ngrok_path=agent)
    assert not (tmp_path / "home" / "ngrok.yml").exists()


def test_no_agent_and_no_way_to_get_one(server, settings, tmp_path, monkeypatch):
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


def test_no_token_says_how_to_get_one(server, tmp_path):
    with pytest.raises(SettingsError, match=r"dashboard\.ngrok\.com.*Without it"):
        open_tunnel(server, Settings(home=tmp_path))


def test_in_colab_without_ngrok_its_proxy_is_used(server, tmp_path, monkeypatch):
    asked = []
    colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
    output.eval_js = lambda code: asked.append(code) or "https://abc-colab.example/"
    colab.output = output
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    with open_tunnel(server, Settings(home=tmp_path)) as tunnel:
        assert asked == [f"google.colab.kernel.proxyPort({server.port})"]
        assert tunnel.url == "https://abc-colab.example"
        assert ask(server.url).status_code == 200


CHILD = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tests.support.serving import Profiles, Rule
    from prospect_lib.server.app import Server, create_app
    from prospect_lib.settings import Settings
    from prospect_lib.server.tunnel import open_tunnel
    settings = Settings(home=Path({home!r}), values={{"NGROK_TOKEN": "t"}})
    server = Server(create_app(Rule(), Profiles()), port=0).start()
    tunnel = open_tunnel(server, settings, ngrok_path=Path({agent!r}))
    print("open", flush=True)
    {end}
"""


@pytest.mark.parametrize(
    ("end", "sent"),
    [
        ("pass", None),
        ("raise ValueError", None),
        ("sys.stdin.read()", signal.SIGKILL),
        ("sys.stdin.read()", signal.SIGTERM),
        ("sys.stdin.read()", signal.SIGHUP),
    ],
)
def test_it_closes_when_python_ends_or_a_kernel_is_killed(tmp_path, agent, end, sent):
    here = str(Path(__file__).parents[2])
    given = {"tests": here, "home": str(tmp_path / "home"), "agent": str(agent), "end": end}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD).format(**given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # as Jupyter starts its kernels
    )
    with child:
        assert child.stdout.readline() == b"open\n"
        if sent == signal.SIGKILL:
            os.killpg(child.pid, sent)  # as Jupyter kills them
        elif sent is not None:
            child.send_signal(sent)  # to Python alone: it has to end the agent itself
            assert child.wait(10) == 128 + sent
            assert not (tmp_path / "home" / "ngrok.yml").exists()
    wait_until_gone(int((agent.parent / "pid").read_text()))


def test_requests_are_counted_by_the_month(tmp_path: Path):
    path, day = tmp_path / "tunnel.json", date(2026, 11, 30)
    count = MonthlyCount(path, lambda: day, counted=5)
    assert [count.keep(n) for n in (5, 8, 8)] == [0, 3, 3]
    assert MonthlyCount(path, lambda: day, counted=0).keep(2) == 5
    assert MonthlyCount(path, lambda: date(2026, 12, 1), counted=0).keep(1) == 1
    path.write_text("broken")
    assert MonthlyCount(path, lambda: day, counted=0).keep(4) == 4


def test_the_count_is_written_down_while_it_is_open(server, settings, agent, monkeypatch, caplog):
    monkeypatch.setattr("prospect_lib.server.tunnel.FREE_REQUESTS", 50)
    (settings.home).mkdir()
    kept = settings.home / "tunnel.json"
    day = date(2026, 11, 30)
    kept.write_text('{"month": "2026-11", "requests": 25}')
    with open_tunnel(server, settings, ngrok_path=agent, today=lambda: day) as tunnel:
        for _ in range(20):
            ask(tunnel.url)
        assert json.loads(kept.read_text())["requests"] == 45, "as a killed process leaves it"
        assert warnings_of(caplog) == ["45 of ngrok's 50 free requests of this month are used"]
        assert "45 of ngrok's" in str(tunnel)
        ask(tunnel.url)
        metrics = requests.get(f"{server.url}/metrics", timeout=5).text
        assert "prospect_tunnel_requests_this_month 46.0" in metrics
        for _ in range(19):
            ask(tunnel.url)
    assert warnings_of(caplog)[1:] == ["65 of ngrok's 50 free requests of this month are used"]
    assert server.app.extensions["prospect_guard"].on_public is None
