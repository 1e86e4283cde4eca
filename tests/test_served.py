"""The log of served scores: every record once, by day, private, and never in the way."""

import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.served import ServedLog

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_records_go_to_their_day(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    for days in (0, 0, 1):
        served.append(b'{"n":1}', NOON + timedelta(days=days))
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "served").iterdir()}
    assert lines == {"2026-03-01.ndjson": ['{"n":1}'] * 2, "2026-03-02.ndjson": ['{"n":1}']}


def test_only_the_owner_may_read(tmp_path: Path):
    served = ServedLog(tmp_path / "served")
    served.append(b"{}", NOON)
    file = tmp_path / "served" / "2026-03-01.ndjson"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_old_days_are_deleted_and_nothing_else(tmp_path: Path):
    for name in ("2026-01-29.ndjson", "2026-01-30.ndjson", "2026-02-28.ndjson", "notes.txt"):
        (tmp_path / name).write_text("{}\n")
    served = ServedLog(tmp_path, keep_days=30)
    served.append(b"{}", NOON)
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
    lines = (tmp_path / "2026-03-01.ndjson").read_bytes().splitlines()
    assert lines == [record] * 800


def test_a_broken_disk_costs_the_record_only(tmp_path: Path, caplog):
    served = ServedLog(tmp_path)
    (tmp_path / "2026-03-01.ndjson").mkdir()
    served.append(b"{}", NOON)
    assert "not logged: Is a directory" in caplog.text
    (tmp_path / "2026-03-01.ndjson").rmdir()
    served.append(b"{}", NOON)
    assert (tmp_path / "2026-03-01.ndjson").read_text() == "{}\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"Options\(served_days=0\)"):
        ServedLog(tmp_path / "file" / "served")
