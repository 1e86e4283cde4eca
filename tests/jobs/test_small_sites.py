"""Sites with few visitors, few attributes or odd data: they train, or one sentence says why not."""

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prospect_lib import cli
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import ProspectError, TooFewError
from prospect_lib.jobs.retrain import train, train_and_promote
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_path
from prospect_lib.model.training import Recipe
from tests.support.synthetic import FAST, odd_table, training_table

pytestmark = pytest.mark.usefixtures("blank_pictures")
AT = datetime(2026, 4, 14, 12, tzinfo=UTC)
NOTHING = {attribute.name: None for attribute in prospect_group.attributes}
#: Page views of one app, with forms sent by some of the visitors of the pricing page.
EXPORT = """
COPY (
  SELECT
    md5(visitor::VARCHAR) AS domain_userid,
    md5(visitor::VARCHAR || ' ' || view::VARCHAR) AS event_id,
    TIMESTAMP '2026-01-01'
      + to_seconds(CAST(hash(visitor) % 3000000 + view * 300 AS INTEGER)) AS derived_tstamp,
    derived_tstamp AS collector_tstamp,
    CASE WHEN view = 4 THEN 'submit_form' ELSE 'page_view' END AS event_name,
    'com.snowplowanalytics.snowplow' AS event_vendor,
    '1-0-0' AS event_version,
    'shop' AS app_id,
    'web' AS platform,
    'https://shop.example.com'
      || CASE WHEN visitor % 3 = 0 AND view = 2 THEN '/pricing' ELSE '/' END AS page_url
  FROM range({visitors}) AS v(visitor), range(5) AS w(view)
  WHERE view < 4 OR (visitor % 3 = 0 AND visitor < {converting})
) TO '{path}' (FORMAT parquet)
"""


def export(path: Path, *, visitors: int, converting: int) -> Path:
    """Write a file of events; a third of the first ``converting`` visitors send a form."""
    duckdb.sql(EXPORT.format(path=path, visitors=visitors, converting=converting))
    return path


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PROSPECT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_an_export_of_one_app_without_forms_media_or_devices_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = export(tmp_path / "events.parquet", visitors=900, converting=900)
    assert cli.main(["train", "--data", str(data), "--out", str(tmp_path / "models")]) == 0
    printed = capsys.readouterr().out
    assert "Trained without features that are the same in all" in printed
    model = ProspectModel.load(promoted_path(tmp_path / "models"))
    assert 0 < len(model.features) < 12
    assert model.manifest["notes"]
    page = (promoted_path(tmp_path / "models") / "report.html").read_text()
    assert "Trained without features that are the same in all" in page
    assert 0 < model.score(NOTHING, AT).score < 1


@pytest.mark.parametrize("command", [["train"], ["demo"]])
@pytest.mark.parametrize("converting", [0, 1, 15])
def test_few_conversions_end_with_exit_code_11_and_what_would_be_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], converting: int
) -> None:
    data = export(tmp_path / "events.parquet", visitors=300, converting=converting)
    assert cli.main([*command, "--data", str(data)]) == 11
    (error,) = capsys.readouterr().err.splitlines()
    assert "visitors have a row that the goal follows, at least" in error
    assert "are needed. Take a longer period of events" in error


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_an_odd_table_trains_a_model_that_scores_or_is_refused_in_one_line(seed: int) -> None:
    table = odd_table(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            challenger = train(table, recipe=Recipe(FAST, rounds=3), resamples=10, capacity=2)
        except ProspectError as error:
            assert isinstance(error, TooFewError) and error.exit_code == 11
            assert "\n" not in str(error)
            return
    assert 0 <= challenger.model.score(NOTHING, AT).score <= 1
    assert "nan" not in json.dumps(challenger.model.manifest).lower().split()


@pytest.mark.parametrize("seed", [78, 87, 132])
def test_an_odd_table_that_trains_is_saved_with_a_report_and_loaded(
    seed: int, tmp_path: Path
) -> None:
    result = train_and_promote(odd_table(seed), tmp_path, promote="always", resamples=10)
    model = ProspectModel.load(result.folder)
    assert model.version == result.version
    assert all(
        note in (result.folder / "report.html").read_text() for note in result.evaluation.notes
    )


def test_one_row_of_2019_changes_neither_the_training_nor_the_visitors_per_day() -> None:
    table = training_table(visitors=1000, views=6)
    times = table["anchor_ts"].to_pylist()
    place = times.index(min(times))
    times[place] = datetime(2019, 1, 19, tzinfo=UTC)
    early = table.set_column(1, "anchor_ts", pa.array(times, pa.timestamp("us", "UTC")))
    times = table["anchor_ts"].to_pylist()
    times[times.index(max(times))] = datetime(2031, 1, 19, tzinfo=UTC)
    late = table.set_column(1, "anchor_ts", pa.array(times, pa.timestamp("us", "UTC")))
    usual, *others = (
        train(rows, resamples=10, calibrate=False, recipe=Recipe(FAST))
        for rows in (table, early, late)
    )
    rounds = usual.model.manifest["recipe"]["rounds"]
    assert rounds > 20
    for other in others:
        assert other.model.manifest["recipe"]["rounds"] > rounds / 2
        assert other.threshold.per_day == pytest.approx(usual.threshold.per_day, rel=0.5)
        assert other.evaluation.days < usual.evaluation.days + 8
