"""Inspection as Snowplow Micro has it: counters, filters, reset, and who may look."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.home import token
from prospect_lib.settings import Settings

TP2 = "/com.snowplowanalytics.snowplow/tp2"
SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"
USER = "iglu:com.acme/user/jsonschema/1-0-3"
ITEM = "iglu:com.acme/item/jsonschema/2-0-0"


def entities(*schemas: str) -> dict[str, str]:
    return {"co": json.dumps({"schema": "s", "data": [{"schema": s, "data": {}} for s in schemas]})}


def event(kind: str, app: str = "website", **fields: str) -> dict[str, str]:
    return {"e": kind, "eid": str(uuid4()), "duid": "u", "aid": app, **fields}


ITEM_FIELDS = {"ue_pr": json.dumps({"schema": "s", "data": {"schema": ITEM, "data": {"n": 1}}})}
SENT = [
    event("pv", page="first"),
    event("pp"),
    event("ue", **ITEM_FIELDS, **entities(USER)),
    event("pv", app="hs-landing", page="last", **entities(USER, ITEM)),
]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_sandbox(Settings(home=tmp_path))
    client = app.test_client()
    data = [*SENT, {"e": "?"}, {"e": "pv", "eid": "7"}]
    assert client.post(TP2, data=json.dumps({"data": data})).status_code == 200
    yield client
    app.extensions["sandbox"].events.close()


def kinds(answer: Any) -> list[tuple[str, str]]:
    """Kind and app of what was answered."""
    return [(one["eventType"], one["event"]["app_id"]) for one in answer.get_json()]


VIEW, PING = ("page_view", "website"), ("page_ping", "website")
OWN, LANDING = ("unstruct", "website"), ("page_view", "hs-landing")


def test_counters_and_reset(client: FlaskClient) -> None:
    assert client.get("/micro/all").get_json() == {"total": 6, "good": 4, "bad": 2}
    nothing = {"total": 0, "good": 0, "bad": 0}
    assert client.post("/micro/reset").get_json() == nothing
    assert client.get("/micro/all").get_json() == nothing
    assert client.get("/micro/good").get_json() == client.get("/micro/bad").get_json() == []


def test_a_good_event_has_its_type_schema_and_entities(client: FlaskClient) -> None:
    last, own, *_ = client.get("/micro/good").get_json()
    assert set(last) == {"eventType", "schema", "contexts", "event"}
    assert last["schema"] == f"{SNOWPLOW}/page_view/jsonschema/1-0-0"
    assert "contexts_com_acme_user_1" in last["contexts"]
    assert (own["eventType"], own["schema"]) == ("unstruct", ITEM)
    assert own["event"]["unstruct_event_com_acme_item_2"] == {"n": 1}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [LANDING, OWN, PING, VIEW]),
        ({"event_type": "page_view"}, [LANDING, VIEW]),
        ({"event_type": "pv"}, [LANDING, VIEW]),
        ({"event_type": "item"}, [OWN]),
        ({"schema": ITEM}, [OWN]),
        ({"contexts": [USER]}, [LANDING, OWN]),
        ({"contexts": [USER, ITEM]}, [LANDING]),
        ({"contexts": ["contexts_com_acme_user_1"]}, [LANDING, OWN]),
        ({"app_id": "website"}, [OWN, PING, VIEW]),
        ({"app_id": "website", "event_type": "pv", "limit": 1}, [VIEW]),
        ({"limit": 2}, [LANDING, OWN]),
        ({"limit": 0}, []),
        ({"schema": None, "app_id": "nobody's"}, []),
    ],
)
def test_filters(client: FlaskClient, filters: dict[str, Any], expected: list[Any]) -> None:
    assert kinds(client.post("/micro/good", json=filters)) == expected
    query = {name: value for name, value in filters.items() if value is not None}
    assert kinds(client.get("/micro/good", query_string=query)) == expected


def test_bad_events_with_their_reasons(client: FlaskClient) -> None:
    rejected = client.get("/micro/bad").get_json()
    assert [one["payload"]["e"] for one in rejected] == ["pv", "?"]
    (one,) = client.post("/micro/bad", json={"reason": "UUID"}).get_json()
    assert one["errors"] == ["field 'eid' is '7', expected a UUID"]
    assert len(client.get("/micro/bad?limit=1").get_json()) == 1


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("good", b"[]", "a JSON object is required"),
        ("good", b"{", "a JSON object is required"),
        ("good", b'{"limit": -1}', "limit is '-1'"),
        ("good", b'{"limit": "many"}', "limit is 'many'"),
        ("good", b'{"schema": 7}', "schema is 7"),
        ("good", b'{"contexts": "x"}', "contexts: expected a list"),
        ("good", b'{"contexts": [{}]}', "contexts: expected a list"),
        ("good", b'{"kind": "pv"}', "'kind'; expected some of app_id, contexts"),
        ("good", b'{"limit": ' + b"[" * 50_000, ""),
        ("good", b'{"limit": 1e999}', "too large"),
        ("bad", b'{"schema": "x"}', "'schema'; expected some of limit, reason"),
    ],
)
def test_a_wrong_filter_is_named(client: FlaskClient, path: str, body: bytes, message: str) -> None:
    answer = client.post(f"/micro/{path}", data=body, content_type="application/json")
    assert answer.status_code == 422 and message in str(answer.get_json()["detail"])


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", ""])
def test_the_network_sees_no_events_without_the_token(client: FlaskClient, address: str) -> None:
    there = {"REMOTE_ADDR": address}
    for path in ("all", "good", "bad", "reset"):
        assert client.get(f"/micro/{path}", environ_base=there).status_code == 401
    bearer = {"Authorization": f"Bearer {token(Path(client.application.config['PROSPECT_HOME']))}"}
    assert client.get("/micro/all", environ_base=there, headers=bearer).get_json()["good"] == 4


def test_a_page_of_another_website_cannot_reset(client: FlaskClient) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/micro/reset", headers=elsewhere).status_code == 401
    forwarded = {"Host": "127.0.0.1:9090", "X-Forwarded-For": "203.0.113.9"}
    assert client.get("/micro/good", headers=forwarded).status_code == 401
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        named = {"Origin": origin, "Host": "127.0.0.1:9090"}
        assert client.post("/micro/reset", headers=named).status_code == 401
    renamed = {"Host": "evil.example:9090", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/micro/good", headers=renamed).status_code == 401
    for broken in ("[::1", "a b", "", "[x]:1"):
        assert client.get("/micro/good", headers={"Host": broken}).status_code in (400, 401)
    own = {"Sec-Fetch-Site": "same-origin", "Host": "127.0.0.1:9090"}
    own |= {"Origin": "http://127.0.0.1:9090"}
    assert client.get("/micro/all", headers=own).get_json()["good"] == 4
