"""Once a session, in the background, and whatever fails there stays there."""

import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.server.interventions import SESSION, Background, Board, Inviter, pusher
from prospect_lib.server.schemas import Decision, PredictResponse
from prospect_lib.settings import Settings
from tests.support.fake_signals import TOKEN, FakeSignals

VISITOR = "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"


def answer(act: bool, sessions: list[str] | None = None) -> PredictResponse:
    return PredictResponse(
        signals={"num_sessions_l7d": sessions},
        scoring_attributes={},
        explanations={},
        score=0.7,
        model_version="v1",
        scored_at=datetime(2026, 1, 1, tzinfo=UTC),
        decision=Decision(name="invite", threshold=0.5, act=act),
        cold_start=False,
        stale=False,
    )


class World:
    """An inviter, what it pushed, and a clock to move."""

    def __init__(self) -> None:
        self.now, self.status, self.pushed = 0.0, "success", []
        self.background = Background()
        self.inviter = Inviter(self.push, self.background, prospect_group, clock=lambda: self.now)

    def push(self, visitor, says):
        self.pushed.append((visitor, says))
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def consider(self, act: bool, sessions: list[str] | None = None, visitor=VISITOR) -> int:
        self.inviter.consider(visitor, answer(act, sessions))
        self.background.wait()
        return len(self.pushed)


@pytest.fixture
def world():
    return World()


def test_nothing_happens_before_the_decision_turns(world):
    assert world.consider(False) == 0
    assert world.consider(True) == 1
    assert world.pushed == [
        (VISITOR, {"decision": "invite", "score": "0.7000", "model_version": "v1"})
    ]


def test_once_a_session(world):
    steps = [(True, ["s1"]), (True, ["s1"]), (False, ["s1"]), (True, ["s1"])]
    assert [world.consider(*step) for step in steps] == [1, 1, 1, 1]
    assert world.consider(True, ["s1", "s2"]) == 2
    assert world.consider(True, ["s1", "s2"]) == 2


def test_each_visitor_has_their_own(world):
    assert world.consider(True, visitor="a") == 1
    assert world.consider(True, visitor="b") == 2


@pytest.mark.parametrize(("pause", "pushes"), [(SESSION - 1, 1), (SESSION, 2)])
def test_without_session_ids_half_an_hour_of_silence_ends_one(world, pause, pushes):
    world.consider(True)
    world.now += pause
    assert world.consider(True) == pushes


def test_scores_keep_a_session_going(world):
    for _ in range(10):
        assert world.consider(True) == 1
        world.now += SESSION / 2


@pytest.mark.parametrize("status", ["undelivered", "failure", ValueError("no")])
def test_what_was_not_delivered_is_tried_again_at_the_next_score(world, status, caplog):
    world.status = status
    assert [world.consider(True), world.consider(True)] == [1, 2]
    world.status = "success"
    assert [world.consider(True), world.consider(True)] == [3, 3]
    assert "no" not in [record.getMessage() for record in caplog.records]


def test_pushes_with_the_sdk(tmp_path: Path):
    with FakeSignals({}) as fake:
        values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
        push = pusher(Settings(home=tmp_path, values=values), "invite")
        assert push(VISITOR, {"score": "0.9"}) == "success"
    ((path, body),) = fake.calls
    assert path == f"/api/v1/interventions?domain_userid={VISITOR}"
    assert body == {"name": "invite", "version": 1, "attributes": {"score": "0.9"}}


def test_reports_to_the_local_board(tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    background = Background()
    with FakeSignals({}) as fake:
        port = int(fake.url.rpartition(":")[2])
        Board(Settings(home=tmp_path, sandbox_port=port), background).report(b'{"score":0.5}')
        background.wait()
    assert fake.calls == [("/sandbox/scores", {"score": 0.5})]


def test_a_board_that_is_not_there_does_not_matter(tmp_path: Path, caplog):
    background, done = Background(), []
    Board(Settings(home=tmp_path), background).report(b"{}")
    background.submit(lambda: done.append(1))
    background.wait()
    assert done == [1]
    assert "SettingsError" in caplog.text


def test_too_many_jobs_are_dropped(caplog):
    background = Background(waiting=2)
    import threading

    gate = threading.Event()
    for _ in range(5):
        background.submit(gate.wait)
    assert caplog.messages.count("too many jobs wait; one was dropped") >= 2
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    gate.set()
    background.wait()


def test_closing_does_what_waits_and_another_job_starts_anew():
    background, done = Background(), []
    for number in range(2):
        background.submit(lambda number=number: done.append(number))
        background.close()
        background.close()
        assert done == list(range(number + 1))


def test_closing_does_not_wait_for_ever():
    background, stuck = Background(), threading.Event()
    background.submit(stuck.wait)
    start = time.monotonic()
    background.close(patience=0.1)
    assert time.monotonic() - start < 2
    stuck.set()
