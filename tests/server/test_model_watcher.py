"""The promoted model is followed, and a broken one is refused."""

import threading
from pathlib import Path

import pytest
import requests

from prospect_lib.errors import ModelError
from prospect_lib.server.app import Server
from prospect_lib.server.model_watcher import PromotedModel
from prospect_lib.server.predictor import Loaded
from tests.support.serving import VISITOR, app_of, save_and_promote
from tests.support.waiting import wait_for


def test_a_promoted_model_takes_over_without_a_request_lost(tmp_path: Path, model, challenger):
    save_and_promote(tmp_path, model)
    with Server(app_of(tmp_path), port=0) as server:
        versions: list[tuple[int, str]] = []
        stop = threading.Event()

        def load() -> None:
            with requests.Session() as session:
                while not stop.is_set():
                    answer = session.post(
                        f"{server.url}/predict", json={"domain_userid": VISITOR}, timeout=10
                    )
                    versions.append((answer.status_code, answer.json().get("model_version")))

        def refused() -> str | None:
            health = requests.get(f"{server.url}/health", timeout=10).json()
            return health["model"]["refused"]

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: versions)
        save_and_promote(tmp_path, challenger)
        wait_for(lambda: versions[-1][1] == challenger.version)
        (tmp_path / challenger.version / "model.ubj").write_bytes(b"damaged")
        wait_for(lambda: "is not the file" in (refused() or ""))
        (tmp_path / "current").write_text("no-such-version")
        wait_for(lambda: "no-such-version" in (refused() or ""))
        save_and_promote(tmp_path, model)
        wait_for(lambda: versions[-1][1] == model.version)
        stop.set()
        for thread in threads:
            thread.join()
        assert refused() is None
    assert {status for status, _ in versions} == {200}
    assert {version for _, version in versions} == {model.version, challenger.version}


def test_a_request_does_not_wait_for_a_new_model(tmp_path: Path, model, challenger):
    save_and_promote(tmp_path, model)
    loading, loaded = threading.Event(), threading.Event()

    def accept(candidate) -> Loaded:
        if candidate.version == challenger.version:
            loading.set()
            loaded.wait(30)
        return Loaded.of(candidate)

    current = PromotedModel(tmp_path, accept, every=0)
    save_and_promote(tmp_path, challenger)
    wait_for(lambda: current().version == model.version and loading.is_set())
    assert current().version == model.version
    loaded.set()
    wait_for(lambda: current().version == challenger.version)


def test_without_a_promoted_model_the_server_does_not_start(tmp_path: Path):
    with pytest.raises(ModelError, match="no model is promoted"):
        app_of(tmp_path)
