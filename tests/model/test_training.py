"""Training on tables, Parquet files and streams."""

import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError, TooFewError
from prospect_lib.features import FEATURES
from prospect_lib.model import training
from prospect_lib.model.calibration import row_loss
from prospect_lib.model.dataset import MAX_CATEGORIES, TimeSample, summarize
from prospect_lib.model.encoding import Encoder
from prospect_lib.model.rows import labels, row_weights, times_of
from prospect_lib.model.training import (
    FALLBACK_ROUNDS,
    Recipe,
    best_rounds,
    choose_calibration,
    out_of_fold,
    quantile_matrix,
    train_booster,
)
from tests.support.synthetic import FAST, START, training_table

TWENTY = Recipe(FAST, rounds=20)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return training_table(visitors=600)


@pytest.fixture(scope="module")
def encoder(table) -> Encoder:
    return Encoder.fit(summarize(table, FEATURES).categories, FEATURES)


def trained(source, encoder, **options) -> bytes:
    matrix = quantile_matrix(source, encoder, **options)
    return bytes(train_booster(matrix, encoder, TWENTY, 20).save_raw("ubj"))


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_a_summary_counts_rows_positives_visitors_and_categories(table):
    summary = summarize(table, FEATURES)
    assert (summary.rows, summary.visitors) == (table.num_rows, 600)
    assert summary.positives == pc.sum(table["label"]).as_py()
    assert START <= summary.since < summary.until <= START + timedelta(days=40)
    assert summary.categories["first_mkt_medium_l30d"] == {"cpc", "email"}
    assert summary.features == FEATURES
    assert summary.notes() == []


