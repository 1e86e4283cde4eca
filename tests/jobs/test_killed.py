"""A process that is killed while it writes leaves the old or the new, and nothing that stays."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError
from prospect_lib.model.dataset import batches
from prospect_lib.model.store import (
    MANIFEST_FILE,
    discard_unfinished,
    promote,
    promoted_path,
    promoted_version,
    read_bundle,
    write_bundle,
)
from tests.support.killed import (
    replace_table,
    save_and_promote,
    simulate,
    write_training_set,
)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one home per operation and step at which a process was killed."""
    home = tmp_path_factory.mktemp("killed") / "home"
    write_bundle(home / "models" / "first", b"booster", {"format": 2}, "first")
    promote(home / "models", "first")
    command = [sys.executable, "-m", "tests.support.killed", str(home)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return home.parent


def killed(homes: Path, operation: str) -> list[Path]:
    """Return the homes in which an operation was killed, and the last, in which it ended."""
    steps = sorted(homes.glob(f"{operation} *"))
    assert len(steps) > 3
    return steps


def drafts(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.name.endswith(".draft")]


def test_while_a_bundle_is_saved_and_promoted(homes: Path) -> None:
    versions = []
    for home in killed(homes, "bundle"):
        models = home / "models"
        versions.append(promoted_version(models))
        assert read_bundle(promoted_path(models)), "what is promoted is complete"
        discard_unfinished(models)
        bundles = [path for path in models.iterdir() if path.is_dir()]
        assert all((bundle / MANIFEST_FILE).is_file() for bundle in bundles)
        save_and_promote(home)
        assert promoted_version(models) == "second"
        assert not drafts(home)
    assert versions == sorted(versions) and {*versions} == {"first", "second"}


def test_while_a_training_set_is_written(homes: Path) -> None:
    complete = []
    for home in killed(homes, "rows"):
        try:
            complete.append(sum(batch.num_rows for batch in batches(home / "rows")))
        except DataError as error:
            assert "no Parquet file" in str(error) or "manifest.json is missing" in str(error)
            write_training_set(home)
            assert sum(batch.num_rows for batch in batches(home / "rows")) == 9
            assert not drafts(home)
    assert {*complete} == {9}


def test_while_the_history_is_simulated(homes: Path) -> None:
    *unfinished, whole = killed(homes, "history")
    events = pq.read_table(whole / "history" / "simulated.parquet")
    for home in unfinished:
        simulate(home)
        assert pq.read_table(home / "history" / "simulated.parquet").equals(events)
        assert not drafts(home)


def test_while_a_table_of_a_duckdb_file_is_replaced(homes: Path, tmp_path: Path) -> None:
    """By one with or without the events at the anchors, in turn."""
    whole = []
    for include_anchor in (True, False):
        replace_table(tmp_path, include_anchor=include_anchor)
        whole.append(rows(tmp_path))
    assert whole[0] != whole[1] and len(whole[0]) == 9
    for home in killed(homes, "table"):
        assert rows(home) in whole, "neither the old table nor the new one"
        replace_table(home)
        assert rows(home) == whole[0]


def rows(home: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(home / "rows.duckdb")) as connection:
        return connection.execute("SELECT * FROM rows ORDER BY ALL").fetchall()
