"""The compiled statements, kept as files that an analyst can read, one per dialect.

``PROSPECT_REWRITE=1 pytest tests/sql`` writes them again; then read what changed.
"""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from snowplow_signals import AtomicProperty, Attribute, Criteria, Criterion, EntityProperty

from prospect_lib.anchors import TUTORIAL_ANCHORS, Anchors
from prospect_lib.attributes import PAGE_VIEW, prospect_group
from prospect_lib.training_set import attributes_sql, features_sql
from tests.support.snowflake_rules import Tables, problems
from tests.support.worlds import HOUR, WEEK, group_of

FOLDER = Path(__file__).parent / "statements"
URL, APP = AtomicProperty(name="page_url"), AtomicProperty(name="app_id")
CLASS = EntityProperty(vendor="nl.basjes", name="yauaa_context", major_version=1, path="class")


def compiled(aggregation: str, kind: str = "int64", **arguments: object) -> Callable[[str], str]:
    """The statement for a group of one attribute of page views."""
    attribute = Attribute(
        name="a", type=kind, events=[PAGE_VIEW], aggregation=aggregation, **arguments
    )

    def sql(dialect: str) -> str:
        group = group_of(attribute)
        return attributes_sql(group, events="events", anchors="anchors", dialect=dialect)

    return sql


def placed(
    anchors: Anchors, key: str = "domain_userid", columns: tuple[str, ...] = ("collector_tstamp",)
) -> Callable[[str], str]:
    def sql(dialect: str) -> str:
        return anchors.sql(events="events", key=key, dialect=dialect, columns=columns)

    return sql


SPECIAL = Criteria(all=[Criterion.eq(URL, "it's 100%_;--ü\\")])
STATEMENTS: dict[str, Callable[[str], str]] = {
    "a count over a week": compiled("counter", period=WEEK),
    "a count over all time with special characters": compiled("counter", criteria=SPECIAL),
    "a count that expires after an hour": compiled("counter", ttl=HOUR),
    "the last value in an entity": compiled("last", "string", property=CLASS),
    "the first value of a week": compiled("first", "string", property=APP, period=WEEK),
    "the distinct values of a week": compiled(
        "unique_list", "string_list", property=APP, period=WEEK
    ),
    "how often each value occurred": compiled("category_count", "dict", property=APP),
    "days since the last event": compiled("time_since_last", "double", time_unit="d"),
    "anchors at page views": placed(Anchors()),
    "anchors without collector times": placed(Anchors(), columns=()),
    "anchors in a session": placed(
        Anchors(horizon="session", until_goal=True, negatives_per_positive=5), "domain_sessionid"
    ),
    "anchors of the tutorial": placed(TUTORIAL_ANCHORS),
    "sampled anchors every ten seconds": placed(
        Anchors(every=timedelta(seconds=10), per_session=3, negatives=0.1, min_events=2)
    ),
    "the features of the prospect model": lambda dialect: features_sql(
        prospect_group, events="events", anchors="anchors", dialect=dialect
    ),
}


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake", "spark"])
@pytest.mark.parametrize("title", STATEMENTS)
def test_the_statement_is_the_one_in_its_file(title: str, dialect: str) -> None:
    file = FOLDER / f"{title}.{dialect}.sql"
    sql = STATEMENTS[title](dialect) + "\n"
    if os.environ.get("PROSPECT_REWRITE"):
        file.write_text(sql)
    assert sql == file.read_text(), f"{file.name} differs: read it, then rewrite it"


@pytest.mark.parametrize("title", STATEMENTS)
def test_snowflake_reads_the_statement_as_it_is_meant(title: str) -> None:
    sql = re.sub(r"(FROM|JOIN) (events|anchors)\b", r"\1 A.B.\2", STATEMENTS[title]("snowflake"))
    assert list(problems(sql, Tables())) == []


def test_every_file_belongs_to_a_statement() -> None:
    assert {file.name.rsplit(".", 2)[0] for file in FOLDER.iterdir()} == set(STATEMENTS)