def test_table_parquet_and_stream_give_the_same_bytes(table, encoder, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet")

    def stream():
        return iter(table.to_batches())

    expected = trained(table, encoder)
    assert trained(tmp_path, encoder) == expected
    assert trained(stream, encoder) == expected


def test_external_memory_trains_the_same_model_within_noise(table, encoder, tmp_path):
    def stream():
        return iter(table.to_batches(max_chunksize=1000))

    matrix = quantile_matrix(stream, encoder, cache=tmp_path / "cache")
    assert list(tmp_path.iterdir())  # the matrix is on disk
    outside = train_booster(matrix, encoder, TWENTY, 20)
    inside = train_booster(quantile_matrix(stream, encoder), encoder, TWENTY, 20)
    rows = encoder.matrix(table)
    np.testing.assert_allclose(
        outside.inplace_predict(rows), inside.inplace_predict(rows), atol=0.02
    )


def test_the_number_of_threads_does_not_change_a_byte(table, encoder):
    matrix = quantile_matrix(table, encoder)
    raw = [
        bytes(
            train_booster(
                matrix, encoder, Recipe(params={**TWENTY.params, "nthread": n}), 20
            ).save_raw("ubj")
        )
        for n in (1, 2)
    ]
    assert raw[0] == raw[1]


def test_row_weights_change_the_model(table, encoder):
    twice = table.append_column("weight", pa.array(np.full(table.num_rows, 1.0)))
    email = np.array(pc.equal(table["first_mkt_medium_l30d"], "email").fill_null(False))
    other = table.append_column("weight", pa.array(np.where(email, 5.0, 1.0)))
    assert trained(twice, encoder) == trained(table, encoder) != trained(other, encoder)


def test_early_stopping_finds_few_rounds_if_there_is_nothing_to_learn(table, encoder):
    nothing = training_table(visitors=600, signal=0.0, base=-2.0, seed=4)
    many, few = (
        best_rounds(t, encoder, Recipe(FAST), summarize(t, FEATURES)) for t in (table, nothing)
    )
    assert many > 40 > 30 > few >= 1


def test_few_rows_choose_the_trees_over_folds_and_lose_less_on_other_visitors(encoder, monkeypatch):
    others = training_table(visitors=1000, base=-3.5, seed=99)
    losses = []
    for few in (training.FEW_STOPPING_ROWS, 0):
        monkeypatch.setattr(training, "FEW_STOPPING_ROWS", few)
        losses.append(0.0)
        for seed in (0, 4, 5, 7):
            rows = training_table(visitors=60, base=-3.0, seed=seed)
            rounds = best_rounds(rows, encoder, Recipe(FAST), summarize(rows, FEATURES))
            assert 20 < rounds < 400
            booster = train_booster(quantile_matrix(rows, encoder), encoder, Recipe(FAST), rounds)
            raw = booster.inplace_predict(encoder.matrix(others))
            losses[-1] += row_loss(labels(others), raw).mean()
    over_folds, on_later_rows = losses
    assert over_folds < on_later_rows


def test_early_stopping_works_on_a_stream(table, encoder):
    def stream():
        return iter(table.to_batches())

    assert best_rounds(stream, encoder, Recipe(), summarize(table, FEATURES)) > 20


def test_a_stream_without_later_rows_takes_the_usual_number_of_trees(table, encoder):
    at_once = replaced(table, "anchor_ts", pa.array([START] * table.num_rows))

    def stream():
        return iter(at_once.to_batches(max_chunksize=400))

    rounds = best_rounds(stream, encoder, Recipe(), summarize(stream, FEATURES))
    assert rounds == FALLBACK_ROUNDS


def test_out_of_fold_scores_come_from_a_model_not_trained_on_the_visitor(table, encoder):
    """A feature that names the visitor lets a model cheat unless folds are by visitor."""
    visitor = table["domain_userid"].combine_chunks().dictionary_encode().indices
    luck = np.random.default_rng(0).random(600) < 0.5
    lucky = pa.array(luck[visitor.to_numpy()])
    cheating = replaced(replaced(table, "num_page_views_l30d", visitor), "label", lucky)
    raw = out_of_fold(cheating, encoder, Recipe(params={"max_depth": 12}), 50)
    label = luck[visitor.to_numpy()]
    assert abs(raw[label].mean() - raw[~label].mean()) < 0.1


def test_calibration_is_chosen_only_where_it_helps(table, encoder):
    assert choose_calibration(table, encoder, TWENTY, 60).method == "identity"
    shouting = Recipe(params={**TWENTY.params, "scale_pos_weight": 8.0})
    assert choose_calibration(table, encoder, shouting, 60).method in ("sigmoid", "isotonic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(0, 0), "the training set is empty, .* Take a longer period"),
        (lambda t: t.filter(t["label"]), "0 of .* visitors have a row that no goal .* Check the"),
        (lambda t: t.filter(pc.invert(t["label"])), "0 of 600 visitors have a row that the goal"),
        (
            lambda t: pa.concat_tables(
                [t.filter(pc.invert(t["label"])), t.filter(t["label"]).slice(0, 7)]
            ),
            "of 600 visitors have a row that the goal follows, at least 10 are needed. Take a",
        ),
        (lambda t: t.select(["domain_userid", "anchor_ts", "label"]), "the training set lacks"),
    ],
)
def test_rows_that_are_too_few_to_train_a_model_are_refused(table, change, message):
    with pytest.raises(DataError, match=message) as refusal:
        summarize(change(table), FEATURES)
    assert isinstance(refusal.value, TooFewError) == ("lacks" not in message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["num_apps_l7d"]), r"lacks num_apps_l7d\. Give the problem"),
        (lambda t: t.drop_columns(["label"]), "lacks label"),
        (lambda t: t.drop_columns(["anchor_ts"]), "lacks anchor_ts"),
        (lambda t: t.append_column("label", t["label"]), "several columns named label"),
        (lambda t: replaced(t, "label", pa.nulls(t.num_rows, pa.bool_())), "label is null in 4800"),
        (lambda t: replaced(t, "label", t["day_of_week"]), "label has the number .*, expected 1"),
        (lambda t: replaced(t, "label", t["latest_app_id"]), "label is string, expected true"),
        (lambda t: replaced(t, "anchor_ts", t["latest_app_id"]), "anchor_ts is string, expected"),
        (lambda t: replaced(t, "num_apps_l7d", t["label"]), "num_apps_l7d is bool, expected a num"),
        (lambda t: t.append_column("weight", t["label"]), "weight is bool, expected numbers"),
        (lambda t: t.to_pylist(), "the training set is a list, expected an Arrow table"),
        (lambda t: t.to_pandas(), "the training set is a DataFrame, expected an Arrow table"),
        (lambda _: None, "the training set is a NoneType, expected an Arrow table"),
        (lambda t: t.to_pylist, "the training set is a dict, expected an Arrow table"),
        (lambda _: "nowhere.parquet", "nowhere.parquet: there is no Parquet file"),
        (lambda _: __file__, "cannot read .*test_training.py: .*Expected Parquet files."),
    ],
)
def test_rows_that_are_no_training_set_are_refused_in_one_line(table, change, message):
    with pytest.raises(DataError, match=message) as refusal:
        summarize(change(table), FEATURES)
    assert "\n" not in str(refusal.value)


