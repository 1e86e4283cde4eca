"""Interventions: one per session, when the decision on a score is to act.

``Inviter`` pushes an intervention through Signals, ``Invitations`` remembers the sessions that
had one, ``Holdout`` chooses the sessions that get none, and ``BoardReporter`` sends each score to
the board of the local sandbox. What takes time happens in the background; the answer to the
request does not wait for it.
"""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from snowplow_signals import AttributeGroup, AttributeKeyIdentifiers, InterventionInstance

from prospect_lib.aggregation.keys import session_of
from prospect_lib.errors import SettingsError
from prospect_lib.server.background import BackgroundJob, BackgroundWriter
from prospect_lib.server.schemas import PredictResponse
from prospect_lib.settings import Settings
from prospect_lib.signals import connect, local_token

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
#: Delivers an intervention's attributes to a visitor; returns "success" or the reason it failed.
Push = Callable[[str, Mapping[str, str]], str]
SESSION_SECONDS = 1800.0  # without activity, after which trackers begin a new session
DAY_SECONDS = 86_400.0
_TABLE = "CREATE TABLE IF NOT EXISTS invited (session TEXT PRIMARY KEY, until REAL NOT NULL)"


def is_held_out(session: str, share: float, name: str) -> bool:
    """Return whether a session is in the holdout: a random choice that is always the same.

    The first 16 hexadecimal digits of SHA-256 of name, space and session are a number from 0 to
    16**16 - 1; those below ``share`` of this range are held out. So a larger share keeps those
    that a smaller one held out, and another name draws again.

    >>> [is_held_out(session, 0.5, "invite") for session in "abcd"]
    [True, True, False, False]
    """
    digest = hashlib.sha256(f"{name} {session}".encode()).hexdigest()
    return int(digest[:16], 16) < share * 16**16


@dataclass(frozen=True)
class Holdout:
    """The sessions that are not acted on though the decision says so, to learn whether it helps.

    Attributes:
        share: of the sessions, 0 to 1; 0 holds out none.
        name: of the decision; decisions of other names have other holdouts.
        group: the attributes that tell the session. Where none does, visitors are held out.
    """

    share: float
    name: str
    group: AttributeGroup

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise SettingsError(
                f"holdout={self.share!r}: expected the share of sessions that are not acted on, "
                "from 0 to 1, such as 0.1."
            )
        if self.share == 1:
            _log.warning("the holdout is all sessions: nobody is invited")

    def contains(self, visitor: str, attributes: Mapping[str, Any]) -> bool:
        """Return whether a visitor's session is held out."""
        session = session_of(self.group, visitor, attributes) or visitor
        return is_held_out(session, self.share, self.name)


