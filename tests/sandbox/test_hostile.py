"""Hostile input: no answer is an error of the server, no good neighbour is lost."""

import base64
import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.collector.payloads import MAX_BODY, payloads_of
from prospect_lib.sandbox.home import token
from prospect_lib.sandbox.signals_api.registry import Registry
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse

TP2 = "/com.snowplowanalytics.snowplow/tp2"
MANY = settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
VALID = {
    "e": "ue", "eid": "", "duid": "u", "aid": "website", "dtm": "1767606000000",
    "stm": "1767606001000", "vid": "3", "url": "https://s.example/?utm_medium=cpc",
    "refr": "https://t.co/", "res": "9x9", "pp_mix": "1", "se_va": "2", "ua": "Chrome",
}  # fmt: skip

texts = st.text(max_size=12) | st.sampled_from(
    ["\ud800", "a\x00b", "9" * 5000, "1e999", "NaN", "-1", "http://[", "https://h:99999/", "'\";--"]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts
    | st.sampled_from([10**400, 10**299, -1e308, float("nan"), float("inf")])
)  # fmt: skip
names = st.sampled_from([*VALID, "ue_pr", "ue_px", "co", "cx", "ttm", "data", "schema"]) | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
schemas = texts | st.builds(
    "iglu:{}/{}/jsonschema/{}-0-0".format,
    st.sampled_from(["com.acme", "x" * 300, "a.B-c_", "contexts", "com_acme", "é", '"; DROP']),
    st.sampled_from(["n", "event_id", "y" * 300, "Select", "a b", "ADDToCart"]),
    st.sampled_from(["1", "0", "01", "99999999999999999999", "-1"]),
)
described = st.fixed_dictionaries({"schema": schemas, "data": anything})


