"""Use the accounts that the secrets select, each within a time limit, and say what is missing.

Example: ``warehouse_checks(settings, open_limited)`` -> ``[Check("Snowflake", "ok", …), …]``
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING

from prospect_lib.doctor.check import Check, failure
from prospect_lib.errors import ProspectError, ServiceError
from prospect_lib.secret_values import name_parts
from prospect_lib.settings import PARTITION_SETTINGS, Settings

if TYPE_CHECKING:  # its packages may be missing
    from prospect_lib.warehouse import Warehouse

OpenWarehouse = Callable[[Settings], "Warehouse"]
SIGNALS_SECONDS, WAREHOUSE_SECONDS = 10.0, 150.0  # a sign-in by browser included
STATEMENT_SECONDS = 30  # after which Snowflake ends a statement of these checks


def signals_account(settings: Settings) -> Check:
    """Check that Signals gives a token, answers, and has the problem's service."""
    try:
        from prospect_lib import signals  # needs the packages that are checked before
        from prospect_lib.problem import chosen_problem

        reader = signals.reader(settings, chosen_problem(settings), timeout=SIGNALS_SECONDS)
        try:
            attributes = reader.read("doctor")
        finally:
            reader.close()
    except ImportError as error:
        return Check("Signals", "failure", f"not checked: {error}", "Install the packages first.")
    except ProspectError as error:
        check = failure("Signals", error)
        if check.observed.startswith(("Signals answered 404", "Signals answered 422")):
            unknown = "reachable, but it does not know the service of this problem"
            return Check("Signals", "warning", unknown, "python -m prospect_lib publish")
        do = check.do
        for name, alias in settings.read_as.items():
            do = re.sub(rf"\b{name}\b", alias, do)
        return replace(check, do=do)
    return Check("Signals", "ok", f"answers with {len(attributes) - 1} attributes of a visitor")


def warehouse_checks(settings: Settings, open_warehouse: OpenWarehouse) -> list[Check]:
    """Sign in to Snowflake or Databricks; check grants, and the events table's first and last.

    Creates a temporary table, and reads one row and the least and largest time by which the
    events are partitioned, which the warehouse knows without a scan.
    """
    name = "Databricks" if settings.warehouse_backend == "databricks" else "Snowflake"
    try:
        from prospect_lib.signals import Calls  # needs the packages that are checked before

        calls = Calls(1, name)
        return calls.run(
            lambda: list(_warehouse(name, settings, open_warehouse)), WAREHOUSE_SECONDS
        )
    except ImportError as error:
        return [Check(name, "failure", f"not checked: {error}", "Install the packages first.")]
    except TimeoutError:
        late = f"no answer within {WAREHOUSE_SECONDS:g} s"
        do = "Check the network, or whether the warehouse is suspended or busy."
        return [Check(name, "failure", late, do)]
    except ProspectError as error:
        return [failure(name, error)]


