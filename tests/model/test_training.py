"""Training on tables, Parquet files and streams."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prospect_lib.errors import DataError
from prospect_lib.features import FEATURES
from prospect_lib.model.dataset import refuse_constant_features, summarize
from prospect_lib.model.encoding import Encoder
from prospect_lib.model.training import (
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
    assert summary.constant == ()


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
    assert many > 60 > 30 > few >= 1


def test_early_stopping_works_on_a_stream(table, encoder):
    def stream():
        return iter(table.to_batches())

    assert best_rounds(stream, encoder, Recipe(), summarize(table, FEATURES)) > 20


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
        (lambda t: t.slice(0, 0), "empty. Widen"),
        (lambda t: t.filter(t["label"]), "label True: one class only"),
        (lambda t: t.filter(pc.invert(t["label"])), "label False: one class only"),
        (
            lambda t: pa.concat_tables(
                [t.filter(pc.invert(t["label"])), t.filter(t["label"]).slice(0, 7)]
            ),
            "only 7 of .* rows are positive; at least 20",
        ),
        (lambda t: t.drop_columns(["num_apps_l7d"]), "lacks num_apps_l7d"),
        (lambda t: replaced(t, "label", pa.nulls(t.num_rows, pa.bool_())), "label is bool with"),
        (lambda t: replaced(t, "label", t["day_of_week"]), "label is int64"),
    ],
)
def test_rows_that_cannot_train_a_model_are_refused(table, change, message):
    with pytest.raises(DataError, match=message):
        summarize(change(table), FEATURES)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("day_of_week", lambda n: pa.array([3] * n)),
        ("latest_app_id", lambda n: pa.array(["website"] * n)),
        ("had_conversions_l7d", lambda n: pa.array([False] * n)),
        ("num_apps_l7d", lambda n: pa.nulls(n, pa.int64())),
    ],
)
def test_a_constant_feature_is_named(table, name, values):
    with pytest.raises(DataError, match=f"constant in all .*: {name}"):
        refuse_constant_features(summarize(replaced(table, name, values(table.num_rows)), FEATURES))


def test_a_missing_file_is_not_an_empty_training_set():
    with pytest.raises((DataError, FileNotFoundError)):
        summarize(Path("nowhere.parquet"), FEATURES)
