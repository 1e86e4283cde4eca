"""Each check of the doctor: its state, and what it says to do."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
import snowflake.connector

from prospect_lib import cli, colab, doctor, signals
from prospect_lib.doctor import accounts
from prospect_lib.doctor.accounts import open_limited, warehouse_checks
from prospect_lib.errors import ServiceError
from prospect_lib.settings import SECRET_NAMES, SECRETS, Settings
from tests.support import snow
from tests.support.fake_colab import enter
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.snowflake_rules import Tables

COLAB_VERSIONS = Path(__file__).parent / "colab" / "versions.txt"


@pytest.fixture
def foreign_port() -> Iterator[int]:
    """A port at which another program listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_the_oldest_tested_versions_are_colabs_and_the_newest_are_pinned() -> None:
    colabs = dict(re.findall(r"^([\w-]+)==([\d.]+)$", COLAB_VERSIONS.read_text(), re.MULTILINE))
    pins = colab.pinned()
    older = {
        name: version for name, version in colabs.items() if version != pins.get(name, version)
    }
    assert older == doctor.OLDEST
    for name, (oldest, newest) in doctor.tested().items():
        assert doctor._number(oldest) <= doctor._number(newest) == doctor._number(pins[name])


def test_this_machine_without_secrets(home_settings: Settings) -> None:
    def refuse(host: str, port: int) -> None:
        raise AssertionError(f"{host}:{port} is not needed")

    checks = doctor.examine(home_settings, reach=refuse)
    assert [c for c in checks if c.state == "failure"] == []
    report = doctor.report(checks)
    assert report.splitlines()[-1].startswith("Ready.") and "embedded DuckDB" in report
    assert not home_settings.home.exists()  # the checks change nothing


def test_python_older_than_3_11_fails() -> None:
    assert doctor.python((3, 10, 13)).state == "failure"
    assert doctor.python((3, 14, 0)).state == "ok"


@pytest.mark.parametrize(
    ("name", "version", "state", "do"),
    [
        ("pandas", None, "failure", "pip install pandas=="),
        ("pandas", "1.5.3", "warning", "2.2.3 to"),
        ("pandas", "2.2.3", None, ""),
        ("duckdb", "99.0.dev1", "warning", "Tested with"),
        ("xgboost-cpu", None, "failure", "pip install xgboost-cpu"),
        ("xgboost", "3.4.1", "failure", "uninstall"),
    ],
)
def test_a_package_is_missing_or_of_another_version(
    name: str, version: str | None, state: str | None, do: str
) -> None:
    pins = {name: newest for name, (_, newest) in doctor.tested().items()}
    versions = {**pins, "xgboost-cpu": "3.2.0", name: version}
    (check,) = doctor.packages(versions.get)
    assert check.state == (state or "ok") and do in check.do


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = doctor.home(tmp_path / "file")
    assert check.state == "failure" and "PROSPECT_HOME" in check.do
    assert doctor.home(tmp_path / "new" / "folder").state == "ok"


def test_the_scoring_problem_in_use_is_loaded(home_settings: Settings, tmp_path: Path) -> None:
    assert doctor.scoring_problem(home_settings).observed.endswith("attributes of a domain_userid")
    broken = tmp_path / "my_site.py"
    broken.write_text("problem = 1 / 0\n")
    check = doctor.scoring_problem(replace(home_settings, problem=str(broken)))
    assert check.state == "failure" and "line 1: division by zero" in check.observed


@pytest.mark.parametrize(
    ("free", "state"), [(3e9, "ok"), (1e9, "warning"), (1e8, "failure"), (0, "failure")]
)
def test_little_disk_space_is_a_warning_and_very_little_a_failure(
    tmp_path: Path, free: float, state: str
) -> None:
    assert doctor.disk(tmp_path / "new", int(free)).state == state


