"""A replayed log looks like the server's, and the audit finds no mismatch in it."""

import json
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from prospect_lib.monitoring.audit import audit
from prospect_lib.monitoring.causes import EVENT_TYPE
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.server.schemas import PredictResponse
from prospect_lib.teaching.replay import replay
from tests.support.served_world import END, World
from tests.support.synthetic import FAST, training_table


@pytest.fixture(scope="module")
def model() -> ProspectModel:
    return ProspectModel.fit(training_table(visitors=150), recipe=Recipe(rounds=5, params=FAST))


def test_a_replayed_log_is_like_the_servers_and_passes_the_audit(
    tmp_path: Path, model: ProspectModel
):
    warehouse = World(tmp_path, visitors=80).warehouse()
    since = END - timedelta(days=3)
    count = replay(warehouse, model, tmp_path / "served", since)
    days = sorted((tmp_path / "served").iterdir())
    lines = [json.loads(line) for day in days for line in day.read_text().splitlines()]
    assert len(lines) == count > 20
    keys = {"domain_userid", "group", "group_hash", *PredictResponse.model_fields}
    assert all(
        line.keys() == keys and line["scored_at"] >= since.isoformat()[:19] for line in lines
    )
    served = read_served(tmp_path / "served", prospect_group)
    assert audit(warehouse, served).exit_code == 0
    assert served["anchor_ts"][0].as_py().replace(tzinfo=UTC) >= since
    replay(
        warehouse, model, tmp_path / "broken", since,
        received=lambda event: event["event_name"] != "page_ping",
    )  # fmt: skip
    report = audit(warehouse, read_served(tmp_path / "broken", prospect_group))
    assert report.causes[EVENT_TYPE] and "page_ping" in report.findings[0]
    warehouse.close()
