"""The log of served scores as a table: times in UTC, any folder name, comparable values."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prospect_lib.aggregation.keys import session_of
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.features import FEATURES
from prospect_lib.monitoring.served_scores import (
    anchors_of,
    read_served,
    read_served_features,
    unreadable_lines,
)
from tests.support.served_world import record, write

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VALUES = dict.fromkeys(a.name for a in prospect_group.attributes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "O'Hara's \"served\""
    folder.mkdir()
    return folder


def test_scores_are_read_in_the_order_of_their_times_in_utc(folder: Path) -> None:
    later = record("later", VALUES, AT, prospect_group)
    earlier = record("earlier", VALUES, AT, prospect_group)
    earlier["scored_at"] = "2026-03-01T13:30:00.000001+02:00"
    write(folder, [later, earlier])
    rows = read_served(folder, prospect_group).to_pylist()
    assert [row["domain_userid"] for row in rows] == ["earlier", "later"]
    assert rows[0]["anchor_ts"] == datetime(2026, 3, 1, 11, 30, 0, 1)
    assert [row["served_row"] for row in rows] == [0, 1]


def test_the_window_includes_its_start_and_excludes_its_end(folder: Path) -> None:
    times = [AT + timedelta(minutes=minute) for minute in range(4)]
    write(folder, [record("u", VALUES, at, prospect_group) for at in times])
    served = read_served(folder, prospect_group, since=times[1], until=times[3])
    assert [at.replace(tzinfo=UTC) for at in served["anchor_ts"].to_pylist()] == times[1:3]


def test_attributes_that_were_not_served_are_named(folder: Path) -> None:
    served = {name: value for name, value in VALUES.items() if name != "num_apps_l30d"}
    write(folder, [record("u", served, AT, prospect_group)])
    (row,) = read_served(folder, prospect_group).to_pylist()
    assert row["not_served"] == ["num_apps_l30d"] and row["num_apps_l30d"] is None


def test_a_decision_has_its_holdout_and_the_newest_session(folder: Path) -> None:
    lists = (["s1", "s2"], ["s3"], [None], [], None)
    records = [
        record("u", VALUES | {"num_sessions_l7d": sessions}, AT, prospect_group, act=False,
               held_out=True, holdout_share=0.1)
        for sessions in lists
    ]  # fmt: skip
    records += [record("u", VALUES, AT + timedelta(1), prospect_group)]  # of an earlier release
    write(folder, records)
    rows = read_served(folder, prospect_group).to_pylist()
    expected = [session_of(prospect_group, "u", each["signals"]) for each in records]
    assert [row["served_session"] for row in rows] == expected == ["s2", "s3", "", "", "", ""]
    decisions = [(row["act"], row["held_out"], row["holdout_share"]) for row in rows]
    assert decisions == [(False, True, 0.1)] * 5 + [(True, False, 0.0)]


def test_features_have_the_types_that_the_model_was_given(folder: Path) -> None:
    line = record("u", VALUES, AT, prospect_group)
    line["scoring_attributes"] = {
        "num_page_views_l7d": 3,
        "had_conversions_l7d": True,
        "latest_device_class": "Phone",
    }
    (folder / "2026-03-01.ndjson").write_text(json.dumps(line) + "\n")
    (row,) = read_served_features(folder, FEATURES).to_pylist()
    assert (row["num_page_views_l7d"], row["had_conversions_l7d"]) == (3.0, True)
    assert row["latest_device_class"] == "Phone" and row["num_apps_l7d"] is None


def test_a_folder_without_a_log_is_one_message(folder: Path) -> None:
    with pytest.raises(DataError, match="no served scores in"):
        read_served_features(folder, FEATURES)


def test_each_row_gets_an_anchor(folder: Path) -> None:
    write(folder, [record("u", VALUES, AT, prospect_group)])
    anchors = anchors_of(read_served(folder, prospect_group), "domain_userid")
    at = AT.replace(tzinfo=None)
    assert anchors.to_pylist() == [
        {"domain_userid": "u", "anchor_ts": at, "audit_row": 0, "audit_case": 0}
    ]


def test_damaged_lines_are_counted_and_left_out(folder: Path) -> None:
    write(folder, [record("earlier", VALUES, AT, prospect_group)])
    before = read_served(folder, prospect_group)
    assert unreadable_lines(folder) == 0
    log = sorted(folder.glob("*.ndjson"))[0]
    good = log.read_bytes()
    score = json.loads(good.splitlines()[0])
    other = json.dumps(score | {"signals": "text"}).encode()
    lines = [good.splitlines()[0][:50], b"\xff\xfe", b"null", b"[]", b"{}", b"5", b"", other]
    log.write_bytes(good + b"\n".join([*lines, b""]))
    assert unreadable_lines(folder) == 7
    assert read_served(folder, prospect_group).equals(before)
    for path in folder.glob("*.ndjson"):
        path.write_bytes(b"{}\n")
    with pytest.raises(DataError, match="of its lines cannot be read"):
        read_served(folder, prospect_group)
