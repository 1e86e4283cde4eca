"""Training sets through the unmodified SDK, built from the sandbox's own events."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import pandas as pd
import pytest
import requests
from snowplow_signals import AtomicProperty, Criteria, Criterion, SignalsSandbox
from snowplow_signals.api_client import SignalsAPIError
from snowplow_signals.models import WarehouseTable
from snowplow_signals.models.model import TrainingSpan

from prospect_lib import signals
from prospect_lib.attributes import prospect_group
from prospect_lib.sandbox.simulation.traffic import send
from prospect_lib.settings import Settings

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
GOAL = Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%/thanks")])
SPAN = TrainingSpan(start_time=START - timedelta(days=1), end_time=START + timedelta(days=1))


@pytest.fixture(scope="module")
def client(running: Settings) -> SignalsSandbox:
    """A sandbox with three sessions of five pages, one of which ends with the goal."""
    events = []
    for visitor in ("u1", "u2", "u3"):
        for i in range(5):
            at = START + timedelta(minutes=i)
            page = "thanks" if (visitor, i) == ("u1", 4) else "pricing"
            events.append(
                {"e": "pv", "eid": str(uuid4()), "duid": visitor, "sid": f"s-{visitor}"}
                | {"url": f"https://s.example/{page}", "ttm": str(int(at.timestamp() * 1000))}
            )
    send(running.sandbox_url, events)
    found = signals.connect(running)
    assert isinstance(found, SignalsSandbox)
    return found


def finished(client: SignalsSandbox, run: UUID) -> str:
    deadline = time.monotonic() + 20
    while (status := client.get_dataset_run_status(run).status) == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(status)


def test_session_anchors_become_statements_that_run(client: SignalsSandbox, tmp_path: Path) -> None:
    built = client.build_dataset_with_session_anchors([prospect_group], GOAL, SPAN)
    built.save_to(tmp_path)
    assert len(built.files) == 3 and (tmp_path / "manifest.json").is_file()
    assert all(sql.startswith("CREATE OR REPLACE TABLE") for sql in built.files.values())


def test_a_run_with_session_anchors(client: SignalsSandbox) -> None:
    run = client.submit_dataset_run_with_session_anchors([prospect_group], GOAL, SPAN)
    assert finished(client, run.id) == "success"
    frame = client.get_dataset_run_preview(run.id).to_pandas()
    assert len(frame) == 3 + 8  # without each session's first event, and the goal itself
    views = frame.groupby("domain_userid")["num_page_views_l7d"].apply(list).to_dict()
    assert views == {"u1": [2, 3, 4], "u2": [2, 3, 4, 5], "u3": [2, 3, 4, 5]}
    assert dict(frame.groupby("domain_userid")["label"].all()) == {
        "u1": True,
        "u2": False,
        "u3": False,
    }


def test_samples_of_session_anchors_are_bounded(client: SignalsSandbox) -> None:
    run = client.submit_dataset_run_with_session_anchors(
        [prospect_group], GOAL, SPAN, max_anchors_per_session=2, max_negative_ratio=0.5
    )
    assert finished(client, run.id) == "success"
    labels = client.get_dataset_run_preview(run.id).to_pandas()["label"]
    assert (labels.sum(), (~labels.astype(bool)).sum()) == (2, 1)


def test_a_run_with_anchors_of_ones_own(client: SignalsSandbox, running: Settings) -> None:
    tables = running.home / "tables"
    tables.mkdir(exist_ok=True)
    moment = (START + timedelta(minutes=2)).replace(tzinfo=None)
    rows: dict[str, Any] = {"domain_userid": ["u2", "u2", "nobody"], "anchor_ts": [moment] * 3}
    pd.DataFrame({**rows, "label": [0, 1, 0]}).to_parquet(tables / "mine.parquet")
    mine, out = WarehouseTable(table="mine"), WarehouseTable(table="my_set")
    built = client.build_dataset_with_custom_anchors([prospect_group], mine)
    assert "mine" in built.files["mine_numbered.sql"]
    run = client.submit_dataset_run_with_custom_anchors([prospect_group], mine, dataset_table=out)
    assert finished(client, run.id) == "success"
    path = str(tables / "my_set.parquet")
    frame = duckdb.execute("SELECT * FROM read_parquet(?)", [path]).df()
    assert list(frame.columns) == [*rows, "label", *(a.name for a in prospect_group.attributes)]
    found = frame[["domain_userid", "label", "num_page_views_l7d"]].to_dict("list")
    assert found["domain_userid"] == ["nobody", "u2", "u2"] and sorted(found["label"]) == [0, 0, 1]
    assert found["num_page_views_l7d"][1:] == [3, 3]
    assert client.get_dataset_run_preview(run.id, limit=2).row_count == 2


def test_a_run_that_cannot_succeed_says_why_and_cancelling_it_is_harmless(
    client: SignalsSandbox,
) -> None:
    missing = WarehouseTable(table="never_written")
    run = client.submit_dataset_run_with_custom_anchors([prospect_group], missing)
    assert finished(client, run.id) == "failed"
    client.cancel_dataset_run(run.id)
    with pytest.raises(SignalsAPIError, match="409"):
        client.get_dataset_run_preview(run.id)
    with pytest.raises(SignalsAPIError, match="404"):
        client.get_dataset_run_status(uuid4())


def test_data_sets_need_the_token(running: Settings) -> None:
    answer = requests.post(f"{running.sandbox_url}/api/v1/datasets/sql", json={}, timeout=5)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [None, [], {}, {"anchors": {"mode": "session"}}, {"anchors": 1e400}]
)
def test_bad_requests_are_named(running: Settings, body: Any) -> None:
    bearer = {"Authorization": f"Bearer {signals.local_token(running)}"}
    for path in ("sql", "runs"):
        address = f"{running.sandbox_url}/api/v1/datasets/{path}"
        data = json.dumps(body)
        headers = {**bearer, "Content-Type": "application/json"}
        answer = requests.post(address, data=data, headers=headers, timeout=5)
        assert answer.status_code == 422 and answer.json()["detail"]
