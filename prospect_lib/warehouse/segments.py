"""The files of live events, and how a reader in any process finds each event just once.

Events arrive in ``live/events-00000001.ndjson``; when it is full, the next number begins,
and the finished one becomes ``events-00000001.parquet`` in the background. No file is ever
renamed from one number to another or written again once the next has begun, so a reader needs
one rule for each number: the Parquet file if it is there (it appears at once and whole), else
the log. The log is deleted only ``GRACE`` seconds after its Parquet file appeared, when no
reader that saw it alone is still at it.
"""

import os
import re
from pathlib import Path

GRACE = 60.0  # seconds
_NAME = re.compile(r"events-(\d{8})\.(ndjson|parquet)")


def log_of(folder: Path, number: int) -> Path:
    """The log of one segment."""
    return folder / f"events-{number:08}.ndjson"


def parquet_of(folder: Path, number: int) -> Path:
    """The same events as Parquet, where it exists."""
    return folder / f"events-{number:08}.parquet"


def logs(folder: Path) -> list[int]:
    """Numbers of the segments that have a log, in order."""
    return _numbers(folder, "ndjson")


def parquets(folder: Path) -> list[int]:
    """Numbers of the segments that are Parquet, in order."""
    return _numbers(folder, "parquet")


def live_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Parquet files and logs that hold each live event once, as of now."""
    written = logs(folder)  # first: what becomes Parquet meanwhile is found below
    finished = parquets(folder)
    tail = [log_of(folder, n) for n in written if n not in finished]
    legacy = [path for path in [folder / "events.ndjson"] if path.is_file()]
    return (
        [parquet_of(folder, n) for n in finished],
        [path for path in [*legacy, *tail] if path.stat().st_size],
    )


def adopt(folder: Path) -> None:
    """A log of before there were segments becomes the first one."""
    legacy = folder / "events.ndjson"
    if legacy.is_file() and not logs(folder) and not parquets(folder):
        legacy.replace(log_of(folder, 1))


def sync_folder(folder: Path) -> None:
    """Have names that appeared in the folder survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _numbers(folder: Path, ending: str) -> list[int]:
    found = (_NAME.fullmatch(path.name) for path in folder.glob(f"events-*.{ending}"))
    return sorted(int(match[1]) for match in found if match)
