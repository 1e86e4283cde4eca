"""A process that writes, reads and checkpoints a store of events until it is killed.

It imports little, so that a fork server starts hundreds of them quickly.
"""

import random
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID, uuid4

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.sandbox.events import EventStore

WRITERS = 3


def write_until_killed(home: Path, acknowledged: Connection, seed: int) -> None:
    """Store events from several threads; send the ids of those that are acknowledged.

    A batch that the disk refuses is sent again, as a tracker does.
    """
    store = _opened(home)
    store._connection.execute("PRAGMA wal_autocheckpoint = 20")  # pages: every few transactions
    sending = threading.Lock()

    def write(number: int) -> None:
        draw = random.Random(seed * WRITERS + number)
        while True:
            batch = [event(draw) for _ in range(draw.randint(1, 6))]
            stored = False
            while not stored or draw.random() < 0.1:  # some come again although they are stored
                try:
                    store.add(batch, [("reason", None)] * (draw.random() < 0.1))
                    stored = True
                except ServiceError:
                    continue
            with sending:
                acknowledged.send_bytes(b"".join(UUID(row["event_id"]).bytes for row in batch))

    for number in range(WRITERS):
        threading.Thread(target=write, args=(number,), daemon=True).start()
    draw = random.Random(seed)
    while True:
        try:
            store.of_visitor(f"u{draw.randint(0, 3)}")
            store.latest(draw.randint(1, 50))
            if draw.random() < 0.2:
                store._writer.submit(
                    store._connection.execute, "PRAGMA wal_checkpoint(TRUNCATE)"
                ).exception()
        except ServiceError:
            continue


def event(draw: random.Random) -> dict[str, str]:
    """Return an event of one of four visitors, with a title of some length."""
    return {
        "event_id": str(uuid4()),
        "domain_userid": f"u{draw.randint(0, 3)}",
        "derived_tstamp": "2026-01-05T10:00:00.000000Z",
        "page_title": "x" * draw.randint(0, 2000),
    }


def _opened(home: Path) -> EventStore:
    while True:
        try:
            return EventStore(home)
        except (ServiceError, SettingsError):  # the disk is full
            continue
