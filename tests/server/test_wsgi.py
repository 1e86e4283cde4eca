"""Two gunicorn workers serve as one: invitations, served log, metrics, tokens, promotion, stop."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from prospect_lib.features import FEATURES
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.settings import Settings
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.nginx import documented, nginx
from tests.support.serving import SHOP, VISITOR, WARM, post_to, save_and_promote
from tests.support.waiting import wait_for

pytest.importorskip("gunicorn", reason="gunicorn needs Linux or macOS")


@dataclass
class Workers:
    """A running gunicorn.

    Attributes:
        url: where it serves.
        pids: of its workers.
        log: lines of its standard error so far.
    """

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        booted = re.findall(r"Booting worker with pid: (\d+)", "".join(self.log))
        return [int(pid) for pid in booted]

    def read_log(self) -> None:
        self.log.extend(self.process.stderr or ())

    @contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Pause the other workers, so that one of them answers everything."""
        others = [other for other in self.pids if other != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
            wait_for(lambda other=other: state(other) == "T")
        try:
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def ended(self, by: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; returns the exit code."""
        self.process.send_signal(by)
        return self.process.wait(60)


def state(pid: int) -> str:
    """The state of a process: T is stopped."""
    shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip()[:1]


def environment(settings: Settings, signals: str) -> dict[str, str]:
    return {
        **os.environ,
        "PROSPECT_HOME": str(settings.home),
        "SP_SANDBOX_URL": signals,
        "SP_SANDBOX_TOKEN": TOKEN,
        "PREDICT_ORIGINS": f"{SHOP} https://www.example.com",
    }


@contextmanager
def gunicorn(settings: Settings, signals: str, folder: Path, **variables: str) -> Iterator[Workers]:
    """Run the command line of docs/serving.md."""
    metrics = folder / "metrics"
    metrics.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "prospect_lib.server.wsgi:app"),
            *("--workers", "2", "--threads", "16"),
            *("--bind", f"127.0.0.1:{settings.predict_port}", "--no-control-socket"),
        ],
        env=environment(settings, signals)
        | {"PROMETHEUS_MULTIPROC_DIR": str(metrics), **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    workers = Workers(settings.predict_url, process)
    reading = threading.Thread(target=workers.read_log)
    reading.start()
    try:
        wait_for(lambda: "".join(workers.log).count("serving model") == 2, 60)
        yield workers
    finally:
        process.kill()
        process.wait()
        reading.join(10)
        if process.stderr:
            process.stderr.close()


def acting(model: ProspectModel) -> ProspectModel:
    """The model with a threshold that every score reaches."""
    return ProspectModel(model.booster, {**model.manifest, "threshold": {"score": 0.0}}, FEATURES)


def pushes(fake: FakeSignals) -> list[str]:
    return [path for path, _ in fake.calls if "interventions" in path]


def served(settings: Settings) -> list[dict[str, object]]:
    """Every record of the served log."""
    lines = [
        line
        for file in sorted((settings.home / "served").glob("*.ndjson"))
        for line in file.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def answered(metrics: str) -> int:
    """Requests to /predict that were answered with 200, as /metrics has them."""
    count = re.search(
        r'prospect_requests_total{caller="public",route="/predict",status="200"} (\d+)', metrics
    )
    return int(count[1]) if count else 0


def test_two_workers_behind_nginx_are_one_server_with_one_token(home_settings, tmp_path, model):
    save_and_promote(home_settings.home / "models", acting(model))
    file, trusted = tmp_path / "token", str(tmp_path / "nginx" / "certificate.pem")
    variables = {"PREDICT_TOKEN_FILE": str(file), "PREDICT_BEHIND_PROXY": "1"}
    upstream = f"127.0.0.1:{home_settings.predict_port}"
    with (
        FakeSignals(WARM) as fake,
        gunicorn(home_settings, fake.url, tmp_path, **variables) as workers,
        nginx(tmp_path / "nginx", documented()[0], upstream) as url,
    ):
        # written by one of the workers, which started at once
        pages, operator = (
            {"Authorization": f"Bearer {path.read_text()}"}
            for path in (file, file.with_name("token.operator"))
        )
        for pid in workers.pids:
            with workers.only(pid):
                for _ in range(5):
                    assert post_to(url, headers=pages, verify=trusted, timeout=60).ok
                assert post_to(workers.url, timeout=60).status_code == 401
        for pid in workers.pids:
            with workers.only(pid):
                metrics = f"{workers.url}/metrics"
                assert requests.get(metrics, headers=pages, timeout=10).status_code == 403
                assert answered(requests.get(metrics, headers=operator, timeout=10).text) == 10
        allowed = post_to(url, headers=pages | {"Origin": SHOP}, verify=trusted)
        assert allowed.headers["Access-Control-Allow-Origin"] == SHOP
        assert workers.ended() == 0
        assert len(pushes(fake)) == 1
    records = served(home_settings)
    assert len(records) == 11
    assert {record["domain_userid"] for record in records} == {VISITOR}
    logged = "".join(workers.log)
    requests_logged = [line for line in workers.log if '"event": "request"' in line]
    assert len(requests_logged) == 17
    for secret in (VISITOR, TOKEN, file.read_text(), "Traceback"):
        assert secret not in logged


def test_both_workers_follow_a_promotion(home_settings, tmp_path, model, challenger):
    save_and_promote(home_settings.home / "models", model)
    with FakeSignals(WARM) as fake, gunicorn(home_settings, fake.url, tmp_path) as workers:
        assert post_to(workers.url, timeout=60).json()["model_version"] == model.version
        save_and_promote(home_settings.home / "models", challenger)
        for pid in workers.pids:
            with workers.only(pid):
                wait_for(
                    lambda: (
                        post_to(workers.url, timeout=60).json()["model_version"]
                        == challenger.version
                    )
                )


def test_sigterm_answers_the_requests_in_flight_and_loses_no_served_record(
    home_settings, tmp_path, model
):
    save_and_promote(home_settings.home / "models", model)
    with FakeSignals(WARM) as fake, gunicorn(home_settings, fake.url, tmp_path) as workers:
        assert post_to(workers.url, timeout=60).status_code == 200
        fake.mode, fake.delay = "slow", 1.0
        statuses: list[int] = []

        def ask() -> None:
            with suppress(requests.ConnectionError):  # it came too late to be accepted
                statuses.append(post_to(workers.url, timeout=60).status_code)

        clients = [threading.Thread(target=ask) for _ in range(8)]
        calls = len(fake.calls)
        for client in clients:
            client.start()
        wait_for(lambda: len(fake.calls) > calls)
        assert workers.ended() == 0
        for client in clients:
            client.join(60)
    assert set(statuses) == {200}
    assert len(served(home_settings)) == 1 + len(statuses)


def test_a_missing_model_is_one_line_and_an_exit_code_however_many_workers_miss_it(home_settings):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "gunicorn", "prospect_lib.server.wsgi:app"),
            *("--bind", f"127.0.0.1:{home_settings.predict_port}", "--no-control-socket"),
            *("--workers", "2"),
        ],
        env=environment(home_settings, "http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 4
    assert run.stderr.count("error: ") == run.stderr.count("error: no model is promoted") == 1
    assert "Traceback" not in run.stderr
