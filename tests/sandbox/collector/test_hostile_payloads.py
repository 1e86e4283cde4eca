"""Hostile payloads: each is answered, stored or rejected with a reason; neighbours are stored."""

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.collector.payloads import MAX_PAYLOAD, payloads_of
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse
from tests.support.hostile import MANY, names, payloads, texts

TP2 = "/com.snowplowanalytics.snowplow/tp2"


def good() -> dict[str, str]:
    return {"e": "pv", "eid": str(uuid4()), "duid": str(uuid4()), "url": "https://s.example/"}


def counts(client: FlaskClient) -> dict[str, int]:
    totals: dict[str, int] = client.get("/micro/all").get_json()
    return totals


@MANY
@given(hostile=st.lists(payloads(), min_size=1, max_size=3), zipped=st.booleans())
def test_any_payload_is_stored_or_rejected_and_its_neighbour_is_stored(
    client: FlaskClient, hostile: list[Any], zipped: bool
) -> None:
    before, neighbour = counts(client), good()
    body = json.dumps({"schema": "s", "data": [*hostile, neighbour]}).encode()
    headers = {"Content-Encoding": "gzip"} if zipped else {}
    answer = client.post(TP2, data=gzip.compress(body) if zipped else body, headers=headers)
    after = counts(client)
    assert answer.status_code == 200
    events = client.application.extensions["sandbox"].events
    assert [row["event_id"] for row in events.of_visitor(neighbour["duid"])] == [neighbour["eid"]]
    assert after["good"] - before["good"] >= 1
    assert after["total"] - before["total"] <= len(hostile) + 1


@MANY
@given(fields=st.dictionaries(names, texts, max_size=5), agent=st.text(max_size=9))
def test_any_query_is_answered(client: FlaskClient, fields: dict[str, str], agent: str) -> None:
    printable = agent.encode("ascii", "ignore").decode()
    headers = {"User-Agent": "".join(c for c in printable if c.isprintable())}
    query = urlencode(fields, errors="surrogatepass")
    before = counts(client)
    assert client.get("/i", query_string=query, headers=headers).status_code == 200
    assert counts(client)["total"] == before["total"] + 1


@MANY
@given(body=st.binary(max_size=60), encoding=st.sampled_from(["", "gzip", "br", "GZIP", "\xe9"]))
def test_any_bytes_are_answered_with_a_reason(
    client: FlaskClient, body: bytes, encoding: str
) -> None:
    before = counts(client)
    answer = client.post(TP2, data=body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 200 and counts(client)["bad"] == before["bad"] + 1


def bodies() -> dict[str, tuple[bytes, str]]:
    """Bodies as an attacker writes them, each with a part of its reason."""
    packed = gzip.compress(json.dumps({"data": [good()]}).encode())
    return {
        "cut gzip": (packed[:-9], "cut short"),
        "no gzip": (b"{}" * 9, "not gzip"),
        "bomb": (gzip.compress(b" " * (MAX_PAYLOAD + 1)), "larger than"),
        "deep": (gzip.compress(b"[" * 500_000), "too deeply"),
        "deep object": (gzip.compress(b'{"data":' * 100_000), "too deeply"),
        "not UTF-8": (gzip.compress(b'{"data": ["\xff\xfe"]}'), "not JSON"),
        "no list": (gzip.compress(b'{"data": 7}'), "expected a list"),
    }


@pytest.mark.parametrize("kind", bodies())
def test_a_hostile_body_is_rejected_with_its_reason(client: FlaskClient, kind: str) -> None:
    body, reason = bodies()[kind]
    answer = client.post(TP2, data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200
    assert reason in client.get("/micro/bad").get_json()[0]["reason"]


def test_a_body_over_the_limit_is_refused_and_recorded(client: FlaskClient) -> None:
    assert client.post(TP2, data=b"x" * (MAX_PAYLOAD + 1)).status_code == 413
    assert "larger than" in client.get("/micro/bad").get_json()[0]["reason"]


@pytest.mark.parametrize(
    "hostile",
    ["[" * 9000 + "]" * 9000, "9" * 9000, "NaN", "-Infinity", '{"e": "\\ud800"}', "1e999"],
)
def test_input_that_breaks_parsers_does_not_harm_its_neighbour(
    client: FlaskClient, hostile: str
) -> None:
    before, neighbour = counts(client), good()
    body = f'{{"data": [{hostile}, {json.dumps(neighbour)}]}}'
    assert client.post(TP2, data=body).status_code == 200
    after = counts(client)
    assert (after["good"] - before["good"], after["bad"] - before["bad"]) == (1, 1)


def test_depths_are_cut_outside_strings_only() -> None:
    deep = b'[{"a": ' * 2000 + b"1" + b"}]" * 2000
    decoded = payloads_of(b'{"data": ["]}\\"[[", ' + deep + b', {"e": "pv"}]}')
    assert decoded[0] == ']}"[[' and decoded[2] == {"e": "pv"}


def test_everything_stored_can_be_read_back(client: FlaskClient) -> None:
    """By Micro's endpoints, after a restart, and by DuckDB in another connection."""
    stored = client.get("/micro/good").get_json()
    assert len(stored) == counts(client)["good"] > 100
    home = Path(client.application.config["PROSPECT_HOME"])
    warehouse = DuckDBWarehouse.over_home(home)
    ids = warehouse.query("SELECT event_id FROM events")["event_id"].to_pylist()
    warehouse.close()
    assert sorted(ids) == sorted(row["event"]["event_id"] for row in stored)
    again = create_sandbox(Settings(home=home))
    events = again.extensions["sandbox"].events
    assert events.counts == client.application.extensions["sandbox"].events.counts
    events.close()
