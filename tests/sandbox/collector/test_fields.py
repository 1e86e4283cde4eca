"""What is too long is rejected with its reason; what is stored, every reader can read."""

import gzip
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from prospect_lib.attributes import prospect_group
from prospect_lib.sandbox.collector.fields import LONGEST, MAX_BATCH, MAX_NESTED, USUAL
from prospect_lib.sandbox.events import MAX_NESTED_COLUMNS
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.events import ATOMIC_COLUMNS
from tests.support.sandbox import page_view

TP2 = "/com.snowplowanalytics.snowplow/tp2"


def post(client: FlaskClient, *payloads: Any) -> list[str]:
    """Send a packed batch; return the reasons of what was rejected, oldest first."""
    before = client.get("/micro/all").get_json()["bad"]
    body = gzip.compress(json.dumps({"data": payloads}).encode())
    assert client.post(TP2, data=body, headers={"Content-Encoding": "gzip"}).status_code == 200
    rejected = client.get("/micro/bad").get_json()
    return [record["reason"] for record in rejected[: len(rejected) - before]][::-1]


def entity(name: str, value: str = "") -> dict[str, Any]:
    return {"schema": f"iglu:com.acme/{name}/jsonschema/1-0-0", "data": {"a": value}}


def entities(*each: dict[str, Any]) -> dict[str, str]:
    return {"co": json.dumps({"schema": "s", "data": each})}


def readers_agree(client: FlaskClient, visitor: str) -> int:
    """Read a visitor's events by every way there is; return how many there are."""
    home, parts = (
        Path(client.application.config["PROSPECT_HOME"]),
        client.application.extensions["sandbox"],
    )
    micro = [
        e for e in client.get("/micro/good").get_json() if e["event"]["domain_userid"] == visitor
    ]
    assert parts.attributes.values(prospect_group, visitor, *[datetime.now(UTC)] * 2)
    with closing(DuckDBWarehouse.over_home(home)) as warehouse:
        rows = warehouse.query(f"SELECT * FROM events WHERE domain_userid = '{visitor}'")
    assert len(parts.events.of_visitor(visitor)) == len(micro) == rows.num_rows
    return int(rows.num_rows)


def test_a_megabyte_in_a_column_is_rejected_and_its_neighbours_are_stored(
    client: FlaskClient,
) -> None:
    huge = "x" * 1_500_000
    reasons = post(
        client,
        page_view(duid="a"),
        page_view(duid="a", page=huge),
        page_view(duid="a", url=f"https://s.example/?utm_campaign={huge}"),
        page_view(duid="a", page=huge, url=f"https://s.example/?utm_campaign={huge}"),
        page_view(duid="a", **entities(entity("user", huge))),
        page_view(duid="a", uid=huge),
        page_view(duid="a"),
    )
    assert [reason.partition(" has ")[0] for reason in reasons] == [
        "page_title", "page_url", "page_url", "field 'co' or 'cx'", "user_id",
    ]  # fmt: skip
    assert reasons[0] == "page_title has 1,500,000 characters, expected at most 2,000"
    assert readers_agree(client, "a") == 2


def test_the_longest_event_is_stored_and_can_be_read(client: FlaskClient) -> None:
    long = {"schema": "s", "data": entity("x", "\U0001f600" * (MAX_NESTED - 200))}
    fields = {"page": "\U0001f600" * LONGEST["page_title"], "uid": "é" * USUAL, "duid": "long"}
    nested = {
        "ue_pr": json.dumps(long, ensure_ascii=False),
        "co": json.dumps({**long, "data": [long["data"]]}, ensure_ascii=False),
    }
    assert post(client, page_view(**fields) | nested | {"e": "ue"}) == []
    assert readers_agree(client, "long") == 1


@pytest.mark.parametrize("column", ["page_title", "user_id", "mkt_campaign"])
def test_a_column_takes_a_text_of_its_length_and_no_longer_one(
    client: FlaskClient, column: str
) -> None:
    longest = LONGEST.get(column, USUAL)
    texts = ["x" * longest, "x" * (longest + 1)]
    field = {"page_title": "page", "user_id": "uid", "mkt_campaign": ""}[column]
    sent = [
        {field: text} if field else {"url": f"https://s.example/?utm_campaign={text}"}
        for text in texts
    ]
    reasons = post(client, *(page_view(**fields) for fields in sent))
    assert reasons == [f"{column} has {longest + 1:,} characters, expected at most {longest:,}"]


def test_limits_are_of_columns_that_exist() -> None:
    assert set(LONGEST) <= set(ATOMIC_COLUMNS)


def test_more_schemas_than_readers_can_take_are_rejected(client: FlaskClient) -> None:
    sent = [
        page_view(duid="many", **entities(entity(f"n{n}"))) for n in range(MAX_NESTED_COLUMNS + 9)
    ]
    reasons = post(client, *sent)
    assert reasons and all("a schema of this event is new" in reason for reason in reasons)
    assert post(client, sent[0] | page_view(duid="many")) == [], "known schemas are still stored"
    assert readers_agree(client, "many") == len(sent) - len(reasons) + 1
    assert client.post("/micro/reset").status_code == 200
    assert post(client, sent[-1]) == []


def test_a_batch_is_bounded(client: FlaskClient) -> None:
    reasons = post(client, page_view(duid="first"), *([7] * MAX_BATCH))
    assert len(reasons) == MAX_BATCH and "the later ones are lost" in reasons[-1]
    assert readers_agree(client, "first") == 1