def open_limited(settings: Settings) -> "Warehouse":
    """Sign in as the secrets say, for statements that end soon."""
    from prospect_lib.warehouse import DatabricksWarehouse, SnowflakeWarehouse

    if settings.warehouse_backend == "databricks":
        return DatabricksWarehouse.connect(settings)
    session = {"STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_SECONDS}
    return SnowflakeWarehouse.connect(settings, session)


def _warehouse(name: str, settings: Settings, open_warehouse: OpenWarehouse) -> Iterator[Check]:
    warehouse = open_warehouse(settings)
    try:
        kind = "user" if name == "Databricks" else "role"
        who = warehouse.query(f"SELECT CURRENT_{kind.upper()}() AS {kind}")[kind][0].as_py()
        yield Check(name, "ok", f"signed in with the {kind} {who}")
        rights = _databricks_rights if name == "Databricks" else _snowflake_rights
        missing = [
            Check("grant", "failure", f"the {kind} may not {what}", do)
            for what, do, statement in rights(warehouse, settings, who)
            if not (statement and _is_allowed(warehouse, statement))
        ]
        yield from missing or _events(warehouse)
    finally:
        warehouse.close()


def _is_allowed(warehouse: "Warehouse", statement: str) -> bool:
    try:
        warehouse.run(statement)
    except ServiceError:
        return False
    return True


#: What must be allowed, what to do if it is not, and a statement that needs it, or an empty text
#: if it is not allowed for certain.
_Rights = Iterator[tuple[str, str, str]]


def _snowflake_rights(warehouse: "Warehouse", settings: Settings, role: str) -> _Rights:
    """Yield what the role needs, from the outside to the inside."""
    from prospect_lib.warehouse.snowflake_sign_in import atomic_table, scratch_schema

    database, schema, _ = atomic_table(settings)
    schema, table, scratch = f"{database}.{schema}", warehouse.events, scratch_schema(settings)
    name = f"{scratch}.PROSPECT_DOCTOR_{token_hex(6).upper()}"  # ends with the session
    (session,) = warehouse.query("SELECT CURRENT_WAREHOUSE() AS warehouse").to_pylist()
    no_warehouse = ("use the warehouse of SF_WH", "USAGE ON WAREHOUSE <your SF_WH>", "")
    for what, grant, statement in (
        *([no_warehouse] if session["warehouse"] is None else []),
        *(
            (
                f"use the database {each}",
                f"USAGE ON DATABASE {each}",
                f"SHOW TERSE SCHEMAS IN DATABASE {each}",
            )
            for each in dict.fromkeys((database, scratch.rpartition(".")[0]))
        ),
        ("use the schema", f"USAGE ON SCHEMA {schema}", f"SHOW TERSE TABLES IN SCHEMA {schema}"),
        ("read the table", f"SELECT ON TABLE {table}", f"SELECT * FROM {table} LIMIT 0"),
        (
            f"create a temporary table in {scratch} (SF_SCRATCH chooses another schema)",
            f"USAGE ON SCHEMA {scratch}",
            f"CREATE TEMPORARY TABLE {name} (one INTEGER)",
        ),
    ):
        yield f"{what}, or there is none", f"GRANT {grant} TO ROLE {role};", statement


def _databricks_rights(warehouse: "Warehouse", _: Settings, user: str) -> _Rights:
    """Yield what the user needs, from the outside to the inside."""
    table = warehouse.events
    catalog, schema, _name = name_parts(table)
    for what, grant, statement in (
        (
            f"use the catalog {catalog}",
            f"USE CATALOG ON CATALOG {catalog}",
            f"SHOW SCHEMAS IN {catalog}",
        ),
        (
            "use the schema",
            f"USE SCHEMA ON SCHEMA {catalog}.{schema}",
            f"SHOW TABLES IN {catalog}.{schema}",
        ),
        ("read the table", f"SELECT ON TABLE {table}", f"SELECT * FROM {table} LIMIT 0"),
    ):
        yield f"{what}, or there is none", f"GRANT {grant} TO `{user}`;", statement
    yield (
        "create a temporary table",
        "Use a SQL warehouse, or a cluster of Databricks Runtime 18.1 or later.",
        f"CREATE TEMPORARY TABLE prospect_doctor_{token_hex(6)} (one INT)",
    )


def _events(warehouse: "Warehouse") -> Iterator[Check]:
    table, partition, columns = warehouse.events, warehouse.partition, warehouse.columns()
    setting = PARTITION_SETTINGS[warehouse.dialect]
    for column, do in (
        ("collector_tstamp", "Correct ATOMIC_TABLE: it names Snowplow's atomic events."),
        (partition, f"Correct {setting}, or unset it."),
    ):
        if column not in columns:
            yield Check("events", "failure", f"{table} has no column {column}", do)
            return
    if "event_id" not in columns:
        twice = f"{table} has no column event_id, so an event that is there twice counts twice"
        yield Check("events", "warning", twice, "Add event_id to the view of ATOMIC_TABLE.")
    # a row needs a running warehouse; the bounds alone do not
    if not warehouse.query(f"SELECT {partition} FROM {table} LIMIT 1").num_rows:
        yield Check("events", "warning", f"{table} is empty", "Wait for the first events.")
        return
    (bounds,) = warehouse.query(
        f"SELECT MIN({partition}) AS first, MAX({partition}) AS last FROM {table}"
    ).to_pylist()
    if bounds["first"] is None:
        do = f"Set {setting} to the time column by which the table is partitioned."
        yield Check("events", "failure", f"{partition} of {table} has no value", do)
        return
    days = " to ".join(f"{bounds[name]:%Y-%m-%d %H:%M}" for name in ("first", "last"))
    yield Check("events", "ok", f"{table} is readable: {partition} {days} UTC")
