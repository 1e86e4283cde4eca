"""The model: scores, explanations, bundles, refusals."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from prospect_lib.attributes import NEVER_LOWER, prospect_group, sample_group
from prospect_lib.errors import DataError, ModelError, ProspectError
from prospect_lib.features import FEATURES, from_attributes
from prospect_lib.model.calibration import Calibration
from prospect_lib.model.prospect_model import CALIBRATION, OTHERS, ProspectModel, top_reasons
from prospect_lib.model.rows import labels
from prospect_lib.model.training import Recipe
from tests.support.synthetic import FAST, training_table

AT = datetime(2026, 4, 14, 12, tzinfo=UTC)
RECIPE = Recipe(FAST, rounds=40)
NAMES = [feature.name for feature in FEATURES]
NOTHING = {attribute.name: None for attribute in prospect_group.attributes}
LITTLE = {**NOTHING, "num_page_views_l30d": 1}
ACTIVE = {
    **NOTHING,
    "latest_app_id": "website",
    "latest_device_class": "Phone",
    "num_sessions_l7d": ["a", "b"],
    "num_sessions_l30d": ["a", "b"],
    "num_page_views_l7d": 7,
    "num_page_views_l30d": 9,
    "num_pricing_views_l7d": 2,
    "num_pricing_views_l30d": 3,
    "first_mkt_medium_l30d": "email",
}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=600)


@pytest.fixture(scope="module")
def model(table) -> ProspectModel:
    return ProspectModel.fit(table, recipe=RECIPE)


def row_of(attributes) -> pa.Table:
    values = from_attributes(attributes, AT)
    return pa.Table.from_pylist([{feature.name: values[feature.name] for feature in FEATURES}])


@pytest.mark.parametrize("attributes", [LITTLE, ACTIVE])
def test_a_served_score_is_the_batch_prediction(model, attributes):
    score = model.score(attributes, AT)
    assert score.score == model.predict(row_of(attributes))[0]
    assert model.score(attributes, AT, explain=False).score == score.score


@pytest.mark.parametrize("nothing", [None, 0])
def test_the_score_of_a_visitor_of_whom_nothing_is_known_is_the_base_value(model, table, nothing):
    unknown = {a.name: nothing if a.type == "int64" else None for a in prospect_group.attributes}
    score = model.score({"domain_userid": "u"} | unknown, AT)
    assert score.explanations == {}
    assert score.base_value == pytest.approx(score.log_odds, abs=1e-9)
    assert score.base_value == model.score(ACTIVE, AT).base_value
    assert score.score == pytest.approx(labels(table).mean(), abs=0.02), "near the base rate"
    assert score.features == from_attributes(unknown, AT)
    assert model.score(unknown, AT, explain=False) == replace(score, base_value=None)


def test_a_model_that_has_learned_from_rows_without_values_scores_them_by_its_trees(table):
    nothing = pa.concat_tables([row_of(NOTHING)] * 200).cast(table.select(NAMES).schema)
    unknown = pa.table(
        {n: table[n][:200] if n not in NAMES else nothing[n] for n in table.column_names}
    )
    rows = pa.concat_tables([table, unknown]).combine_chunks()
    model = ProspectModel.fit(rows, recipe=RECIPE, calibrate=False)
    assert model.manifest["data"]["unknown"] == 200
    assert model.score(NOTHING, AT).score == model.predict(row_of(NOTHING))[0]
    assert model.score(NOTHING, AT).explanations


@pytest.mark.parametrize("attributes", [LITTLE, ACTIVE])
def test_explanations_add_up_to_the_log_odds_of_the_score(model, attributes):
    score = model.score(attributes, AT)
    assert log_odds_explained(score) == pytest.approx(score.log_odds, abs=1e-6)
    assert [*score.explanations][-1] == OTHERS
    assert len(score.explanations) == 6
    reasons = [abs(value) for name, value in score.explanations.items() if name != OTHERS]
    assert reasons == sorted(reasons, reverse=True)
    assert score.features == from_attributes(attributes, AT)


def test_explanations_of_a_table_add_up_and_find_the_planted_features(model, table):
    shares = model.contributions(table)
    np.testing.assert_allclose(shares.sum(axis=1), model.margins(table), atol=1e-4)
    strongest = np.argsort(-np.abs(shares[:, :-1]).mean(axis=0))[:3]
    names = {model.encoder.names[i] for i in strongest}
    assert {"num_pricing_views_l7d", "first_mkt_medium_l30d"} <= names


def test_top_reasons_keeps_the_largest_and_adds_up_the_others():
    assert top_reasons(["a", "b", "c"], [0.1, -2.0, 1.0], top=1) == {"b": -2.0, OTHERS: 1.1}


def test_the_same_data_gives_the_same_bytes_and_version(table, tmp_path):
    folders = [ProspectModel.fit(table, recipe=RECIPE).save(tmp_path / name) for name in "ab"]
    for name in ("model.ubj", "manifest.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_another_seed_or_other_data_gives_another_version(model, table):
    versions = {
        model.version,
        ProspectModel.fit(table, recipe=Recipe(FAST, rounds=40, seed=1)).version,
        ProspectModel.fit(table.slice(50), recipe=RECIPE).version,
    }
    assert len(versions) == 3


def test_a_loaded_bundle_is_the_saved_model(model, table, tmp_path):
    back = ProspectModel.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(back.predict(table), model.predict(table))
    assert (back.manifest, back.version) == (model.manifest, model.version)
    assert back.score(ACTIVE, AT) == model.score(ACTIVE, AT)
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == ["manifest.json", "model.ubj"]


def test_the_manifest_describes_the_model(model, table):
    manifest = model.manifest
    assert manifest["group"]["name"] == prospect_group.name
    assert manifest["label"] == {"event": "submit_form", "horizon_seconds": 3600}
    assert [f["name"] for f in manifest["features"]] == [f.name for f in FEATURES]
    assert manifest["data"]["rows"] == table.num_rows
    assert manifest["recipe"]["rounds"] == 40
    assert {"python", "numpy", "pyarrow"} < set(manifest["packages"])
    assert json.loads(json.dumps(manifest)) == manifest


def _feature(manifest, name):
    return next(f for f in manifest["features"] if f["name"] == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["features"].reverse(), "order of features differs"),
        (lambda m: _feature(m, "latest_device_class")["categories"].pop(), "categories differ"),
        (lambda m: _feature(m, "num_pricing_views_l7d").update(monotone=False), "monotone differ"),
        (lambda m: m["features"][2].update(name="num_moons"), "feature 'num_moons'"),
        (lambda m: m["features"][2].update(kind="flag"), "was a flag of"),
        (lambda m: m["group"].update(hash="0"), "group hash '0'"),
        (lambda m: m["group"].update(version=9), "group version 9"),
        (lambda m: m["group"].update(name="other"), "'other', which is not in the catalogue"),
        (lambda m: m.update(model_sha256="0"), "not the file"),
        (lambda m: m.update(format=99), "format 99, expected 2"),
        (lambda m: m["calibration"].update(method="magic"), "calibration: 'magic'"),
    ],
)
def test_a_bundle_with_contradictions_is_refused_and_the_difference_named(
    model, tmp_path, change, message
):
    path = model.save(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=message):
        ProspectModel.load(tmp_path)


def test_a_group_that_has_changed_since_is_refused(model, tmp_path):
    model.save(tmp_path)
    changed = prospect_group.model_copy(deep=True)
    changed.attributes[2].period *= 2
    with pytest.raises(ModelError, match="group hash"):
        ProspectModel.load(tmp_path, problem=changed)
    with pytest.raises(ModelError, match=f"'{sample_group.name}' is in use"):
        ProspectModel.load(tmp_path, problem=sample_group)


@pytest.mark.parametrize("name", ["model.ubj", "manifest.json"])
def test_a_missing_or_broken_file_is_named(model, tmp_path, name):
    model.save(tmp_path)
    (tmp_path / name).write_text("{broken")
    with pytest.raises(ModelError, match=r"cannot read a model|not the file"):
        ProspectModel.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name):
        ProspectModel.load(tmp_path)


@pytest.fixture(scope="module")
def contrary() -> pa.Table:
    """Rows in which visitors who look at prices convert less often."""
    return training_table(visitors=600, signal=-1.0, base=0.0)


def lowest_step(model, rows) -> float:
    """The largest fall of any row's score as its pricing views grow from none to many."""
    steps = []
    for name in ("num_pricing_views_l7d", "num_pricing_views_l30d"):
        place, size = rows.schema.get_field_index(name), rows.num_rows
        column = [pa.nulls(size, pa.int64()), *(pa.array([n] * size) for n in range(12))]
        scores = [model.predict(rows.set_column(place, name, values)) for values in column]
        steps.append(np.diff(scores, axis=0).min())
    return float(min(steps))


