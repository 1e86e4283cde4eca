"""The log of served scores: every record once, by day, private, and never in the way."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.server.served_log import ServedLog

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_records_go_to_their_day(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    for days in (0, 0, 1):
        served.append(b'{"n":1}', NOON + timedelta(days=days))
    served.flush()
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "served").iterdir()}
    assert lines == {"2026-03-01.ndjson": ['{"n":1}'] * 2, "2026-03-02.ndjson": ['{"n":1}']}


def test_only_the_owner_may_read(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    served.append(b"{}", NOON)
    served.flush()
    file = tmp_path / "served" / "2026-03-01.ndjson"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_old_days_are_deleted_and_nothing_else(tmp_path: Path):
    for name in ("2026-01-29.ndjson", "2026-01-30.ndjson", "2026-02-28.ndjson", "notes.txt"):
        (tmp_path / name).write_text("{}\n")
    served = ServedLog(tmp_path, keep_days=30)
    served.append(b"{}", NOON)
    served.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-01-30.ndjson", "2026-02-28.ndjson", "2026-03-01.ndjson", "notes.txt",
    ]  # fmt: skip


def test_threads_do_not_mix_their_lines(tmp_path: Path):
    served = ServedLog(tmp_path)
    record = json.dumps({"text": "x" * 5000}).encode()

    def write() -> None:
        for _ in range(100):
            served.append(record, NOON)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served.close()
    lines = (tmp_path / "2026-03-01.ndjson").read_bytes().splitlines()
    assert lines == [record] * 800


def test_a_broken_disk_costs_the_record_only(tmp_path: Path, caplog):
    served = ServedLog(tmp_path)
    (tmp_path / "2026-03-01.ndjson").mkdir()
    served.append(b"{}", NOON)
    served.flush()
    assert "not logged: Is a directory" in caplog.text
    (tmp_path / "2026-03-01.ndjson").rmdir()
    served.append(b"{}", NOON)
    served.flush()
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n"


def test_it_is_written_soon_without_being_asked(tmp_path: Path):
    served = ServedLog(tmp_path)
    served.append(b"{}", NOON)
    deadline = time.monotonic() + 5
    while not (tmp_path / "2026-03-01.ndjson").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    served.close()


def test_closing_writes_everything_and_another_record_starts_anew(tmp_path: Path):
    served, before = ServedLog(tmp_path), threading.active_count()
    for _ in range(2):
        served.append(b"{}", NOON)
        served.close()
        served.close()
        assert threading.active_count() == before
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n" * 2


def test_the_end_of_python_writes_what_waits(tmp_path: Path):
    program = (
        "from datetime import UTC, datetime; from pathlib import Path\n"
        "from prospect_lib.server.served_log import ServedLog\n"
        f"ServedLog(Path({str(tmp_path)!r})).append(b'{{}}', datetime(2026, 3, 1, tzinfo=UTC))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n"


def test_a_line_that_a_full_disk_has_cut_harms_no_other(tmp_path: Path, monkeypatch, caplog):
    served, write, room = ServedLog(tmp_path), os.write, [3]

    def write_some(handle: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: room.pop()])

    monkeypatch.setattr("prospect_lib.server.served_log.os.write", write_some)
    served.append(b'{"n":1}', NOON)
    served.flush()
    assert "No space left" in caplog.text
    monkeypatch.undo()
    served.append(b'{"n":2}', NOON)
    served.close()
    lines = (tmp_path / "2026-03-01.ndjson").read_text().splitlines()
    assert lines == ['{"n', '{"n":2}']


def test_a_dead_disk_does_not_fill_the_memory(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("prospect_lib.server.served_log.WAITING", 2)
    monkeypatch.setattr("prospect_lib.server.served_log.EVERY", 60)
    served = ServedLog(tmp_path)
    for _ in range(3):
        served.append(b"{}", NOON)
    assert "2 wait for the disk" in caplog.text
    served.close()
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n" * 2


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"Options\(served_days=0\)"):
        ServedLog(tmp_path / "file" / "served")