class Invitations:
    """Remembers which sessions have been invited; safe to share by threads and processes.

    A SQLite file holds a hash of visitor and session, and no id. If it cannot be used, this is
    logged, and the process remembers its own invitations until it can.

    Args:
        file: created if it is missing, readable by its owner only; ``None`` for memory alone.
        clock: seconds since 1970, the same in all processes.
    """

    def __init__(self, file: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock
        self._lock = threading.Lock()
        self._opened: dict[Path | str, sqlite3.Connection] = {}
        self._failing = False

    def claim(self, visitor: str, session: str) -> bool:
        """Return whether this session had no invitation yet; the caller now has to invite it.

        A session with a name is remembered for a day. Without one (``""``) it lasts until
        half an hour has passed without a score.
        """
        key, now = _key(visitor, session), self._clock()
        until = now + (DAY_SECONDS if session else SESSION_SECONDS)

        def insert(table: sqlite3.Connection) -> bool:
            table.execute("DELETE FROM invited WHERE until <= ?", (now,))
            row = (key, until)
            first = table.execute("INSERT OR IGNORE INTO invited VALUES (?, ?)", row).rowcount > 0
            if not first and not session:
                table.execute("UPDATE invited SET until = ? WHERE session = ?", (until, key))
            return first

        return self._execute(insert)

    def extend(self, visitor: str) -> None:
        """Count a score of a visitor without a session's name as activity."""
        key, now = _key(visitor, ""), self._clock()
        statement = "UPDATE invited SET until = ? WHERE session = ? AND until > ?"
        row = (now + SESSION_SECONDS, key, now)
        self._execute(lambda table: table.execute(statement, row))

    def release(self, visitor: str, session: str) -> None:
        """Give a claim back: the invitation did not arrive."""
        row = (_key(visitor, session),)
        self._execute(lambda table: table.execute("DELETE FROM invited WHERE session = ?", row))

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].close()

    def _execute(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run statements in one transaction, in memory if the file cannot be used."""
        with self._lock:
            if self._file is not None:
                try:
                    result = self._transaction(self._file, action)
                    self._failing = False
                    return result
                except (sqlite3.Error, OSError) as error:
                    if not self._failing:
                        _log.warning("invitations are not shared with other processes: %s", error)
                    self._failing = True
                    if self._file in self._opened:
                        self._opened.pop(self._file).close()
            return self._transaction(":memory:", action)

    def _transaction(self, file: Path | str, action: Callable[[sqlite3.Connection], _T]) -> _T:
        if file not in self._opened:
            self._opened[file] = _open(file)
        with self._opened[file] as table:
            table.execute("BEGIN IMMEDIATE")  # of two processes, one claims
            return action(table)


def _open(file: Path | str) -> sqlite3.Connection:
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    # no isolation level: transactions begin where the code begins them
    connection = sqlite3.connect(file, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(_TABLE)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _key(visitor: str, session: str) -> str:
    return hashlib.sha256(f"{len(visitor)} {visitor} {session}".encode()).hexdigest()


class Inviter:
    """Pushes an intervention to a visitor when the decision is to act, once per session.

    The session is the newest ``domain_sessionid`` among the attributes, where the group has
    one, or whom the group is about; otherwise it ends with half an hour without a score.

    Args:
        push: delivers; called in the background. If it does not return "success" (no page
            listens yet, Signals fails), the visitor's next score tries again.
        jobs: runs deliveries in the background.
        group: the attributes among which to find the session, unless its key is the session.
        invitations: the sessions invited so far, shared with other processes.
    """

    def __init__(
        self,
        push: Push,
        jobs: BackgroundWriter[BackgroundJob],
        group: AttributeGroup,
        invitations: Invitations,
    ) -> None:
        self._push, self._jobs = push, jobs
        self._group, self._invitations = group, invitations

    def consider(self, visitor: str, answer: PredictResponse) -> None:
        """Push if the decision is to act and this session has had no intervention yet."""
        session = session_of(self._group, visitor, answer.signals or {})
        if answer.decision.act:
            self._jobs.put(lambda: self._invite(visitor, session, answer))
        elif not session:
            self._jobs.put(lambda: self._invitations.extend(visitor))

    def _invite(self, visitor: str, session: str, answer: PredictResponse) -> None:
        if not self._invitations.claim(visitor, session):
            return
        attributes = {
            "decision": answer.decision.name,
            "score": f"{answer.score:.4f}",
            "model_version": answer.model_version,
        }
        status = "failure"
        try:
            status = self._push(visitor, attributes)
        finally:
            if status != "success":
                self._invitations.release(visitor, session)


def pusher(settings: Settings, name: str, key: str = "domain_userid") -> Push:
    """Return a function that pushes interventions of one name through the Signals in use.

    Args:
        settings: the Signals in use.
        name: of the interventions.
        key: name of the attribute key that visitors are identified by.
    """

    def push(visitor: str, attributes: Mapping[str, str]) -> str:
        targets = AttributeKeyIdentifiers(root={key: [visitor]})
        intervention = InterventionInstance(name=name, version=1, attributes=dict(attributes))
        return str(connect(settings).push_intervention(targets, intervention))

    return push


class BoardReporter:
    """Sends each score to the board of the local sandbox; a failure is only logged."""

    def __init__(self, settings: Settings, jobs: BackgroundWriter[BackgroundJob]) -> None:
        self._settings, self._jobs = settings, jobs
        self._session = requests.Session()
        self._session.trust_env = False

    def report(self, record: bytes) -> None:
        """Send one served record (JSON) in the background."""
        self._jobs.put(lambda: self._send(record))

    def _send(self, record: bytes) -> None:
        self._session.post(
            f"{self._settings.sandbox_url}/sandbox/scores",
            data=record,
            headers={
                "Authorization": f"Bearer {local_token(self._settings)}",
                "Content-Type": "application/json",
            },
            timeout=1,
        )
