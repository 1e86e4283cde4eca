"""Hostile calls of the Signals API: no answer is an error of the server."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import SettingsError
from prospect_lib.sandbox.home import token
from prospect_lib.sandbox.signals_api.registry import Registry
from tests.support.hostile import MANY, anything

TP2 = "/com.snowplowanalytics.snowplow/tp2"


def good() -> dict[str, str]:
    return {"e": "pv", "eid": str(uuid4()), "duid": "neighbour", "url": "https://s.example/"}


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
def test_any_call_has_a_documented_answer(client: FlaskClient, one: tuple[str, str, Any]) -> None:
    for method, path, body in (CALLS[0], CALLS[2]):  # so that there is something to break
        call(client, method, path, body)
    status = call(client, *one)
    assert status in (200, 400, 401, 404, 409, 422)
    if status < 300 and "attribute_groups/" in one[1] and "name" in one[2]:
        full = f"{one[2]['name']}_v{int(one[2].get('version', 1))}"  # true is 1
        names = [f"{full}:{a['name']}" for a in one[2].get("attributes") or []]
        body = {"attributes": names, "attribute_keys": {"domain_userid": ["neighbour", "u"]}}
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
