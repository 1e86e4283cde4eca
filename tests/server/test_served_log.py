"""The log of served scores: every record once, per day, private, without delaying answers."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.server.served_log import ServedLog
from tests.support.waiting import wait_for

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_records_go_to_their_day(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    for days in (0, 0, 1):
        served.append(b'{"n":1}', NOON + timedelta(days=days))
    served.flush()
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "served").iterdir()}
    assert lines == {"2026-03-01.ndjson": ['{"n":1}'] * 2, "2026-03-02.ndjson": ['{"n":1}']}


def test_only_the_owner_may_read_the_log(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    served.append(b"{}", NOON)
    served.flush()
    file = tmp_path / "served" / "2026-03-01.ndjson"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_only_files_of_old_days_are_deleted(tmp_path: Path):
    for name in ("2026-01-29.ndjson", "2026-01-30.ndjson", "2026-02-28.ndjson", "notes.txt"):
        (tmp_path / name).write_text("{}\n")
    served = ServedLog(tmp_path, keep_days=30)
    served.append(b"{}", NOON)
    served.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-01-30.ndjson", "2026-02-28.ndjson", "2026-03-01.ndjson", "notes.txt",
    ]  # fmt: skip


def test_lines_of_several_threads_are_not_mixed(tmp_path: Path):
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


def test_a_broken_disk_loses_records_and_is_logged(tmp_path: Path, caplog):
    served = ServedLog(tmp_path)
    (tmp_path / "2026-03-01.ndjson").mkdir()
    served.append(b"{}", NOON)
    served.flush()
    assert "not logged: Is a directory" in caplog.text
    (tmp_path / "2026-03-01.ndjson").rmdir()
    served.append(b"{}", NOON)
    served.flush()
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n"


def test_a_record_is_written_soon_without_a_flush(tmp_path: Path):
    served = ServedLog(tmp_path)
    served.append(b"{}", NOON)
    wait_for((tmp_path / "2026-03-01.ndjson").exists)
    served.close()


def test_closing_writes_everything_and_another_record_starts_again(tmp_path: Path):
    served, threads = ServedLog(tmp_path), set(threading.enumerate())
    for _ in range(2):
        served.append(b"{}", NOON)
        served.close()
        served.close()
        assert set(threading.enumerate()) <= threads
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n" * 2


def test_the_end_of_python_writes_the_records_that_wait(tmp_path: Path):
    program = (
        "from datetime import UTC, datetime; from pathlib import Path\n"
        "from prospect_lib.server.served_log import ServedLog\n"
        f"ServedLog(Path({str(tmp_path)!r})).append(b'{{}}', datetime(2026, 3, 1, tzinfo=UTC))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n"


def test_a_line_cut_by_a_full_disk_damages_no_other_line(tmp_path: Path, monkeypatch, caplog):
    served, write, free_bytes = ServedLog(tmp_path), os.write, [3]

    def write_some(handle: int, data: bytes) -> int:
        if not free_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: free_bytes.pop()])

    monkeypatch.setattr("prospect_lib.server.served_log.os.write", write_some)
    served.append(b'{"n":1}', NOON)
    served.flush()
    assert "No space left" in caplog.text
    monkeypatch.undo()
    served.append(b'{"n":2}', NOON)
    served.close()
    lines = (tmp_path / "2026-03-01.ndjson").read_text().splitlines()
    assert lines == ['{"n', '{"n":2}']


def test_a_line_cut_by_a_killed_process_damages_no_other_line(tmp_path: Path):
    (tmp_path / "2026-03-01.ndjson").write_bytes(b'{"n":1}\n{"n')
    served = ServedLog(tmp_path)
    for record in (b'{"n":2}', b'{"n":3}'):
        served.append(record, NOON)
        served.flush()
    served.close()
    lines = (tmp_path / "2026-03-01.ndjson").read_text().splitlines()
    assert lines == ['{"n":1}', '{"n', '{"n":2}', '{"n":3}']


def test_records_beyond_the_limit_are_dropped(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("prospect_lib.server.served_log.RECORDS_WAITING", 2)
    monkeypatch.setattr("prospect_lib.server.served_log.RECORDS_EVERY", 60)
    served = ServedLog(tmp_path)
    for _ in range(3):
        served.append(b"{}", NOON)
    assert "2 wait already" in caplog.text
    served.close()
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n" * 2


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="set PROSPECT_HOME"):
        ServedLog(tmp_path / "file" / "served")
