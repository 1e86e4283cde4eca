"""A program that writes into a folder and is killed at one step of it, then at the next …

``python -m tests.support.killed FOLDER`` makes a copy of FOLDER per operation and step. A step
ends when a file, or the list of names in its folder, has reached the disk. A table in a file of
DuckDB, which has its own steps, is replaced until a kill at a random moment, ``PROSPECT_KILLS``
times.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import duckdb

from prospect_lib import files
from prospect_lib.attributes import sample_group
from prospect_lib.model.store import promote, write_bundle
from prospect_lib.sandbox.simulation import history
from prospect_lib.training_set import create_table, extract_to
from prospect_lib.warehouse import DuckDBWarehouse

#: Three visitors with a page view every hour.
EVENTS = (
    "SELECT 'visitor ' || v AS domain_userid, 'https://example.com/' AS page_url, "
    "'page_view' AS event_name, 'com.snowplowanalytics.snowplow' AS event_vendor, "
    "'1-0-0' AS event_version, TIMESTAMP '2026-01-05' + INTERVAL (h) HOUR AS derived_tstamp "
    "FROM range(3) AS visitors(v), range(4) AS hours(h)"
)


def save_and_promote(home: Path) -> None:
    """Save the second version of a model and promote it."""
    models = home / "models"
    write_bundle(models / "second" / "judged", b"judged", {"format": 2}, "second")
    write_bundle(models / "second", b"booster", {"format": 2}, "second")
    promote(models, "second")


def write_training_set(home: Path) -> None:
    """Write a training set in three parts."""
    extract_to(home / "rows", DuckDBWarehouse.over(EVENTS), sample_group, rows_at_once=2)


def simulate(home: Path) -> None:
    """Write the history of a few visitors."""
    history.write(home, visitors=5, days=3, end=datetime(2026, 1, 31, tzinfo=UTC))


def replace_table(home: Path, *, include_anchor: bool = True) -> None:
    """Write a training set as a table of a DuckDB file, which may hold another one."""
    with duckdb.connect(str(home / "rows.duckdb")) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE events AS {EVENTS}")
        warehouse = DuckDBWarehouse(connection)
        create_table(warehouse, "rows", sample_group, include_anchor=include_anchor)


def replace_until_killed(home: Path, moment: float) -> None:
    """Replace a table in a process that is killed in the second round, at a share of the first."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        for number in count():
            begun = time.monotonic()
            replace_table(home, include_anchor=number % 2 == 0)
            os.write(writing, f"{time.monotonic() - begun:9.5f}".encode())
    time.sleep(moment * float(os.read(reading, 9)))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


OPERATIONS: dict[str, Callable[[Path], None]] = {
    "bundle": save_and_promote,
    "rows": write_training_set,
    "history": simulate,
}


def ends_before(step: int, operation: Callable[[Path], None], home: Path) -> bool:
    """Run an operation in a process that is killed at a step; return whether it ended before."""
    process = os.fork()
    if process == 0:
        steps, sync = count(), files.sync

        def killed(path: Path) -> None:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(path)

        files.sync = killed
        operation(home)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


if __name__ == "__main__":
    for name, operation in OPERATIONS.items():
        for step in count():
            home = Path(sys.argv[1]).with_name(f"{name} {step:03}")
            shutil.copytree(sys.argv[1], home)
            if ends_before(step, operation, home):
                break
    draw = random.Random(0)
    for kill in range(int(os.environ.get("PROSPECT_KILLS", "4"))):
        home = Path(sys.argv[1]).with_name(f"table {kill:03}")
        shutil.copytree(sys.argv[1], home)
        replace_until_killed(home, draw.random())
