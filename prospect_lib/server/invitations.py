"""Which sessions have been invited, known to all processes that serve together.

One small SQLite file in PROSPECT_HOME. It holds no visitor's id, only a hash of visitor
and session, and forgets it after a day.
"""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

log = logging.getLogger(__name__)
SESSION = 1800.0  # seconds without activity that end a session, as the trackers have it
DAY = 86_400.0
_TABLE = "CREATE TABLE IF NOT EXISTS invited (session TEXT PRIMARY KEY, until REAL NOT NULL)"
# one statement, so that of two processes at the same moment one claims
_CLAIM = (
    "INSERT INTO invited VALUES (?, ?) "
    "ON CONFLICT (session) DO UPDATE SET until = excluded.until WHERE until <= ?"
)


class Invitations:
    """Gives each session to one claimant; safe to share by threads and processes.

    A broken or full disk is logged and lets every claim pass: an invitation too many is
    better than none.

    Args:
        file: made if need be, readable by its owner alone.
        clock: seconds since 1970, the same in all processes.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock

    def claim(self, visitor: str, session: str) -> bool:
        """Whether nobody has claimed this session yet; the caller has it from now on.

        Without a session's name (``""``) a claim lasts for half an hour, else for a day.
        """
        now = self._clock()
        until = now + (DAY if session else SESSION)
        try:
            with self._table() as table:
                table.execute("DELETE FROM invited WHERE until <= ?", (now,))
                return table.execute(_CLAIM, (_key(visitor, session), until, now)).rowcount > 0
        except (sqlite3.Error, OSError) as error:
            log.warning("who was invited cannot be shared: %s", error)
            return True

    def release(self, visitor: str, session: str) -> None:
        """Give a claim back: the invitation did not arrive."""
        try:
            with self._table() as table:
                table.execute("DELETE FROM invited WHERE session = ?", (_key(visitor, session),))
        except (sqlite3.Error, OSError) as error:
            log.warning("who was invited cannot be shared: %s", error)

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file.touch(mode=0o600)
        with closing(sqlite3.connect(self._file, timeout=5)) as connection, connection:
            connection.execute(_TABLE)
            yield connection


def _key(visitor: str, session: str) -> str:
    return hashlib.sha256(f"{len(visitor)} {visitor} {session}".encode()).hexdigest()
