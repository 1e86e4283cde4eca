"""Write the past: simulated events and, beside them, their true probabilities."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.simulation.visitors import simulate

NAME = "simulated.parquet"
CHUNK = 1000  # visitors simulated at a time, so that memory stays flat
ROW_GROUP = 20_000  # small, so that one visitor is found quickly


def write(home: Path, *, visitors: int, days: int, end: datetime, seed: int = 0) -> dict[str, Any]:
    """Write ``history/`` and ``truth/`` below ``home``; the same again does nothing.

    Args:
        end: aware; no event is later.

    Returns:
        The manifest: the arguments and ``events``, how many were written.
    Raises:
        SettingsError: the folder cannot be written.
        DataError: no visitors, no days, or ``end`` without a time zone.
    """
    arguments = {"visitors": visitors, "days": days, "end": end.isoformat(), "seed": seed}
    manifest = home / "history" / "manifest.json"
    try:
        found = _finished(home)
        if {name: found.get(name) for name in arguments} == arguments:
            return found
        for folder in ("history", "truth"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)  # it vouches for both files, so it goes first, comes last
        written = {**arguments, "events": _write(home, visitors, days, end, seed)}
        draft = manifest.with_suffix(".draft")
        draft.write_text(json.dumps(written, indent=1), encoding="utf-8")
        draft.replace(manifest)
    except OSError as error:
        raise SettingsError(
            f"{home} cannot be written ({error.strerror}). Set PROSPECT_HOME to a folder of yours."
        ) from error
    return written


def _finished(home: Path) -> dict[str, Any]:
    """The manifest of a finished run; empty where a file is missing or cannot be read."""
    if not all((home / folder / NAME).is_file() for folder in ("history", "truth")):
        return {}
    try:
        found = json.loads((home / "history" / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(home: Path, visitors: int, days: int, end: datetime, seed: int) -> int:
    """One part of the visitors after the other, straight into both files."""
    parts = -(-visitors // CHUNK) or 1
    paths = [home / folder / NAME for folder in ("history", "truth")]
    drafts = [path.with_suffix(".draft") for path in paths]
    writers: list[pq.ParquetWriter] = []
    events = 0
    try:
        for place in tqdm(range(parts), desc="history", unit="k visitors", disable=None):
            size = min(CHUNK, visitors - place * CHUNK)
            world = simulate(size, days, end=end, seed=seed, part=(place, parts))
            tables = (world.events, world.truth)
            writers = writers or [
                pq.ParquetWriter(draft, table.schema, compression="zstd")
                for draft, table in zip(drafts, tables, strict=True)
            ]
            for writer, table in zip(writers, tables, strict=True):
                writer.write_table(table, row_group_size=ROW_GROUP)
            events += world.events.num_rows
    finally:
        for writer in writers:
            writer.close()
    for draft, path in zip(drafts, paths, strict=True):
        _replace(draft, path)
    return events


def _replace(draft: Path, path: Path) -> None:
    """Readers see the old file or the new one, never half of one."""
    draft.replace(path)