def test_more_pricing_views_never_lower_the_score_from_none_to_many(model, table, contrary):
    constrained = [c.name for c in model.encoder.columns if c.monotone]
    assert constrained == sorted(NEVER_LOWER, key=model.encoder.names.index)
    assert lowest_step(model, table.slice(0, 400)) >= 0
    sure = ProspectModel.fit(contrary, recipe=RECIPE, calibrate=False)
    assert lowest_step(sure, contrary.slice(0, 400)) >= 0


def test_without_the_constraint_the_score_falls(contrary):
    """The constraint above is needed: without it, a reversed signal is learned."""
    free = Recipe(FAST, rounds=40, never_lower=())
    model = ProspectModel.fit(contrary, recipe=free, calibrate=False)
    assert lowest_step(model, contrary.slice(0, 400)) < -0.1


def test_a_prospect_without_history_scores_near_the_base_rate_or_below(model, table):
    score = model.score(NOTHING, AT)
    rate = np.mean(table["label"].to_numpy(zero_copy_only=False))
    assert 0 < score.score <= 2 * rate
    assert log_odds_explained(score) == pytest.approx(score.log_odds, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(0, 0), "empty"),
        (lambda t: t.set_column(4, "latest_app_id", t["day_of_week"]), "latest_app_id is int64"),
        (lambda t: t.drop_columns(["num_apps_l7d"]), "lacks num_apps_l7d"),
    ],
)
def test_rows_that_cannot_train_a_model_are_refused_with_a_fix(table, change, message):
    with pytest.raises(DataError, match=message):
        ProspectModel.fit(change(table), recipe=RECIPE)


