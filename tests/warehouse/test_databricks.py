"""The real connector against a server that answers as Databricks' does: sign-in, session, rows.

Its statements run on a real Spark in ``test_spark.py``.
"""

import _thread
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from prospect_lib import cli
from prospect_lib.errors import DataError, ServiceError, SettingsError
from prospect_lib.settings import DATABRICKS_CONNECTOR, SECRET_NAMES, SECRETS, Settings
from prospect_lib.warehouse import DatabricksWarehouse, databricks
from prospect_lib.warehouse.tables import name_of_new_table
from tests.support import keys
from tests.support.databricks_cloud import CLOUD_SECRETS, ROWS_A_BATCH, Account, cloud

EVENTS = CLOUD_SECRETS["ATOMIC_TABLE"]
TRAIN = ["train", "--backend", "databricks", "--since", "2026-01-01", "--yes"]


@pytest.fixture
def account() -> Iterator[Account]:
    """A workspace that runs DuckDB's SQL, with 2,500 rows in the table of events."""
    with duckdb.connect() as connection:

        def engine(sql: str) -> pa.Table:
            relation = connection.sql(sql.replace("spark_catalog.default.", ""))
            return pa.table({}) if relation is None else relation.to_arrow_table()

        engine("CREATE TABLE events AS SELECT range AS Number FROM range(2500)")
        with cloud(engine) as account:
            yield account


def connected(**secrets: str) -> DatabricksWarehouse:
    return DatabricksWarehouse.connect(Settings(Path(), values={**CLOUD_SECRETS, **secrets}))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "secrets", "advice"),
    [
        (200, {"DATABRICKS_TOKEN": "dapi-of-yesterday-98765"}, "Correct DATABRICKS_TOKEN"),
        (401, {}, "has expired. Correct DATABRICKS_TOKEN: Databricks > Settings > Developer"),
        (200, {"DATABRICKS_HTTP_PATH": "/sql/1.0/warehouses/no"}, "Correct DATABRICKS_HTTP_PATH"),
        (
            200,
            {"DATABRICKS_SERVER_HOSTNAME": "no-such.invalid"},
            "cannot be reached at no-such.invalid",
        ),
        (503, {}, "The warehouse did not start within"),
    ],
)
def test_a_refused_sign_in_says_what_to_do_and_repeats_nothing(
    account: Account,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    secrets: dict[str, str],
    advice: str,
) -> None:
    monkeypatch.setattr(databricks, "START_SECONDS", 1)
    account.status = status
    with caplog.at_level(logging.DEBUG), pytest.raises(ServiceError) as refused:
        connected(**secrets)
    message = str(refused.value)
    assert message.startswith(("Databricks did not sign you in. ", "Databricks cannot be"))
    assert advice in message
    assert "\n" not in message
    token = secrets.get("DATABRICKS_TOKEN", CLOUD_SECRETS["DATABRICKS_TOKEN"])
    assert keys.pieces_in(keys.everything_in(refused.value) + caplog.text, token) == set()


def test_a_token_that_expires_in_a_session_is_not_repeated(account: Account) -> None:
    warehouse = connected()
    account.status = 403
    with pytest.raises(ServiceError, match=r"refused the statement: The token is wrong") as refused:
        warehouse.query("SELECT 1 AS one")
    token = CLOUD_SECRETS["DATABRICKS_TOKEN"]
    assert keys.pieces_in(keys.everything_in(refused.value), token) == set()


@pytest.fixture
def _only_databricks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**CLOUD_SECRETS, "PROSPECT_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_only_databricks")
def test_the_command_refuses_in_one_line_without_settings_or_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "databricks.sql", None)
    assert cli.main(TRAIN) == SettingsError.exit_code
    install = (
        f"error: the Databricks connector is not installed. pip install {DATABRICKS_CONNECTOR}"
    )
    assert capsys.readouterr().err == f"{install}\n"
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.delenv("DATABRICKS_HTTP_PATH")
    assert cli.main(TRAIN) == SettingsError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: not set: DATABRICKS_HTTP_PATH, DATABRICKS_TOKEN. ")
    assert SECRETS["DATABRICKS_TOKEN"] in line


def test_the_table_is_named_with_its_catalog() -> None:
    with pytest.raises(SettingsError, match=r"expected catalog\.schema\.table"):
        connected(ATOMIC_TABLE="atomic.events")


# --- the session --------------------------------------------------------------------------------


def test_rows_arrive_in_batches_with_lower_case_names(account: Account) -> None:
    warehouse = connected()
    assert account.statements == ["SET TIME ZONE 'UTC'"]
    rows = warehouse.query(f"SELECT Number FROM {EVENTS} ORDER BY 1")
    assert rows.column_names == warehouse.columns() == ["number"]
    assert rows["number"].to_pylist() == list(range(2500)) and 2 * ROWS_A_BATCH < 2500
    (nothing,) = warehouse.batches(f"SELECT Number FROM {EVENTS} WHERE FALSE")
    assert nothing.schema == rows.schema and nothing.num_rows == 0


def test_a_session_that_ended_is_opened_again_with_its_temporary_tables(account: Account) -> None:
    warehouse = connected()
    create = "CREATE TEMPORARY TABLE kept AS SELECT 5 AS five"
    warehouse.create_temporary("kept", create)
    account.drop_in = 1
    assert warehouse.query("SELECT five FROM kept")["five"].to_pylist() == [5]
    assert account.statements[-4:] == [
        "SET TIME ZONE 'UTC'",
        "DROP TABLE IF EXISTS kept",
        create,
        "SELECT five FROM kept",
    ]
    warehouse.close()
    assert not account.temporary


def test_rows_that_stop_arriving_are_an_error(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databricks, "ROWS_A_FETCH", ROWS_A_BATCH)
    batches = connected().batches(f"SELECT Number FROM {EVENTS}")
    assert next(batches).num_rows == ROWS_A_BATCH
    account.status = 403
    with pytest.raises(ServiceError, match=r"stopped arriving \(The token is wrong"):
        next(batches)


def test_ctrl_c_ends_the_statement_in_databricks_too(account: Account) -> None:
    warehouse = connected()
    account.slow, account.on_poll = "slow", _thread.interrupt_main
    with pytest.raises(KeyboardInterrupt):
        warehouse.query("SELECT 'slow' AS one")
    assert account.cancelled == 1


@pytest.mark.usefixtures("account")
def test_a_read_tells_how_large_the_table_is() -> None:
    sentences: list[str] = []
    settings = Settings(Path(), values=CLOUD_SECRETS)
    warehouse = DatabricksWarehouse.connect(settings, before_read=sentences.append)
    warehouse.announce("SELECT 1")
    assert sentences == [
        f"Databricks will scan {EVENTS}: a part, by collector_tstamp, of 12 files with 3.5 GB."
    ]


@pytest.mark.usefixtures("account")
def test_a_table_to_keep_is_never_beside_the_events() -> None:
    warehouse = connected()
    assert name_of_new_table(warehouse, "mine.training") == "spark_catalog.mine.training"
    for name in ("training", "default.training"):
        with pytest.raises(DataError, match=r"Give schema\.table of another schema\.$"):
            name_of_new_table(warehouse, name)
