"""A file is written whole or not at all."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prospect_lib import files
from prospect_lib.errors import SettingsError
from prospect_lib.files import draft_of, ensure_secret, write_whole


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


def test_the_next_writer_removes_the_draft_of_a_killed_one_and_none_in_use(tmp_path: Path) -> None:
    path = tmp_path / "part [1].txt"
    program = (
        "import os, pathlib, signal, sys; from prospect_lib.files import draft_of\n"
        "with draft_of(pathlib.Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    [left] = tmp_path.iterdir()
    with draft_of(path) as in_use:
        assert not left.exists()
        in_use.write_text("slow")
        write_whole(path, "quick")
        assert in_use.exists()
    assert path.read_text() == "slow"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_secret_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    secret = ensure_secret(path)
    assert len(secret) == 32 and path.read_text() == secret == ensure_secret(path)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o600, 0o700]
    assert [p.name for p in path.parent.iterdir()] == ["token"]


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("", 0o600, "is empty: expected one line of 16 characters or more"),
        (" \n", 0o600, "is empty"),
        ("s3cr3t", 0o600, "holds no secret"),
        ("two-lines-of-some\nlength-that-fits", 0o600, "holds no secret"),
        ("ä" * 20, 0o600, "holds no secret"),
        ("x" * 9000, 0o600, "holds no secret"),
        ("a-secret-of-32-characters-in-all", 0o604, "every user.*mode 0604.*`chmod 600 .*token`"),
        ("a-secret-of-32-characters-in-all", 0o666, "every user"),
    ],
    ids=repr,
)
def test_a_file_that_is_no_secret_is_refused_and_stays(
    tmp_path: Path, content: str, mode: int, sentence: str
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=sentence) as refusal:
        ensure_secret(path)
    assert "\n" not in str(refusal.value) and path.read_text() == content
    assert not content.strip() or content.strip() not in str(refusal.value)


def test_an_own_secret_may_end_its_line_and_be_read_by_a_group(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of/my+own-choice~0123456789==\n")
    path.chmod(0o440)
    assert ensure_secret(path) == "of/my+own-choice~0123456789=="


def test_a_full_disk_leaves_no_secret_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", full)
        with pytest.raises(OSError, match="No space left"):
            ensure_secret(tmp_path / "token")
    assert list(tmp_path.iterdir()) == []
    assert len(ensure_secret(tmp_path / "token")) == 32


def test_processes_that_start_at_once_agree_on_the_secret(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from prospect_lib.files import ensure_secret; "
        "sys.stdin.read(); print(ensure_secret(Path(sys.argv[1])), end='')"
    )
    gate, opened = os.pipe()
    command = [sys.executable, "-c", code, str(tmp_path / "token")]
    starting = [
        subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    os.close(gate)
    os.close(opened)
    secrets = [process.communicate(timeout=60)[0] for process in starting]
    assert secrets == [(tmp_path / "token").read_text()] * 6
