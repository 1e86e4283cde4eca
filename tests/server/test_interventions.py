"""Interventions: one per session, delivered in the background, with failures contained there."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.server.background import job_runner
from prospect_lib.server.interventions import (
    DAY_SECONDS,
    SESSION_SECONDS,
    BoardReporter,
    Holdout,
    Invitations,
    Inviter,
    is_held_out,
    pusher,
)
from prospect_lib.server.schemas import Decision, PredictResponse
from prospect_lib.settings import Settings
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.serving import VISITOR


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
    """One process: an inviter, the interventions it pushed, and a clock to move."""

    def __init__(self, file: Path | None = None) -> None:
        self.now, self.pushed = 1_000_000.0, []
        self.status: str | Exception = "success"
        self.jobs = job_runner()
        self.invitations = Invitations(file, clock=lambda: self.now)
        self.inviter = Inviter(self.push, self.jobs, prospect_group, self.invitations)

    def push(self, visitor, attributes):
        self.pushed.append((visitor, attributes))
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def consider(self, act: bool, sessions: list[str] | None = None, visitor=VISITOR) -> int:
        """Consider an answer; returns how many interventions were pushed so far."""
        self.inviter.consider(visitor, answer(act, sessions))
        self.jobs.flush()
        return len(self.pushed)

    def close(self) -> None:
        self.jobs.close()
        self.invitations.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "invited.sqlite"


@pytest.fixture
def new_world(file: Path) -> Iterator[Callable[[], World]]:
    """Makes processes that share one home."""
    worlds: list[World] = []

    def new() -> World:
        worlds.append(World(file))
        return worlds[-1]

    yield new
    for world in worlds:
        world.close()


@pytest.fixture(params=["file", "memory"])
def world(request, file) -> Iterator[World]:
    made = World(file if request.param == "file" else None)
    yield made
    made.close()


def test_an_intervention_is_pushed_when_the_decision_turns_to_act(world):
    assert world.consider(False) == 0
    assert world.consider(True) == 1
    assert world.pushed == [
        (VISITOR, {"decision": "invite", "score": "0.7000", "model_version": "v1"})
    ]


def test_a_session_gets_one_intervention(world):
    steps = [(True, ["s1"]), (True, ["s1"]), (False, ["s1"]), (True, ["s1"])]
    assert [world.consider(*step) for step in steps] == [1, 1, 1, 1]
    assert world.consider(True, ["s1", "s2"]) == 2
    assert world.consider(True, ["s1", "s2"]) == 2


def test_each_visitor_gets_an_intervention(world):
    assert world.consider(True, visitor="a") == 1
    assert world.consider(True, visitor="b") == 2


@pytest.mark.parametrize(("pause", "pushes"), [(SESSION_SECONDS - 1, 1), (SESSION_SECONDS, 2)])
def test_half_an_hour_without_a_score_ends_a_session_without_id(world, pause, pushes):
    world.consider(True)
    world.now += pause
    assert world.consider(True) == pushes


@pytest.mark.parametrize("act", [True, False])
def test_scores_extend_a_session_without_id(world, act):
    assert world.consider(True) == 1
    for _ in range(10):
        world.now += SESSION_SECONDS / 2
        assert world.consider(act) == 1
    assert world.consider(True) == 1


def test_the_holdout_is_a_stable_share_of_sessions_and_of_no_other_choice():
    sessions = [f"session {number}" for number in range(10_000)]
    small, large, other = (
        {session for session in sessions if is_held_out(session, share, name)}
        for share, name in ((0.1, "invite"), (0.3, "invite"), (0.1, "offer"))
    )
    assert small < large, "a larger share keeps those held out"
    assert len(small) == pytest.approx(1000, abs=90)  # three standard deviations
    assert len(large) == pytest.approx(3000, abs=140)
    assert len(small & other) == pytest.approx(100, abs=30), "another name draws again"


def test_the_holdout_looks_at_the_newest_session_or_without_one_at_the_visitor():
    holdout = Holdout(0.5, "invite", prospect_group)

    def contains(sessions, visitor=VISITOR):
        return holdout.contains(visitor, {"num_sessions_l7d": sessions})

    assert [contains(["x", session]) for session in "abcd"] == [True, True, False, False]
    assert [contains("a", who) for who in "vwxyz"] == [True] * 5
    for nothing in (None, [], [None]):
        assert [contains(nothing, who) for who in "abcd"] == [True, True, False, False]


@pytest.mark.parametrize("status", ["undelivered", "failure", ValueError("no")])
def test_an_undelivered_intervention_is_tried_again_at_the_next_score(world, status, caplog):
    world.status = status
    assert [world.consider(True), world.consider(True)] == [1, 2]
    world.status = "success"
    assert [world.consider(True), world.consider(True)] == [3, 3]
    assert "no" not in [record.getMessage() for record in caplog.records]


def test_two_processes_push_one_intervention_and_retry_a_failed_one(new_world):
    first, second = new_world(), new_world()
    first.status = "undelivered"
    assert first.consider(True, ["s"]) == 1
    assert second.consider(True, ["s"]) == 1
    assert first.consider(True, ["s"]) == 1, "the other process has delivered it"
    assert first.consider(True, ["another"]) == 2


def test_a_restarted_process_remembers_who_was_invited(new_world):
    before = new_world()
    assert before.consider(True, ["s"]) == 1
    before.close()
    assert new_world().consider(True, ["s"]) == 0


def test_a_claim_lasts_a_day_or_without_session_id_half_an_hour(new_world):
    one, other = new_world(), new_world()
    assert one.invitations.claim("v", "s") and one.invitations.claim("v", "")
    assert one.invitations.claim("v", "next")
    assert not other.invitations.claim("v", "s")
    other.now += SESSION_SECONDS
    assert other.invitations.claim("v", "") and not other.invitations.claim("v", "s")
    other.now += DAY_SECONDS - SESSION_SECONDS
    assert other.invitations.claim("v", "s")


def test_a_released_claim_can_be_claimed_again(new_world):
    one, other = new_world().invitations, new_world().invitations
    assert one.claim("v", "s")
    one.release("v", "s")
    assert other.claim("v", "s")


def test_of_many_claims_at_once_one_succeeds(new_world):
    with ThreadPoolExecutor(8) as pool:
        worlds = [new_world() for _ in range(40)]
        claimed = list(pool.map(lambda world: world.invitations.claim("v", "s"), worlds))
    assert claimed.count(True) == 1


def test_the_file_contains_no_ids_and_only_its_owner_can_read_it(new_world, file):
    new_world().invitations.claim(VISITOR, "a-session")
    content = file.read_bytes()
    assert VISITOR.encode() not in content and b"a-session" not in content
    assert file.stat().st_mode & 0o077 == 0


def test_with_a_broken_file_a_process_remembers_its_own_invitations(new_world, file, caplog):
    file.parent.mkdir()
    file.write_text("this text is long enough to be read as a page, but is no database")
    world = new_world()
    assert [world.consider(True, ["s"]), world.consider(True, ["s"])] == [1, 1]
    world.invitations.release(VISITOR, "s")
    assert world.consider(True, ["s"]) == 2
    assert caplog.text.count("not shared with other processes") == 1
    file.unlink()
    assert world.consider(True, ["t"]) == 3
    assert new_world().consider(True, ["t"]) == 0, "the new file is shared again"


def test_interventions_are_pushed_with_the_sdk(tmp_path: Path):
    with FakeSignals({}) as fake:
        values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
        push = pusher(Settings(home=tmp_path, values=values), "invite")
        assert push(VISITOR, {"score": "0.9"}) == "success"
    ((path, body),) = fake.calls
    assert path == f"/api/v1/interventions?domain_userid={VISITOR}"
    assert body == {"name": "invite", "version": 1, "attributes": {"score": "0.9"}}


def test_scores_are_sent_to_the_local_board(tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    jobs = job_runner()
    with FakeSignals({}) as fake:
        port = int(fake.url.rpartition(":")[2])
        BoardReporter(Settings(home=tmp_path, sandbox_port=port), jobs).report(b'{"score":0.5}')
        jobs.flush()
    jobs.close()
    assert fake.calls == [("/sandbox/scores", {"score": 0.5})]


def test_a_missing_board_does_not_stop_the_next_job(tmp_path: Path, caplog):
    jobs, done = job_runner(), []
    BoardReporter(Settings(home=tmp_path), jobs).report(b"{}")
    jobs.put(lambda: done.append(1))
    jobs.close()
    assert done == [1]
    assert "SettingsError" in caplog.text