def test_an_unseen_category_scores_as_a_missing_one(model):
    odd = {**ACTIVE, "latest_device_class": "Holodeck", "first_mkt_medium_l30d": "telepathy"}
    gone = {**ACTIVE, "latest_device_class": None, "first_mkt_medium_l30d": None}
    assert model.score(odd, AT).score == model.score(gone, AT).score


def test_attributes_that_do_not_fit_are_named(model):
    with pytest.raises(DataError, match="num_apps_l7d"):
        model.score({k: v for k, v in ACTIVE.items() if k != "num_apps_l7d"}, AT)
    with pytest.raises(DataError, match="num_page_views_l7d='seven'"):
        model.score({**ACTIVE, "num_page_views_l7d": "seven"}, AT)


def calibrated(model, curve):
    manifest = {**model.manifest, "calibration": curve.to_json()}
    return ProspectModel(model.booster, manifest, model.features)


def log_odds_explained(score):
    return score.base_value + sum(score.explanations.values())


def test_a_line_in_log_odds_scales_explanations_and_moves_the_base_value(model):
    tuned = calibrated(model, Calibration("sigmoid", (2.0,), (-1.0,)))
    plain, score = model.score(ACTIVE, AT), tuned.score(ACTIVE, AT)
    assert score.explanations == pytest.approx({k: 2 * v for k, v in plain.explanations.items()})
    assert score.base_value == pytest.approx(2 * plain.base_value - 1)
    assert score.log_odds == pytest.approx(2 * plain.log_odds - 1)
    assert tuned.score({**ACTIVE, "num_page_views_l7d": 1}, AT).base_value == score.base_value


def test_another_curve_is_a_part_of_its_own(model):
    curve = Calibration("isotonic", (0.01, 0.2, 0.6), (0.002, 0.03, 0.9))
    plain, score = model.score(ACTIVE, AT), calibrated(model, curve).score(ACTIVE, AT)
    shift = score.explanations.pop(CALIBRATION)
    assert (score.explanations, score.base_value) == (plain.explanations, plain.base_value)
    assert shift == pytest.approx(score.log_odds - plain.log_odds)
    assert CALIBRATION not in plain.explanations