def test_a_port_of_another_program(foreign_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_health", lambda _: "<html>")
    check = doctor.port("sandbox port", foreign_port, "PROSPECT_PORT", "prospect-sandbox")
    assert check.state == "failure" and f"PROSPECT_PORT={foreign_port + 100}" in check.do


def test_a_port_of_our_own_server(running: Settings) -> None:
    number = running.sandbox_port
    check = doctor.port("sandbox port", number, "PROSPECT_PORT", "prospect-sandbox")
    assert check.state == "ok" and "ours" in check.observed


def test_missing_programs_are_warnings() -> None:
    checks = list(doctor.programs(lambda _: None))
    assert [c.state for c in checks] == ["warning", "warning"] and all(c.do for c in checks)


def test_an_incomplete_set_of_secrets_names_the_missing_ones_and_where_to_find_them() -> None:
    settings = Settings(Path(), values={"SF_ACNT": "hush", "SP_API_KEY": "hush"})
    checks = [c for c in doctor.secrets(settings) if c.state == "failure"]
    signals_keys, warehouse, way = checks
    assert signals_keys.state == warehouse.state == way.state == "failure"
    assert "SP_ORG_ID" in signals_keys.do and SECRETS["SF_WH"] in warehouse.do
    assert "hush" not in f"{signals_keys}{warehouse}{way}"
    assert signals_keys.observed == (
        "Snowplow Signals (SP_API_KEY set), but not set: SP_API_URL, SP_API_KEY_ID, SP_ORG_ID"
    )
    assert "no way to sign in" in way.observed and "SF_PRIVATE_KEY, SF_PRIVATE_KEY_PATH" in way.do


def test_settings_that_are_not_used_are_pointed_out(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SP_API_KEYY", "s3cret")
    (tmp_path / ".env").write_text("PREDICT_ORIGIN=https://shop.example\nSHOP_NAME=x\n")
    signed = {"SF_PWD": "s3cret", "SF_PRIVATE_KEY_PATH": "key.p8"}
    checks = [*doctor.secrets(replace(home_settings, values=signed))]
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    lines = [str(check) for check in (*checks, *doctor.secrets(home_settings))]
    text = "\n".join(line for line in lines if line.startswith("warning"))
    for part in ("SP_API_KEYY is set", "meant for SP_API_KEY,", "meant for PREDICT_ORIGINS,"):
        assert part in text
    assert "SF_PRIVATE_KEY_PATH and SF_PWD are set: SF_PRIVATE_KEY_PATH is used" in text
    assert ".env is a folder" in text
    assert "s3cret" not in text and "SHOP_NAME" not in text


def test_a_private_key_is_read_though_snowflake_cannot_be_reached(tmp_path: Path) -> None:
    key = tmp_path / "rsa_key.p8"
    key.write_text("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n")
    values = {**ACCOUNT, "SF_PRIVATE_KEY_PATH": str(key)}
    values.pop("SF_PWD", None)
    checks = list(doctor.secrets(Settings(tmp_path, values=values)))
    (check,) = (each for each in checks if each.state == "failure")
    assert "SF_PRIVATE_KEY_PATH: expected" in check.observed and "MIIE" not in str(checks)


def test_what_is_set_twice_or_looks_wrong_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name in ("SP_API_KEY", "SP_API_KEY_ID", "SP_ORG_ID"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("SP_API_URL", "https://one.example")
    monkeypatch.setenv("SIGNALS_API_URL", "https://two.example")
    monkeypatch.setenv("SIGNALS_API_KEY", "hush")
    checks = list(doctor.secrets(Settings.load()))
    warnings = [check.observed for check in checks if check.state == "warning"]
    assert warnings == [
        "SP_API_URL and SIGNALS_API_URL are both set and differ: SP_API_URL is used",
        "SP_ORG_ID is not a UUID",
        "SP_OWNER is not set: publish records the owner that the problem names",
    ]
    monkeypatch.setenv("SP_ORG_ID", "3fa85f64-5717-4562-b3fc-2c963f66afa6")
    monkeypatch.setenv("SP_OWNER", "me@acme.test")
    monkeypatch.delenv("SIGNALS_API_URL")
    assert "warning" not in {check.state for check in doctor.secrets(Settings.load())}
    assert "hush" not in str(checks)


def test_only_hosts_that_a_secret_requires_are_reached() -> None:
    values = {"SP_API_URL": "https://x.signals.example", "SF_ACNT": "AB-C", "NGROK_TOKEN": "hush"}
    reached: list[str] = []

    def reach(host: str, port: int) -> None:
        reached.append(f"{host}:{port}")
        if "snowflake" in host:
            raise ConnectionRefusedError

    checks = list(doctor.network(Settings(Path(), values=values), reach))
    assert reached == [
        "x.signals.example:443", "console.snowplowanalytics.com:443",
        "ab-c.snowflakecomputing.com:443", "connect.ngrok-agent.com:443",
    ]  # fmt: skip
    assert [c.state for c in checks] == ["ok", "ok", "failure", "ok"]
    assert checks[2].observed == "the host of SF_ACNT: ConnectionRefusedError"
    assert "SF_ACNT" in checks[2].do and "hush" not in str(checks)
    assert "ab-c" not in str(checks), "a password may stand there by mistake"


def test_the_command_prints_the_checks_and_exits_with_2_if_one_fails(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SECRET_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROSPECT_HOME", str(home_settings.home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    monkeypatch.setenv("SF_USR", "me")
    assert cli.main(["doctor"]) == 2
    assert re.search(r"failure +Warehouse .*\n +-> Set SF_ACNT", capsys.readouterr().out)


def test_a_secret_that_colab_withholds_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, withheld={"SF_PWD"})
    (check,) = (c for c in doctor.secrets(Settings(Path())) if c.name == "Colab")
    assert check.state == "warning" and "SF_PWD" in check.observed and "Switch it on" in check.do


def test_the_reason_for_a_backend_is_shown_in_full() -> None:
    for values in ({}, {"SP_SANDBOX_URL": "https://x.example", "SP_SANDBOX_TOKEN": "hush"}):
        settings = Settings(Path(), values=values)
        described = settings.describe().splitlines()
        checks = list(doctor.secrets(settings))
        assert [f"{c.name}: {c.observed}." for c in checks[:2]] == described
        assert [c.state for c in checks[:2]] == ["ok", "ok"]


def test_a_wrong_value_of_any_secret_is_a_failure_without_the_value() -> None:
    values = {"SIGNALS": "https://hush hush", "SP_SANDBOX_TOKEN": "t", "SF_PASSCODE": "hush-hush"}
    values["SP_API_URL"] = values.pop("SIGNALS")
    settings = Settings(Path(), values=values, read_as={"SP_API_URL": "SIGNALS_API_URL"})
    wrong = [
        check
        for check in doctor.secrets(settings)
        if check.state == "failure" and check.name == "secret"
    ]
    assert [check.do for check in wrong] == ["Correct SF_PASSCODE.", "Correct SIGNALS_API_URL."]
    assert wrong[1].observed.startswith("SIGNALS_API_URL: expected an address")
    assert "hush" not in str(wrong) + str(list(doctor.network(settings, lambda *_: None)))


# --- accounts -----------------------------------------------------------------------------------

ACCOUNT = {
    "SF_ACNT": "myorg-account9",
    "SF_USR": "analyst",
    "SF_WH": "wh",
    "SF_PWD": "hush-hush",
    "ATOMIC_TABLE": "DB.PUBLIC.EVENTS",
}
BOUNDS = {"first": datetime(2026, 1, 1), "last": datetime(2026, 2, 3, 4, 5)}


class Snowflake:
    """A warehouse with one table, which refuses statements that contain some text."""

    dialect, events, notes = "snowflake", "DB.PUBLIC.EVENTS", ()
    partition = "collector_tstamp"

    def __init__(self, refused: tuple[str, ...] = (), warehouse: str | None = "WH", rows: int = 1):
        self.refused, self.warehouse, self.rows = refused, warehouse, rows
        self.statements: list[str] = []
        self.closed = False

    def run(self, sql: str) -> None:
        self.statements.append(sql)
        if any(text in sql for text in self.refused):
            raise ServiceError("Snowflake refused the statement: 002003\nnot authorized. hush-hush")

    def query(self, sql: str) -> pa.Table:
        self.run(sql)
        answers = {"ROLE": {"role": "ANALYST"}, "WAREHOUSE": {"warehouse": self.warehouse}}
        answers |= {"LIMIT 1": {"collector_tstamp": BOUNDS["first"]}, "MIN(": BOUNDS}
        answer = next(row for text, row in answers.items() if text in sql)
        return pa.Table.from_pylist([answer] * (self.rows if "LIMIT" in sql else 1))

    def columns(self) -> list[str]:
        return ["event_id", "collector_tstamp"]

    def close(self) -> None:
        self.closed = True


def snowflake_lines(snowflake_account: Snowflake) -> list[str]:
    settings = Settings(Path(), values=ACCOUNT)
    checks = warehouse_checks(settings, lambda _: snowflake_account)
    assert snowflake_account.closed
    return [f"{c.state} {c.name}: {c.observed} -> {c.do}" for c in checks]


def test_a_usable_snowflake_tells_role_table_and_its_first_and_last_event() -> None:
    account = Snowflake()
    assert snowflake_lines(account) == [
        "ok Snowflake: signed in with the role ANALYST -> ",
        "ok events: DB.PUBLIC.EVENTS is readable: collector_tstamp 2026-01-01 00:00 to "
        "2026-02-03 04:05 UTC -> ",
    ]
    assert not any("COUNT" in sql for sql in account.statements)
    assert snowflake_lines(Snowflake(rows=0))[1].startswith(
        "warning events: DB.PUBLIC.EVENTS is em"
    )


@pytest.mark.parametrize(
    ("account", "grants"),
    [
        (Snowflake(warehouse=None), ["USAGE ON WAREHOUSE <your SF_WH>"]),
        (Snowflake(("LIMIT 0",)), ["SELECT ON TABLE DB.PUBLIC.EVENTS"]),
        (
            Snowflake(("TABLES IN SCHEMA", "LIMIT 0")),
            ["USAGE ON SCHEMA DB.PUBLIC", "SELECT ON TABLE DB.PUBLIC.EVENTS"],
        ),
        (Snowflake(("CREATE",)), ["USAGE ON SCHEMA DB.PUBLIC"]),
        (
            Snowflake(("SHOW", "LIMIT 0"), warehouse=None),
            [
                "USAGE ON WAREHOUSE <your SF_WH>", "USAGE ON DATABASE DB",
                "USAGE ON SCHEMA DB.PUBLIC", "SELECT ON TABLE DB.PUBLIC.EVENTS",
            ],
        ),
    ],
    ids=["warehouse", "table", "schema", "scratch", "all"],
)  # fmt: skip
def test_each_missing_grant_is_one_line_with_the_statement_that_gives_it(
    account: Snowflake, grants: list[str]
) -> None:
    lines = snowflake_lines(account)
    assert lines[0].startswith("ok Snowflake") and len(lines) == 1 + len(grants)
    for line, grant in zip(lines[1:], grants, strict=True):
        assert line.startswith("failure grant: the role may not ")
        assert line.endswith(f"-> GRANT {grant} TO ROLE ANALYST;")
    assert not any("MIN(" in sql for sql in account.statements)


def test_a_warehouse_that_cannot_run_is_one_failure() -> None:
    (line,) = snowflake_lines(Snowflake(("LIMIT 1",)))
    assert line.startswith("failure Snowflake: Snowflake refused the statement: 002003 not author")


def test_a_snowflake_that_does_not_answer_is_left_after_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounts, "WAREHOUSE_SECONDS", 0.05)
    ended = threading.Event()
    (check,) = warehouse_checks(Settings(Path(), values=ACCOUNT), lambda _: ended.wait(60))
    ended.set()
    assert check.state == "failure" and check.observed == "no answer within 0.05 s" and check.do


def test_a_refused_sign_in_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(**arguments: object) -> None:
        raise snowflake.connector.errors.DatabaseError(msg=f"{arguments}", errno=390100)

    monkeypatch.setattr(snowflake.connector, "connect", connect)
    checks = warehouse_checks(Settings(Path(), values=ACCOUNT), open_limited)
    assert [(c.state, c.observed, c.do) for c in checks] == [
        (
            "failure",
            "Snowflake did not sign you in",
            "The user or the secret is wrong. Correct SF_USR, and SF_PWD or SF_TOKEN.",
        )
    ]


def test_through_the_connector_the_statements_run_and_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with snow.server():
        opened = open_limited(Settings(Path(), values=ACCOUNT))
        times = {"collector_tstamp": list(BOUNDS.values()), "event_id": ["1", "2"]}
        snow.load_into_server("EVENTS", pa.table(times))
        checks = warehouse_checks(Settings(Path(), values=ACCOUNT), lambda _: opened)
    assert [(c.state, c.name) for c in checks] == [("ok", "Snowflake"), ("ok", "events")]
    sessions: list[dict[str, object]] = []
    monkeypatch.setattr(
        snowflake.connector, "connect", lambda **a: sessions.append(a["session_parameters"])
    )
    open_limited(Settings(Path(), values=ACCOUNT))
    assert sessions[0]["STATEMENT_TIMEOUT_IN_SECONDS"] == accounts.STATEMENT_SECONDS


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ({"load_tstamp": 1, "event_id": 1}, ["ok events: DB.PUBLIC.EVENTS is readable: load_tst"]),
        ({"load_tstamp": 1}, ["warning events: DB.PUBLIC.EVENTS has no column event_id", "ok ev"]),
        ({"event_id": 1}, ["failure events: DB.PUBLIC.EVENTS has no column load_tstamp"]),
        ({"load_tstamp": None, "event_id": 1}, ["failure events: load_tstamp of DB.PUBLIC.EVENTS"]),
    ],
)
def test_the_column_by_which_the_events_are_partitioned_and_their_ids_are_checked(
    columns: dict[str, int | None], lines: list[str]
) -> None:
    """The grant of the scratch schema is missing as well: there is no such schema."""
    account = {**ACCOUNT, "SF_PARTITION": "LOAD_TSTAMP", "SF_SCRATCH": "DB.SCRATCH"}
    settings = Settings(Path(), values=account)
    values = {"load_tstamp": BOUNDS["first"], "event_id": "1"}
    table = {name: [values[name] if one else None] for name, one in columns.items()}
    table["collector_tstamp"] = [BOUNDS["last"]]
    schema = {"load_tstamp": pa.timestamp("us"), "collector_tstamp": pa.timestamp("us")}
    kinds = pa.schema({name: schema.get(name, pa.string()) for name in table})
    with snow.server(Tables(partition="LOAD_TSTAMP")):
        opened = open_limited(settings)
        snow.load_into_server("EVENTS", pa.table(table, kinds))
        (grant,) = warehouse_checks(settings, lambda _: opened)[1:]
        assert grant.do.startswith("GRANT USAGE ON SCHEMA DB.SCRATCH TO ROLE ")
        snow.set_up("CREATE SCHEMA DB.SCRATCH")
        checks = warehouse_checks(settings, open_limited)[1:]
    for check, line in zip(checks, lines, strict=True):
        assert f"{check.state} {check.name}: {check.observed}".startswith(line)


