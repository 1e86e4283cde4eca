"""Processes that serve together invite a session once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.server.interventions import Inviter
from prospect_lib.server.invitations import DAY, SESSION, Invitations
from tests.server.test_interventions import World
from tests.support.serving import VISITOR


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "invited.sqlite"


def test_a_session_is_claimed_once_until_it_is_forgotten(file: Path) -> None:
    clock = Clock()
    one, other = Invitations(file, clock=clock), Invitations(file, clock=clock)
    assert one.claim("v", "s") and one.claim("v", "") and one.claim("v", "next")
    assert not other.claim("v", "s") and not other.claim("v", "")
    clock.now += SESSION
    assert other.claim("v", "") and not other.claim("v", "s")
    clock.now += DAY - SESSION
    assert other.claim("v", "s")


def test_what_was_given_back_is_free(file: Path) -> None:
    one, other = Invitations(file), Invitations(file)
    assert one.claim("v", "s")
    one.release("v", "s")
    assert other.claim("v", "s")


def test_of_many_at_once_one_has_it(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: Invitations(file).claim("v", "s"), range(40)))
    assert claimed.count(True) == 1


def test_the_file_names_nobody_and_is_its_owners(file: Path) -> None:
    Invitations(file).claim(VISITOR, "a-session")
    content = file.read_bytes()
    assert VISITOR.encode() not in content and b"a-session" not in content
    assert file.stat().st_mode & 0o077 == 0


def test_a_broken_file_costs_no_invitation(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir()
    file.write_text("this is no database, however long it is looked at")
    broken = Invitations(file)
    assert broken.claim("v", "s")
    broken.release("v", "s")
    assert caplog.text.count("cannot be shared") == 2


def test_two_processes_push_one_intervention_and_try_again_what_failed(file: Path) -> None:
    first, second = World(), World()
    for world in (first, second):
        shared = Invitations(file)
        world.inviter = Inviter(world.push, world.background, prospect_group, shared=shared)
    first.status = "nobody listens"
    assert first.consider(True, ["s"]) == 1
    assert second.consider(True, ["s"]) == 1
    assert first.consider(True, ["s"]) == 1  # the other one has delivered it
    assert first.consider(True, ["another"]) == 2
    for world in (first, second):
        world.background.close()
