"""The log of served scores: what was known, what was answered, when, by which model.

One newline-JSON file a UTC day, ``served/2026-11-23.ndjson``: the answer's keys and
``domain_userid``. It holds visitors' data, so only the owner may read it, days are
deleted after a while, and it can be left off.
"""

import logging
import os
import threading
from datetime import date, datetime, timedelta
from pathlib import Path

from prospect_lib.errors import SettingsError

log = logging.getLogger(__name__)


class ServedLog:
    """Appends records to the day's file; safe to share by threads.

    Args:
        folder: made if need be, readable by its owner alone.
        keep_days: files of older days are deleted.
    Raises:
        SettingsError: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, keep_days: int = 30) -> None:
        self._folder, self._keep = folder, timedelta(days=keep_days)
        self._lock = threading.Lock()
        self._day: date | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"cannot keep served scores in {folder} ({error.strerror}). Set PROSPECT_HOME "
                "to a folder you may write, or leave the log off: Options(served_days=0)."
            ) from error

    def append(self, record: bytes, at: datetime) -> None:
        """Add one record, a JSON object without line breaks. A full or broken disk is
        logged and costs the record, not the answer."""
        path = self._folder / f"{at.date()}.ndjson"
        with self._lock:
            try:
                if at.date() != self._day:
                    self._day = at.date()
                    self._forget(str(at.date() - self._keep))
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    os.write(handle, record + b"\n")
                finally:
                    os.close(handle)
            except OSError as error:
                log.error("a served score was not logged: %s", error.strerror)

    def _forget(self, before: str) -> None:
        for old in self._folder.glob("????-??-??.ndjson"):
            if old.stem < before:
                old.unlink(missing_ok=True)
