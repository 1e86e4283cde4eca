"""The announcement of the prediction server in ``site.json``."""

import subprocess
import sys
from pathlib import Path

import pytest

from prospect_lib.server.announcement import Announcement, announce, announced


def test_an_announced_server_is_found_until_it_stops(tmp_path: Path) -> None:
    announce(tmp_path, "http://127.0.0.1:9091", "t")
    assert (tmp_path / "site.json").stat().st_mode & 0o777 == 0o600
    assert announced(tmp_path) == Announcement("http://127.0.0.1:9091", "t")
    announce(tmp_path, None)
    assert announced(tmp_path) == Announcement(None, None, None)


def test_a_server_that_was_killed_is_announced_no_longer(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal
from prospect_lib.server.announcement import announce
announce(pathlib.Path({str(tmp_path)!r}), "http://127.0.0.1:9091", "t")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    announcement = announced(tmp_path)
    assert (announcement.predict_url, announcement.predict_token) == (None, None)
    assert announcement.problem == "The prediction server has ended without a stop."


def test_without_a_file_the_problem_is_named(tmp_path: Path) -> None:
    assert announced(tmp_path).problem == "No prediction server has been started yet."


BAD_PID = b'{"predict_url": "http://127.0.0.1:9091", "pid": "me"}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", BAD_PID])
def test_a_damaged_file_is_a_problem_and_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site.json").write_bytes(content)
    announcement = announced(tmp_path)
    assert announcement.predict_url is None
    assert "site.json" in (announcement.problem or "")


def test_the_token_is_not_printed() -> None:
    assert "secret" not in repr(Announcement("http://127.0.0.1:9091", "secret"))
