"""The audit job on the sandbox: a correct service, planted faults, exit codes, the page."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from prospect_lib import cli as command_line
from prospect_lib import sandbox
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ModelError
from prospect_lib.jobs import audit as auditing
from prospect_lib.jobs import retrain
from prospect_lib.jobs.audit import AuditOptions, run_audit
from prospect_lib.jobs.demo import Demo
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_path
from prospect_lib.monitoring.audit import (
    EXIT_ATTENTION,
    EXIT_CLEAN,
    EXIT_WRONG,
    changed_attributes,
)
from prospect_lib.monitoring.backfill import measure_backfill
from prospect_lib.monitoring.causes import FRESHNESS, LATE, UNEXPLAINED
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.settings import Settings
from prospect_lib.teaching.visitor import scripted_visit
from prospect_lib.warehouse import DuckDBWarehouse
from tests.conftest import free_port
from tests.support.served_world import END, World, record

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A sandbox with a model, and scores served by the real server to two visitors."""
    settings = Settings(
        home=tmp_path_factory.mktemp("audit"), sandbox_port=free_port(), predict_port=free_port()
    )
    demo = Demo(settings, visitors=1000, say=lambda _: None)
    demo.prepare()
    with demo.serving() as server:
        for _ in range(2):
            scripted_visit(settings, server, str(uuid4()))
    yield settings
    sandbox.stop(settings)


def test_what_the_real_server_served_is_what_training_sees(settings: Settings):
    lines: list[str] = []
    result = run_audit(settings, AuditOptions(), say=lines.append)
    assert result.audit.scores > 10
    causes = {cause for cause, count in result.audit.causes.items() if count}
    assert causes <= {FRESHNESS, LATE}, "the script sends events after they happened"
    assert result.audit.exit_code in (EXIT_CLEAN, EXIT_ATTENTION)
    assert result.outcomes is None, "the hour has not passed"
    assert result.backfill is not None and result.backfill.with_history == 0
    assert result.drift is None
    assert any(line.startswith("Drift: too few to say: 2 visitors") for line in lines)
    assert json.loads(lines[-1])["scores"] == result.audit.scores
    page = result.page.read_text(encoding="utf-8")
    assert "Served values and the warehouse" in page and "Visitor drift" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "it opens offline"


def test_wrong_values_end_with_their_exit_code(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    for name, value in (
        ("PROSPECT_HOME", settings.home),
        ("PROSPECT_PORT", settings.sandbox_port),
        ("PREDICT_PORT", settings.predict_port),
    ):
        monkeypatch.setenv(name, str(value))
    values = dict.fromkeys((a.name for a in prospect_group.attributes), 7)
    at = datetime(2020, 1, 1, tzinfo=UTC)
    log = settings.home / "served" / "2020-01-01.ndjson"
    log.write_text(json.dumps(record("nobody", values, at, prospect_group)) + "\n")
    try:
        window = ["--until", "2020-01-02", "--out", str(tmp_path)]
        assert command_line.main(["audit", *window]) == EXIT_WRONG
    finally:
        log.unlink()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["kinds"] == {UNEXPLAINED: 1} and last["mismatches"] > 9
    assert "nobody" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert command_line.main(["audit", "--since", "2031-01-01"]) == DataError.exit_code
    message = capsys.readouterr().err
    assert "since 2031-01-01 00:00:00+00:00: widen the window" in message and "None" not in message


def test_without_the_events_of_the_training_the_drift_report_is_left_out(
    settings: Settings, tmp_path: Path
):
    """The file is of other visitors than those that the model was trained on."""
    events = tmp_path / "other.parquet"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    pq.write_table(simulate(60, 10, end=tomorrow).events, events)
    options = AuditOptions(data=events, out=tmp_path)
    lines: list[str] = []
    result = run_audit(settings, options, say=lines.append)
    assert result.drift is None and result.exit_code == EXIT_WRONG, "the visitors are not in it"
    (note,) = [line for line in lines if line.startswith("Drift: ")]
    assert "was trained on other events than these" in note


def test_scores_that_the_events_do_not_reach_are_not_checked(settings: Settings, tmp_path: Path):
    """A file that ends before the scores does not make every value wrong."""
    events = tmp_path / "old.parquet"
    pq.write_table(simulate(60, 10, end=END).events, events)
    with pytest.raises(DataError, match="more than an hour before every score: nothing can be"):
        run_audit(settings, AuditOptions(data=events, out=tmp_path), say=lambda _: None)


def test_a_folder_of_models_that_is_named_has_to_have_a_promoted_one(
    settings: Settings, tmp_path: Path
):
    with pytest.raises(ModelError, match="no model is promoted in"):
        run_audit(settings, AuditOptions(models=tmp_path, out=tmp_path), say=lambda _: None)
    assert not [*tmp_path.iterdir()]


def test_the_published_group_is_read_from_signals(settings: Settings):
    published = auditing._published(settings, prospect_group)
    assert published is not None
    assert changed_attributes(prospect_group, published) == []


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Settings]:
    """Scores of some days ago, by a Signals that counted only from four days before the end."""
    since = END - timedelta(days=4)
    home = tmp_path_factory.mktemp("past")
    world = World(
        home / "served",
        visitors=400,
        seen=lambda events, _at: [
            e for e in events if e["derived_tstamp"].replace(tzinfo=UTC) >= since
        ],
    )
    world.serve()
    return world, Settings(home=home)


def test_a_backfill_report_measures_what_the_history_would_change(past, settings: Settings):
    world, _ = past
    since, served = END - timedelta(days=4), read_served(world.folder, prospect_group)
    models = settings.home / "models"
    model = ProspectModel.load(promoted_path(models))
    warehouse = world.warehouse()
    report = measure_backfill(warehouse, served, since, model=model)
    earlier = {
        e["domain_userid"] for e in world.events if e["derived_tstamp"].replace(tzinfo=UTC) < since
    }
    assert report.with_history == len(earlier & set(served["domain_userid"].to_pylist())) > 0
    assert report.change is not None and 0 <= report.change < 1
    assert "publish the group with backfill_since_tstamp" in report.summary()
    none = measure_backfill(warehouse, served, END - timedelta(days=400))
    assert none.with_history == 0 and none.summary().startswith("None of")
    warehouse.close()


def test_training_on_served_moments_takes_exactly_those_moments(past, monkeypatch):
    world, past_settings = past
    monkeypatch.setattr(DuckDBWarehouse, "over_home", lambda _home: world.warehouse())
    lines: list[str] = []
    rows = retrain.Job(backend="sandbox", served=True).training_set(past_settings, lines.append)
    assert any("positive labels (100%) are of visits that were acted on" in line for line in lines)
    served = read_served(world.folder, prospect_group)
    served_moments, trained = (
        {(visitor, at.replace(tzinfo=None)) for visitor, at in zip(names, moments, strict=True)}
        for names, moments in (
            [table["domain_userid"].to_pylist(), table["anchor_ts"].to_pylist()]
            for table in (served, rows.table)
        )
    )
    table = rows.table
    assert trained <= served_moments and 0 < len(trained) == table.num_rows
    assert 0 < sum(table["label"].to_pylist()) < table.num_rows
    assert isinstance(world.warehouse(), DuckDBWarehouse)
