"""The log of served scores: attributes, answer, time and model version of each score.

One newline-delimited JSON file per UTC day, ``served/2026-11-23.ndjson``. A record has the
identifier under the name of the attribute key, and the keys of the answer. It contains
visitors' data: only the owner may read the files, they are deleted after some days, and the
log can be turned off.

Records are written together, at most ``RECORDS_EVERY`` seconds after they were served, so that
a slow disk delays no answer. They are on disk when the server has stopped and when Python has
ended; a process that is killed loses the last ``RECORDS_EVERY`` seconds. Several processes may
append to one folder: each batch of lines is one write to the end of the file.
"""

import logging
import os
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from prospect_lib.files import writable_folder
from prospect_lib.server.background import BackgroundWriter

_log = logging.getLogger(__name__)
RECORDS_EVERY = 0.2  # seconds
RECORDS_WAITING = 50_000  # records, about 100 MB; further ones are dropped


class ServedLog:
    """Appends records to the file of their day; safe to share by threads.

    Args:
        folder: created if it is missing, readable by its owner only.
        keep_days: files of older days are deleted.
    Raises:
        SettingsError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, keep_days: int = 30) -> None:
        self._folder, self._keep = folder, timedelta(days=keep_days)
        self._writer = BackgroundWriter(
            self._write_days, name="served scores", limit=RECORDS_WAITING, every=RECORDS_EVERY
        )
        self._day: date | None = None
        writable_folder(folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def append(self, record: bytes, at: datetime) -> None:
        """Add one record, a JSON object without line breaks. A full or broken disk is
        logged; it costs records, not answers."""
        self._writer.put((at.date(), record))

    def flush(self) -> None:
        """Write what waits; returns when it is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write what waits and end the thread; appending again starts another."""
        self._writer.close()

    def _write_days(self, records: list[tuple[date, bytes]]) -> None:
        for day, of_day in groupby(records, key=itemgetter(0)):
            self._write(day, b"".join(record + b"\n" for _, record in of_day))

    def _write(self, day: date, lines: bytes) -> None:
        try:
            if day != self._day:
                self._day = day
                self._delete_before(str(day - self._keep))
            path = self._folder / f"{day}.ndjson"
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    lines = b"\n" + lines  # a full disk or a killed process has cut the last line
                while lines:
                    lines = lines[os.write(handle, lines) :]
            finally:
                os.close(handle)
        except OSError as error:
            _log.error("served scores were not logged: %s", error.strerror)

    def _delete_before(self, oldest: str) -> None:
        for file in self._folder.glob("????-??-??.ndjson"):
            if file.stem < oldest:
                file.unlink(missing_ok=True)
