"""Champion and challenger: promotion, comparison, reports."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError
from prospect_lib.evaluation.comparison import compare, unseen_rows
from prospect_lib.evaluation.evaluate import evaluate_model
from prospect_lib.evaluation.metrics import Interval
from prospect_lib.jobs import retrain
from prospect_lib.jobs.retrain import (
    EXIT_KEPT,
    EXIT_PROMOTED,
    EXIT_WORSE,
    promotion_decision,
    train,
    train_and_promote,
)
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import HELD_OUT, HORIZON, honest_split, visitor_fractions
from prospect_lib.model.store import promoted_version
from prospect_lib.model.training import Recipe
from prospect_lib.problem import prospect_problem
from tests.support.synthetic import FAST, START, training_table

pytestmark = pytest.mark.usefixtures("blank_pictures")
QUICK = {"recipe": Recipe(FAST, rounds=30), "calibrate": False, "resamples": 30}
POOR = {**QUICK, "recipe": Recipe(rounds=2)}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=1500, views=6)


@pytest.fixture(scope="module")
def last_week(table) -> pa.Table:
    return before(table, START + timedelta(days=28))


def before(table: pa.Table, time) -> pa.Table:
    return table.filter(pc.less(table["anchor_ts"], pa.scalar(time)))


def files(models: Path) -> dict[str, bytes]:
    return {str(p.relative_to(models)): p.read_bytes() for p in models.rglob("*") if p.is_file()}


def test_the_first_model_is_promoted_with_bundle_and_report(table, tmp_path):
    result = train_and_promote(table, tmp_path, **QUICK)
    assert (result.exit_code, result.promoted) == (EXIT_PROMOTED, True)
    assert "no model was promoted before" in result.reason
    assert promoted_version(tmp_path) == result.version == result.folder.name
    names = sorted(p.name for p in result.folder.iterdir())
    assert names == ["judged", "manifest.json", "model.ubj", "report.html"]
    loaded = ProspectModel.load(result.folder)
    assert loaded.threshold == pytest.approx(1 / 3)
    assert loaded.manifest["threshold"]["recall"] > 0
    assert loaded.manifest["metrics"]["model"]["roc_auc"]["value"] == result.evaluation.auc


def test_the_report_needs_no_network(table, tmp_path):
    page = (train_and_promote(table, tmp_path, **QUICK).folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page
    assert "that the model has not seen" in page.replace("\n", " ")


def test_running_the_job_twice_changes_nothing(table, tmp_path):
    train_and_promote(table, tmp_path, **QUICK)
    before = files(tmp_path)
    again = train_and_promote(table, tmp_path, **QUICK)
    assert (again.exit_code, again.promoted) == (EXIT_PROMOTED, True)
    assert "already" in again.reason
    assert files(tmp_path) == before


def test_what_is_promoted_is_fitted_on_all_rows_after_it_was_judged(table, tmp_path):
    result = train_and_promote(table, tmp_path, **{**QUICK, "calibrate": True})
    served, judged = (
        ProspectModel.load(folder) for folder in (result.folder, result.folder / "judged")
    )
    assert served.manifest["data"]["rows"] == table.num_rows > judged.manifest["data"]["rows"]
    assert judged.manifest["data"]["rows"] == result.evaluation.about["train_rows"]
    assert served.manifest["judged"] == {
        "version": judged.version,
        "data": judged.manifest["data"],
    }
    for name in ("recipe", "calibration", "metrics", "threshold", "notes", "label", "training_set"):
        assert served.manifest[name] == judged.manifest[name]
    assert [c.name for c in served.encoder.columns] == [c.name for c in judged.encoder.columns]
    test = honest_split(table).test
    assert evaluate_model(judged, honest_split(table), resamples=5).auc == result.evaluation.auc
    assert not np.array_equal(served.predict(test), judged.predict(test))


def test_the_fits_that_are_compared_have_not_seen_the_rows(table, last_week, tmp_path, monkeypatch):
    train_and_promote(last_week, tmp_path, **POOR)
    compared = []

    def remember(*models_and_rows):
        compared.append(models_and_rows)
        return compare(*models_and_rows)

    monkeypatch.setattr(retrain, "compare", remember)
    train_and_promote(table, tmp_path, **QUICK)
    ((champion, challenger, rows, horizon),) = compared
    test = unseen_rows([champion, challenger], rows, horizon).test
    since = pc.min(test["anchor_ts"]).as_py()
    for model, known in ((champion, last_week), (challenger, table)):
        assert datetime.fromisoformat(model.manifest["data"]["until"]) < since - HORIZON
        trained = honest_split(known).train
        assert model.manifest["data"]["rows"] == trained.num_rows
        assert not set(trained["domain_userid"].to_pylist()) & set(
            test["domain_userid"].to_pylist()
        )
    assert test.num_rows > 0.8 * honest_split(table).test.num_rows  # not only the last days


def test_a_better_challenger_replaces_the_champion(table, last_week, tmp_path):
    champion = train_and_promote(last_week, tmp_path, **POOR)
    result = train_and_promote(table, tmp_path, **QUICK)
    assert result.exit_code == EXIT_PROMOTED
    assert result.differences["log_loss"].high < 0
    assert promoted_version(tmp_path) == result.version != champion.version
    page = (result.folder / "comparison.html").read_text()
    assert champion.version in page
    assert "better than the champion beyond noise" in page
    assert "Each run of the job is one look" in page and "promoted in 2.5% of the runs" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    for role in (champion, result):
        assert role.evaluation.about["train_rows"] > 0
        assert f"{role.evaluation.about['train_rows']:,}" in page  # what each was trained on


def test_a_worse_challenger_is_not_promoted(table, last_week, tmp_path):
    champion = train_and_promote(last_week, tmp_path, **QUICK)
    result = train_and_promote(table, tmp_path, **POOR)
    assert (result.exit_code, result.promoted) == (EXIT_WORSE, False)
    assert promoted_version(tmp_path) == champion.version
    assert (result.folder / "comparison.html").exists()


def test_a_challenger_within_noise_leaves_the_champion(table, last_week, tmp_path):
    champion = train_and_promote(last_week, tmp_path, **QUICK)
    result = train_and_promote(
        table, tmp_path, **{**QUICK, "recipe": Recipe(FAST, rounds=30, seed=1)}
    )
    assert result.exit_code == EXIT_KEPT
    assert promoted_version(tmp_path) == champion.version


def test_promotion_can_be_forced_and_forbidden(table, last_week, tmp_path):
    train_and_promote(last_week, tmp_path, **QUICK)
    forced = train_and_promote(table, tmp_path, promote="always", **POOR)
    assert (forced.exit_code, promoted_version(tmp_path)) == (EXIT_PROMOTED, forced.version)
    assert "as requested" in forced.reason
    kept = train_and_promote(last_week, tmp_path / "other", promote="never", **QUICK)
    assert kept.exit_code == EXIT_KEPT
    assert promoted_version(tmp_path / "other") is None


def test_a_model_no_better_than_the_base_rate_is_never_promoted(tmp_path):
    nothing = training_table(visitors=600, signal=0.0, base=-1.5)
    result = train_and_promote(nothing, tmp_path, **QUICK)
    assert result.exit_code == EXIT_WORSE
    assert "base rate" in result.reason
    assert promoted_version(tmp_path) is None


def test_a_champion_that_cannot_be_loaded_is_replaced(table, tmp_path):
    first = train_and_promote(table, tmp_path, **POOR)
    (first.folder / "manifest.json").write_text("{}")
    result = train_and_promote(table, tmp_path, **QUICK)
    assert result.exit_code == EXIT_PROMOTED
    assert "cannot be used any more" in result.reason


def test_a_champion_of_another_goal_or_horizon_is_replaced(table, tmp_path):
    day = prospect_problem.with_anchors(Anchors(horizon=timedelta(days=1)))
    first = train_and_promote(table, tmp_path, **POOR)
    result = train_and_promote(table, str(tmp_path), problem=day, **QUICK)
    assert first.promoted and result.exit_code == EXIT_PROMOTED
    assert result.reason == "the champion predicts another goal, or another horizon"


def test_models_are_only_compared_on_rows_that_neither_has_seen(table):
    model = train(table, **QUICK).judged
    newer = ProspectModel(model.booster, model.manifest, model.features)
    newer.manifest["data"] = {**model.manifest["data"], "until": "2099-01-01T00:00:00+00:00"}
    with pytest.raises(DataError, match="test side is empty"):
        compare(newer, model, table)
    assert compare(model, model, table).differences["log_loss"] == Interval(0, 0, 0)


def test_a_visitor_that_the_champion_may_have_seen_before_the_window_is_not_new(table):
    """When the window moves on, the champion's oldest visitors are no longer in the table."""
    model = train(table, **QUICK).judged
    older = ProspectModel(model.booster, model.manifest, model.features)
    older.manifest["data"] = {**model.manifest["data"], "early": "2020-01-01T00:00:00+00:00"}
    everyone, held_out = compare(model, model, table).about, compare(older, model, table).about
    assert 0 < held_out["visitors"] < everyone["visitors"]
    times = table["anchor_ts"].to_pylist()
    times[0] = datetime(2019, 1, 19, tzinfo=UTC)  # a wrong clock, before the champion's rows
    early = table.set_column(1, "anchor_ts", pa.array(times, pa.timestamp("us", "UTC")))
    assert compare(older, model, early).about["visitors"] <= held_out["visitors"]
    assert compare(model, model, early).about["visitors"] >= everyone["visitors"] - 1
    left = unseen_rows([older, model], table, HORIZON).test["domain_userid"]
    assert (visitor_fractions(left) < HELD_OUT).all()
    nobody = table.filter(pa.array(visitor_fractions(table["domain_userid"]) >= HELD_OUT))
    with pytest.raises(DataError, match="neither model has seen"):
        compare(older, model, nobody)


@pytest.mark.parametrize(
    ("interval", "code"),
    [
        ((-0.2, -0.3, -0.1), EXIT_PROMOTED),
        ((0.0, -0.1, 0.1), EXIT_KEPT),
        ((0.2, 0.1, 0.3), EXIT_WORSE),
    ],
)
def test_the_interval_of_the_log_loss_decides(interval, code):
    assert promotion_decision(Interval(*interval))[0] == code


def test_a_search_sets_the_number_of_rounds(table):
    candidate = train(table.slice(0, 3000), tries=2, calibrate=False, resamples=10)
    assert candidate.model.manifest["recipe"]["rounds"] >= 1