@st.composite
def payloads(draw: st.DrawFn) -> Any:
    """Mostly valid, with some fields exchanged for anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(anything)
    payload: dict[str, Any] = {**VALID, "eid": str(uuid4())}
    event, entities = draw(described), draw(st.lists(described | anything, max_size=2))
    payload["ue_pr"] = json.dumps({"schema": "s", "data": event})
    payload["co"] = json.dumps({"schema": "s", "data": entities})
    if draw(st.booleans()):
        code = base64.urlsafe_b64encode(payload.pop("co").encode()).decode()
        payload["cx"] = code[: draw(st.integers(0, len(code)))]
    payload.update(draw(st.dictionaries(names, texts | anything, max_size=2)))
    return payload


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    home = tmp_path_factory.mktemp("hostile")
    app = create_sandbox(Settings(home=home))
    yield app.test_client()
    app.extensions["sandbox"].events.close()


def good() -> dict[str, str]:
    return {"e": "pv", "eid": str(uuid4()), "duid": "neighbour", "url": "https://s.example/"}


def counts(client: FlaskClient) -> dict[str, int]:
    found: dict[str, int] = client.get("/micro/all").get_json()
    return found


# --- the collector ---------------------------------------------------------------------------


@MANY
@given(hostile=st.lists(payloads(), min_size=1, max_size=3), zipped=st.booleans())
def test_any_payload_is_kept_or_named_and_its_neighbour_is_kept(
    client: FlaskClient, hostile: list[Any], zipped: bool
) -> None:
    before, neighbour = counts(client), good()
    body = json.dumps({"schema": "s", "data": [*hostile, neighbour]}).encode()
    headers = {"Content-Encoding": "gzip"} if zipped else {}
    answer = client.post(TP2, data=gzip.compress(body) if zipped else body, headers=headers)
    after = counts(client)
    assert answer.status_code == 200
    storage = client.application.extensions["sandbox"].events
    assert neighbour["eid"] in {row["event_id"] for row in storage.of_visitor("neighbour")}
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
    """Bodies as an attacker writes them, and what the bad log says of each."""
    packed = gzip.compress(json.dumps({"data": [good()]}).encode())
    return {
        "cut gzip": (packed[:-9], "cut short"),
        "no gzip": (b"{}" * 9, "not gzip"),
        "bomb": (gzip.compress(b" " * (MAX_BODY + 1)), "larger than"),
        "deep": (gzip.compress(b"[" * 500_000), "too deeply"),
        "deep object": (gzip.compress(b'{"data":' * 100_000), "too deeply"),
        "not UTF-8": (gzip.compress(b'{"data": ["\xff\xfe"]}'), "not JSON"),
        "no list": (gzip.compress(b'{"data": 7}'), "expected a list"),
    }


@pytest.mark.parametrize("kind", bodies())
def test_a_hostile_body_leaves_its_reason(client: FlaskClient, kind: str) -> None:
    body, said = bodies()[kind]
    answer = client.post(TP2, data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200
    assert said in client.get("/micro/bad").get_json()[0]["reason"]


def test_a_body_over_the_limit_is_refused_and_noted(client: FlaskClient) -> None:
    assert client.post(TP2, data=b"x" * (MAX_BODY + 1)).status_code == 413
    assert "larger than" in client.get("/micro/bad").get_json()[0]["reason"]


@pytest.mark.parametrize(
    "hostile",
    ["[" * 9000 + "]" * 9000, "9" * 9000, "NaN", "-Infinity", '{"e": "\\ud800"}', "1e999"],
)
def test_what_breaks_parsers_does_not_take_the_neighbour_along(
    client: FlaskClient, hostile: str
) -> None:
    before, neighbour = counts(client), good()
    body = f'{{"data": [{hostile}, {json.dumps(neighbour)}]}}'
    assert client.post(TP2, data=body).status_code == 200
    after = counts(client)
    assert (after["good"] - before["good"], after["bad"] - before["bad"]) == (1, 1)


def test_depths_are_cut_outside_strings_only() -> None:
    deep = b'[{"a": ' * 2000 + b"1" + b"}]" * 2000
    found = payloads_of(b'{"data": ["]}\\"[[", ' + deep + b', {"e": "pv"}]}')
    assert found[0] == ']}"[[' and found[2] == {"e": "pv"}


def test_everything_kept_can_be_read_back(client: FlaskClient) -> None:
    """By Micro's endpoints, after a restart, and by DuckDB in another connection."""
    kept = client.get("/micro/good").get_json()
    assert len(kept) == counts(client)["good"] > 100
    home = Path(client.application.config["PROSPECT_HOME"])
    warehouse = DuckDBWarehouse.over_home(home)
    ids = warehouse.query("SELECT event_id FROM events")["event_id"].to_pylist()
    warehouse.close()
    assert sorted(ids) == sorted(row["event"]["event_id"] for row in kept)
    again = create_sandbox(Settings(home=home))
    events = again.extensions["sandbox"].events
    assert events.counts == client.application.extensions["sandbox"].events.counts
    events.close()


# --- the Signals API -------------------------------------------------------------------------

GROUP = prospect_group.model_dump(mode="json", exclude_none=True, by_alias=True)
SERVICE = prospect_service.model_dump(mode="json", exclude_none=True, by_alias=True)
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "registry/attribute_groups/", GROUP),
    ("PUT", f"registry/attribute_groups/{prospect_group.name}/versions/1", GROUP),
    ("POST", "registry/services/", SERVICE),
    ("PUT", f"registry/services/{prospect_service.name}", SERVICE),
    ("POST", "registry/attribute_keys/", {"name": "k", "key": "domain_userid"}),
    ("POST", "registry/interventions/", {"name": "i", "version": 1}),
    (
        "POST",
        "get-online-attributes",
        {"service": prospect_service.name, "attribute_keys": {"domain_userid": ["u"]}},
    ),
    (
        "POST",
        "get-online-attributes",
        {"attributes": ["g_v1:a"], "attribute_keys": {"domain_userid": ["u"]}},
    ),
    (
        "POST",
        "testing/attribute_groups/",
        {"attribute_group": GROUP, "window": "PT1H", "app_ids": ["website"]},
    ),
    ("POST", "testing/attribute_groups/", {"attribute_group": GROUP}),
    ("POST", "interventions?domain_userid=u", {"name": "i", "version": 1, "attributes": {}}),
    ("POST", "interventions", {"name": "i", "version": 1}),
]


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with something exchanged, left out or added somewhere inside."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(anything)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    if draw(st.integers(0, 5)) == 0:
        del copy[key]
    else:
        copy[key] = mutated(draw, value[key])
    return copy


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, Any]:
    method, path, body = draw(st.sampled_from(CALLS))
    return method, path, mutated(draw, body)


