"""Write the past: simulated events and, beside them, their true probabilities."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.visitors import simulate

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
    events: list[pa.Table] = []
    truth: list[pa.Table] = []
    sizes = [min(CHUNK, visitors - first) for first in range(0, visitors, CHUNK)]
    for chunk, size in enumerate(tqdm(sizes, desc="history", unit="k visitors", disable=None)):
        world = simulate(size, days, end=end, seed=seed, chunk=chunk)
        events.append(world.events)
        truth.append(world.truth)
    keys = [
        ("domain_userid", "ascending"),
        ("derived_tstamp", "ascending"),
        ("event_id", "ascending"),
    ]
    table = pa.concat_tables(events).sort_by(keys)
    _replace(home / "history" / NAME, table)
    _replace(home / "truth" / NAME, pa.concat_tables(truth))
    return int(table.num_rows)


def _replace(path: Path, table: pa.Table) -> None:
    """Readers see the old file or the new one, never half of one."""
    draft = path.with_suffix(".draft")
    pq.write_table(table, draft, row_group_size=ROW_GROUP, compression="zstd")
    draft.replace(path)