@pytest.mark.parametrize(
    ("mode", "state", "observed", "do"),
    [
        ("ok", "ok", "answers with 1 attributes", ""),
        ("404", "warning", "does not know the service", "python -m prospect_lib publish"),
        ("401", "failure", "Signals answered 401", "It refuses the token"),
        ("503", "failure", "Signals answered 503", "Try again"),
        ("drop", "failure", "Signals cannot be reached", "Check that its address is right"),
    ],
)
def test_signals_is_asked_for_attributes(mode: str, state: str, observed: str, do: str) -> None:
    with FakeSignals({"num_page_views_l7d": None}) as fake:
        fake.mode = mode
        values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
        check = doctor.signals_account(Settings(Path(), values=values))
    assert check.state == state and observed in check.observed and do in check.do
    assert TOKEN not in str(check)


def test_a_refused_api_key_of_signals_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ServiceError("Snowplow's console answered 401. Check SP_API_KEY and SP_API_KEY_ID.")

    monkeypatch.setattr(signals, "console_token", refuse)
    keys = {"SP_API_KEY": "hush", "SP_API_KEY_ID": "hush", "SP_ORG_ID": "hush"}
    values = {"SP_API_URL": "https://x.example", **keys}
    settings = Settings(Path(), values=values, read_as={"SP_API_KEY": "SIGNALS_API_KEY"})
    check = doctor.signals_account(settings)
    assert (check.state, check.do) == ("failure", "Check SIGNALS_API_KEY and SP_API_KEY_ID.")


def test_accounts_are_used_only_if_the_secrets_are_complete_and_the_hosts_reachable(
    home_settings: Settings,
) -> None:
    used: list[Snowflake] = []

    def open_snowflake(_: Settings) -> Snowflake:
        used.append(Snowflake())
        return used[-1]

    def refuse(*_: object) -> None:
        raise OSError

    def accept(host: str, port: int) -> None:
        assert (host, port) == ("myorg-account9.snowflakecomputing.com", 443)

    complete = replace(home_settings, values=ACCOUNT)
    missing = replace(home_settings, values={**ACCOUNT, "SF_PASSCODE": "hush"})
    for settings, reach in ((complete, refuse), (missing, accept)):
        doctor.examine(settings, reach=reach, open_warehouse=open_snowflake)
    assert used == []
    checks = doctor.examine(complete, reach=accept, open_warehouse=open_snowflake)
    assert len(used) == 1 and checks[-1].name == "events" and checks[-1].state == "ok"
