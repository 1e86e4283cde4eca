"""A file is written whole or not at all."""

import stat
import threading
from pathlib import Path

import pytest

from prospect_lib.files import draft_of, write_whole


def test_the_content_replaces_the_old_one_and_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_whole(tmp_path / "token", "secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    write_whole(path, "old")
    with pytest.raises(RuntimeError), draft_of(path) as draft:
        draft.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_many_writers_of_one_path_never_tear_it(tmp_path: Path) -> None:
    path, contents = tmp_path / "shared.txt", [str(n) * 20_000 for n in range(8)]
    write_whole(path, contents[0])

    def write(content: str) -> None:
        for _ in range(25):
            write_whole(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in contents
    assert path.read_text() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["shared.txt"]
