"""Write the history: simulated events and, in a second file, the best observable scores."""

import json
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from prospect_lib.files import draft_of, not_writable, write_whole
from prospect_lib.sandbox.simulation.visitors import simulate

FILE_NAME = "simulated.parquet"
CHUNK = 1000  # visitors simulated at a time, which limits memory
ROW_GROUP = 20_000  # rows; small, so that the events of one visitor are found quickly


def write(home: Path, *, visitors: int, days: int, end: datetime, seed: int = 0) -> dict[str, Any]:
    """Write ``history/`` and ``truth/`` into ``home``, unless they are there already.

    Args:
        home: the folder of the sandbox; created if it is missing.
        visitors: how many visit in that time.
        days: length of the period.
        end: end of the period (aware); no event is later.
        seed: of the random numbers.

    Returns:
        The manifest: the arguments, and ``events``, the number of events.

    Raises:
        SettingsError: the folder cannot be written.
        DataError: no visitors, no days, or ``end`` without a time zone.
    """
    arguments = {"visitors": visitors, "days": days, "end": end.isoformat(), "seed": seed}
    manifest = home / "history" / "manifest.json"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        existing = _finished(home)
        if {name: existing.get(name) for name in arguments} == arguments:
            return existing
        # the manifest says that both files are complete: it is removed first and written last
        manifest.unlink(missing_ok=True)
        written = {**arguments, "events": _write(home, visitors, days, end, seed)}
        write_whole(manifest, json.dumps(written, indent=1))
    except OSError as error:
        raise not_writable(home, error) from error
    return written


def _finished(home: Path) -> dict[str, Any]:
    """Return the manifest of a finished run; empty if a file is missing or cannot be read."""
    try:
        for folder in ("history", "truth"):
            pq.read_metadata(home / folder / FILE_NAME)
        manifest = json.loads((home / "history" / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # pyarrow's error for a damaged file is a ValueError
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write(home: Path, visitors: int, days: int, end: datetime, seed: int) -> int:
    """Simulate one part of the visitors after the other, straight into both files."""
    parts = -(-visitors // CHUNK) or 1
    events = 0
    with ExitStack() as files:
        history, truth = (
            files.enter_context(draft_of(home / folder / FILE_NAME))
            for folder in ("history", "truth")
        )
        writers: list[pq.ParquetWriter] = []
        for number in tqdm(range(parts), desc="history", unit="k visitors", disable=None):
            size = min(CHUNK, visitors - number * CHUNK)
            simulation = simulate(size, days, end=end, seed=seed, part=(number, parts))
            tables = (simulation.events, simulation.truth)
            writers = writers or [
                files.enter_context(pq.ParquetWriter(draft, table.schema, compression="zstd"))
                for draft, table in zip((history, truth), tables, strict=True)
            ]
            for writer, table in zip(writers, tables, strict=True):
                writer.write_table(table, row_group_size=ROW_GROUP)
            events += simulation.events.num_rows
    return events