def curves(rng):
    """Return curves of each kind, some steep enough for scores of nearly 0 and 1."""
    x = np.sort(rng.random(rng.integers(1, 9)))
    y = np.sort(rng.random(len(x))) * 0.998 + 0.001
    slope, shift = rng.choice([0.1, 1.0, 6.0]), rng.normal(0, 3)
    return (
        Calibration(),
        Calibration("sigmoid", (float(slope),), (float(shift),)),
        Calibration("isotonic", tuple(x.tolist()), tuple(y.tolist())),
    )


@pytest.mark.parametrize("seed", range(4))
def test_explanations_and_base_value_are_the_log_odds_of_any_model_and_curve(seed):
    rng = np.random.default_rng(seed)
    deep = {**FAST, "max_depth": int(rng.integers(1, 8)), "eta": 0.3}
    rows = training_table(visitors=300, seed=seed, base=float(rng.choice([-3, 0, 2])))
    model = ProspectModel.fit(rows, recipe=Recipe(deep, rounds=20), calibrate=False)
    visits = [{**ACTIVE, "num_pricing_views_l7d": n, "num_page_views_l30d": m}
              for n, m in rng.integers(0, 9, (5, 2)).tolist()]  # fmt: skip
    for tuned in (calibrated(model, curve) for curve in curves(rng)):
        scores = [tuned.score(visit, AT) for visit in visits]
        for visit, score in zip(visits, scores, strict=True):
            assert log_odds_explained(score) == pytest.approx(
                np.log(score.score / (1 - score.score)), rel=1e-6, abs=1e-6
            )
            assert score.score == tuned.predict(row_of(visit))[0]
            assert tuned.score(visit, AT, explain=False) == replace(
                score, explanations={}, base_value=None
            )
        assert len({score.base_value for score in scores}) == 1


def test_a_model_without_a_constant_feature_is_saved_loaded_and_scores(table, tmp_path):
    place = table.schema.get_field_index("day_of_week")
    flat = table.set_column(place, "day_of_week", pa.array([1] * table.num_rows))
    ProspectModel.fit(flat, recipe=RECIPE, calibrate=False).save(tmp_path)
    model = ProspectModel.load(tmp_path)
    assert [f.name for f in FEATURES if f not in model.features] == ["day_of_week"]
    assert "same in all 4,800 rows: day_of_week." in model.manifest["notes"][0]
    assert model.score(ACTIVE, AT).score == model.predict(row_of(ACTIVE))[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _m, _t: ProspectModel.fit(None), "the training set is a NoneType, expected an Arr"),
        (lambda _, t: ProspectModel.fit(t, recipe={}), "recipe is a dict, expected a Recipe"),
        (lambda _m, _t: ProspectModel.load(123), "path is an int, expected the path"),
        (lambda m, _: m.save(None), "path is a NoneType, expected the path"),
        (lambda m, t: m.predict(t.to_pandas()), "the training set is a DataFrame, expected an"),
        (lambda m, t: m.predict(t.select(["label"])), "the rows lack latest_app_id"),
        (lambda m, _: m.score([1], AT), "attributes is a list, expected a dict of values"),
        (lambda m, _: m.score(ACTIVE, "2026-03-01"), "at is a str, expected an aware datetime"),
    ],
)
def test_arguments_of_another_type_are_refused_in_one_line(model, table, call, message):
    with pytest.raises(ProspectError, match=message) as refusal:
        call(model, table)
    assert "\n" not in str(refusal.value)


def test_served_scores_from_several_threads_equal_the_batch_path(model):
    """The same numbers to the last bit: no thread sees another thread's row."""
    visits = [
        {**ACTIVE, "num_page_views_l7d": n, "num_pricing_views_l7d": n % 7} for n in range(80)
    ]
    rows = pa.concat_tables([row_of(visit) for visit in visits])
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda visit: model.score(visit, AT), visits))
        plain = list(pool.map(lambda visit: model.score(visit, AT, explain=False), visits))
    expected = model.predict(rows).tolist()
    assert [score.score for score in scores] == expected
    assert [score.score for score in plain] == expected
    for score, row in zip(scores, model.contributions(rows), strict=True):
        reasons = top_reasons(model.encoder.names, row[:-1].tolist())
        assert score.explanations == {**reasons, OTHERS: pytest.approx(reasons[OTHERS], abs=1e-4)}
        assert score.base_value == row[-1]