def test_labels_weights_and_times_are_read_in_other_unambiguous_types(table):
    number = table["label"].cast(pa.uint8()).cast(pa.int32())
    other = replaced(table, "label", number.cast(pa.decimal128(12, 2)))
    other = replaced(other, "anchor_ts", table["anchor_ts"].cast(pa.timestamp("ns")))
    other = other.append_column("weight", number.cast(pa.decimal128(12, 0)))
    np.testing.assert_array_equal(labels(other), labels(table))
    np.testing.assert_array_equal(row_weights(other), labels(table))
    assert times_of(other).equals(table["anchor_ts"])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("day_of_week", lambda n: pa.array([3] * n)),
        ("latest_app_id", lambda n: pa.array(["website"] * n)),
        ("had_conversions_l7d", lambda n: pa.array([False] * n)),
        ("num_apps_l7d", lambda n: pa.nulls(n, pa.int64())),
        ("num_apps_l30d", lambda n: pa.array([np.nan] * n)),
    ],
)
def test_a_feature_that_is_the_same_in_all_rows_is_left_out_with_a_sentence(table, name, values):
    summary = summarize(replaced(table, name, values(table.num_rows)), FEATURES)
    assert [f.name for f in FEATURES if f not in summary.features] == [name]
    reason = "that are the same in all 4,800 rows"
    if name.startswith("num_apps"):
        reason = "that no event gives a value (check their events, properties and criteria)"
    assert summary.notes() == [f"Trained without features {reason}: {name}."]


@pytest.mark.parametrize("is_file", [False, True])
def test_features_that_extraction_left_out_are_not_required(table, tmp_path, is_file):
    metadata = {"left_out": '{"num_apps_l7d": ["app_id"]}'}
    rows = table.drop_columns(["num_apps_l7d"]).replace_schema_metadata(metadata)
    pq.write_table(rows, tmp_path / "part.parquet")
    (tmp_path / "manifest.json").write_text("{}")  # as extract_to writes it
    summary = summarize(tmp_path if is_file else rows, FEATURES)
    assert [f.name for f in FEATURES if f not in summary.features] == ["num_apps_l7d"]
    assert summary.notes() == [
        "Trained without features whose columns the events lack: num_apps_l7d."
    ]
    with pytest.raises(DataError, match="lacks num_apps_l30d"):
        summarize(rows.drop_columns(["num_apps_l30d"]), FEATURES)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
        (
            lambda folder: (folder / "part-00001.parquet").unlink(),
            r"part-00001\.parquet is missing",
        ),
        (
            lambda folder: pq.write_table(pa.table({"a": [1]}), folder / "part-00001.parquet"),
            r"part-00001\.parquet has 1 rows instead of 4,800",
        ),
        (lambda folder: os.truncate(folder / "part-00001.parquet", 5000), "damaged training set"),
        (lambda folder: (folder / "manifest.json").write_text("5"), "damaged training set"),
    ],
)
def test_a_training_set_that_is_not_complete_is_refused(table, tmp_path, damage, reason):
    names = ["part-00000.parquet", "part-00001.parquet"]
    for name in names:
        pq.write_table(table, tmp_path / name)
    parts = dict.fromkeys(names, table.num_rows)
    (tmp_path / "manifest.json").write_text(json.dumps({"parts": parts}))
    assert summarize(tmp_path, FEATURES).rows == 2 * table.num_rows
    damage(tmp_path)
    with pytest.raises(DataError, match=rf"{reason}.* Write it again: extract_to"):
        summarize(tmp_path, FEATURES)


def test_one_row_of_a_wrong_clock_does_not_move_the_early_stopping(table, encoder):
    times = table["anchor_ts"].to_pylist()
    times[100] = datetime(2019, 1, 19, tzinfo=UTC)
    early = replaced(table, "anchor_ts", pa.array(times, pa.timestamp("us", "UTC")))
    summaries = [summarize(rows, FEATURES) for rows in (table, early)]
    assert abs(summaries[0].later - summaries[1].later) < timedelta(hours=1)
    usual, rounds = (
        best_rounds(rows, encoder, Recipe(FAST), summary)
        for rows, summary in zip((table, early), summaries, strict=True)
    )
    assert rounds > 0.5 * usual > 10


def test_quantiles_of_times_do_not_depend_on_the_batches_and_are_exact_below_the_limit():
    times = np.random.default_rng(1).integers(0, 10**15, 40_000)
    samples = []
    for size, limit in ((40_000, 1 << 20), (700, 1 << 20), (40_000, 5_000), (700, 5_000)):
        sample = TimeSample(limit)
        for start in range(0, len(times), size):
            sample.add(times[start : start + size])
        samples.append(sample)
    exact = np.quantile(times, 0.8, method="higher")
    assert [sample.quantile(0.8) for sample in samples[:2]] == [exact, exact]
    assert samples[2].quantile(0.8) == samples[3].quantile(0.8) == pytest.approx(exact, rel=0.02)
    assert (samples[3].first, samples[3].last) == (times.min(), times.max())


def test_of_many_categories_the_most_frequent_are_told_apart(table: pa.Table) -> None:
    """A page path has thousands of values on a large site; the others count as unseen."""
    paths = [f"/{n % 3000}" if n % 2 else "/home" for n in range(table.num_rows)]
    summary = summarize(replaced(table, "last_page_path", pa.array(paths)), FEATURES)
    kept = summary.categories["last_page_path"]
    assert len(kept) == MAX_CATEGORIES and "/home" in kept