def call(client: FlaskClient, method: str, path: str, body: Any) -> int:
    home = Path(client.application.config["PROSPECT_HOME"])
    headers = {"Authorization": f"Bearer {token(home)}", "Content-Type": "application/json"}
    data = json.dumps(body)
    answer = client.open(f"/api/v1/{path}", method=method, data=data, headers=headers)
    assert answer.get_json() is not None
    return answer.status_code


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's, about its "key"
@MANY
@given(one=calls())
@example(
    one=(
        "PUT",
        f"registry/services/{prospect_service.name}",
        {**SERVICE, "attribute_groups": False},
    )
)
@example(one=("POST", "registry/services/", {**SERVICE, "attribute_groups": 7}))
@example(one=("POST", "registry/services/", {**SERVICE, "attribute_groups": [{"name": None}]}))
def test_no_call_makes_the_api_fail(client: FlaskClient, one: tuple[str, str, Any]) -> None:
    for method, path, body in (CALLS[0], CALLS[2]):  # so that there is something to break
        call(client, method, path, body)
    status = call(client, *one)
    assert status < 500
    if status < 300 and "attribute_groups/" in one[1] and "name" in one[2]:
        full = f"{one[2]['name']}_v{int(one[2].get('version', 1))}"  # true is 1
        wanted = [f"{full}:{a['name']}" for a in one[2].get("attributes") or []]
        body = {"attributes": wanted, "attribute_keys": {"domain_userid": ["neighbour", "u"]}}
        assert call(client, "POST", "get-online-attributes", body) in (200, 422)
    assert call(client, "GET", "registry/attribute_groups/", None) == 200


@pytest.mark.parametrize(
    ("window", "status"),
    [(None, 200), ("PT5M", 200), ("P99999Y", 422), ("-PT1H", 422), (7e300, 422), ("PT0S", 422)],
)
def test_the_window_of_a_test_is_respected(client: FlaskClient, window: Any, status: int) -> None:
    minutes_ago = {**good(), "duid": "w", "ttm": str(int((time.time() - 600) * 1000))}
    client.post(TP2, data=json.dumps({"data": [minutes_ago]}))
    home = Path(client.application.config["PROSPECT_HOME"])
    body = {"attribute_group": GROUP, "attribute_key_ids": ["w"], "window": window}
    answer = client.post(
        "/api/v1/testing/attribute_groups/",
        json={name: value for name, value in body.items() if value is not None},
        headers={"Authorization": f"Bearer {token(home)}"},
    )
    assert answer.status_code == status
    if status == 200:
        assert bool(answer.get_json()[0]["num_page_views_l7d"]) == (window is None)


@pytest.mark.parametrize("part", [{"name": "another"}, {"version": 2}])
def test_put_of_another_object_than_the_address_names_is_refused(
    client: FlaskClient, part: dict[str, Any]
) -> None:
    call(client, "POST", "registry/attribute_groups/", GROUP)
    assert call(client, "PUT", CALLS[1][1], {**GROUP, **part}) == 422


@pytest.mark.parametrize(
    "content", ["", "[]", "7", '{"services": 5}', '{"services": {"s": 1}}', "\x00", "{" * 99999]
)
def test_a_damaged_registry_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "registry.json").write_text(content)
    with pytest.raises(SettingsError, match=r"registry\.json cannot be read"):
        Registry(tmp_path)
