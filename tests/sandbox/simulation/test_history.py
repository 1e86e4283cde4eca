"""The history: complete or absent, whatever interrupts its writing."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError
from prospect_lib.files import draft_of
from prospect_lib.sandbox.simulation import history

ARGUMENTS: dict[str, Any] = {
    "visitors": 30, "days": 6, "end": datetime(2026, 1, 5, tzinfo=UTC), "seed": 1,
}  # fmt: skip
FILES = ("history", "truth")


def tables(home: Path) -> list[pa.Table]:
    return [pq.read_table(home / folder / history.FILE_NAME) for folder in FILES]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    history.write(tmp_path, **ARGUMENTS)
    return tmp_path


@pytest.mark.parametrize("text", ["{", "", "[]", "null", "\udcff"])
def test_a_broken_manifest_is_written_again(home: Path, text: str) -> None:
    before = tables(home)
    (home / "history" / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    written = history.write(home, **ARGUMENTS)
    assert written["events"] == before[0].num_rows
    assert tables(home) == before


@pytest.mark.parametrize("folder", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 2000)])
def test_a_missing_or_damaged_file_is_written_again(
    home: Path, folder: str, damage: Callable[[Path], None]
) -> None:
    before = tables(home)
    damage(home / folder / history.FILE_NAME)
    history.write(home, **ARGUMENTS)
    assert tables(home) == before


@pytest.mark.parametrize("written", [0, 1, 2])
def test_after_an_interruption_no_manifest_accepts_files_of_two_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    before, files = tables(home), list[Path]()

    @contextmanager
    def interrupted(path: Path) -> Iterator[Path]:
        with draft_of(path) as draft:
            yield draft
            if len(files) == written:
                raise KeyboardInterrupt
        files.append(path)
        if len(files) == written == len(FILES):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, "draft_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            history.write(home, **{**ARGUMENTS, "seed": 2})
    assert len(files) == written
    assert not list(home.rglob("*.draft"))
    history.write(home, **ARGUMENTS)
    assert tables(home) == before


def test_truth_belongs_to_the_events_and_row_groups_stay_small(home: Path) -> None:
    events, truth = tables(home)
    times = set(
        zip(events["domain_userid"].to_pylist(), events["derived_tstamp"].to_pylist(), strict=True)
    )
    anchors = list(
        zip(truth["domain_userid"].to_pylist(), truth["anchor_ts"].to_pylist(), strict=True)
    )
    assert anchors and set(anchors) <= times
    metadata = pq.ParquetFile(home / "history" / history.FILE_NAME).metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert max(sizes) <= history.ROW_GROUP
    assert not list(home.rglob("*.draft"))


def test_parts_are_written_in_the_order_of_visitors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "CHUNK", 7)
    written = history.write(tmp_path, **ARGUMENTS)
    events, truth = tables(tmp_path)
    visitors = events["domain_userid"].to_pylist()
    assert visitors == sorted(visitors) and len(set(visitors)) > 20
    assert truth["domain_userid"].to_pylist() == sorted(truth["domain_userid"].to_pylist())
    assert written["events"] == len(visitors)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"visitors": 0}, "visitors=0.*1 or more"),
        ({"days": 0}, "days=0.*1 or more"),
        ({"end": datetime(2026, 1, 5)}, "no time zone"),
    ],
)
def test_arguments_that_cannot_be_simulated_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        history.write(tmp_path, **{**ARGUMENTS, **changed})
    assert not list(tmp_path.rglob("*.parquet"))
