"""The written past: whole or absent, whatever interrupts it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError
from prospect_lib.sandbox.simulation import history

ARGUMENTS: dict[str, Any] = {
    "visitors": 30, "days": 6, "end": datetime(2026, 1, 5, tzinfo=UTC), "seed": 1,
}  # fmt: skip
FILES = ("history", "truth")


def tables(home: Path) -> list[pa.Table]:
    return [pq.read_table(home / folder / history.NAME) for folder in FILES]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    history.write(tmp_path, **ARGUMENTS)
    return tmp_path


@pytest.mark.parametrize("text", ["{", "", "[]", "null", "\udcff"])
def test_a_broken_manifest_is_written_anew(home: Path, text: str) -> None:
    before = tables(home)
    (home / "history" / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    written = history.write(home, **ARGUMENTS)
    assert written["events"] == before[0].num_rows
    assert tables(home) == before


@pytest.mark.parametrize("folder", FILES)
def test_a_missing_file_is_written_anew(home: Path, folder: str) -> None:
    before = tables(home)
    (home / folder / history.NAME).unlink()
    history.write(home, **ARGUMENTS)
    assert tables(home) == before


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_after_an_interruption_no_manifest_vouches_for_a_mixture(
    home: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    before, real, calls = tables(home), history._replace, iter(range(9))

    def interrupted(draft: Path, path: Path) -> None:
        if next(calls) >= survivors:
            raise KeyboardInterrupt
        real(draft, path)
        if survivors == 2 and path.parent.name == "truth":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, "_replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            history.write(home, **{**ARGUMENTS, "seed": 2})
    history.write(home, **ARGUMENTS)
    assert tables(home) == before


def test_truth_belongs_to_the_events_and_row_groups_stay_small(home: Path) -> None:
    events, truth = tables(home)
    moments = set(
        zip(events["domain_userid"].to_pylist(), events["derived_tstamp"].to_pylist(), strict=True)
    )
    known = list(
        zip(truth["domain_userid"].to_pylist(), truth["anchor_ts"].to_pylist(), strict=True)
    )
    assert known and set(known) <= moments
    metadata = pq.ParquetFile(home / "history" / history.NAME).metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert max(sizes) <= history.ROW_GROUP
    assert not list(home.rglob("*.draft"))


def test_parts_are_written_one_after_the_other_in_the_order_of_visitors(
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
    ("changed", "said"),
    [
        ({"visitors": 0}, "visitors=0.*1 or more"),
        ({"days": 0}, "days=0.*1 or more"),
        ({"end": datetime(2026, 1, 5)}, "no time zone"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        history.write(tmp_path, **{**ARGUMENTS, **changed})
    assert not list(tmp_path.rglob("*.parquet"))
