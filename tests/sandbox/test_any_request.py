"""Random requests at the whole sandbox: every answer is one that ``docs/sandbox.md`` lists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox import token
from prospect_lib.sandbox.signals_api.registry import OBJECT_KINDS
from tests.support.fuzzing import drawing
from tests.support.hostile import anything, payloads, texts

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"
DOCUMENTED = {
    int(status)
    for row in re.findall(r"^\| (\d{3}[\d, ]*) \|", DOCUMENT.read_text(), re.MULTILINE)
    for status in row.split(",")
}
GROUP, SERVICE = (
    each.model_dump(mode="json", exclude_none=True, by_alias=True)
    for each in (prospect_group, prospect_service)
)
LOOK_UP = {"service": prospect_service.name, "attribute_keys": {"domain_userid": ["u"]}}
PATHS = [
    "/", "/pricing", "/blog/last-loaf", "/thank-you", "/config.json", "/board", "/board/state",
    "/assets/one-morning.webm", "/tracker/x.js", "/sandbox/scores", "/health", "/i", "/a/tp2",
    "/scores/predict", "/scores/prospect.js",
    "/micro/all", "/micro/good", "/micro/bad", "/micro/reset", "/api/v1/interventions",
    "/api/v1/get-online-attributes", "/api/v1/testing/attribute_groups/", "/api/v1/datasets/sql",
    "/api/msc/v1/organizations/o/credentials/v3/token", "/api/v1/registry/services",
    *(f"/api/v1/registry/{kind}/" for kind in OBJECT_KINDS),
    f"/api/v1/registry/attribute_groups/{prospect_group.name}/versions/1",
    f"/api/v1/registry/services/{prospect_service.name}",
]  # fmt: skip
plain = st.text('abc/_?&=%+:;,.-*"<>{}[]0123456789é\u2028', max_size=12)
paths = st.sampled_from(PATHS) | st.builds(str.__add__, st.sampled_from(PATHS), plain)
bodies = (
    st.sampled_from([GROUP, SERVICE, LOOK_UP, {"attribute_group": GROUP}]).map(json.dumps)
    | st.builds(lambda sent: json.dumps({"schema": "s", "data": sent}), st.lists(payloads()))
    | anything.map(json.dumps)
    | st.binary(max_size=40)
)
headers = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Content-Encoding", "Range", "If-Match", "If-None-Match", "Cookie",
         "If-Modified-Since", "Sec-Fetch-Site", "Origin", "X-API-Key", "X-API-Key-Id", "Accept",
         "X-Forwarded-For", "SP-Anonymous", "Access-Control-Request-Method"]
    ),
    st.sampled_from(
        ["application/json", "gzip", "bytes=0-9", "bytes=9-", '"x"', "cross-site", "*", "sp=x"]
    )
    | st.text("abc=;,/*\"0123456789-", max_size=12),
    max_size=3,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's, about its "key"
@drawing(200)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]),
    path=paths,
    query=st.dictionaries(texts, texts, max_size=3) | st.just({"domain_userid": "u"}),
    body=bodies,
    headers=headers,
    signed_in=st.booleans(),
)
def test_any_request_has_a_documented_answer(
    client: FlaskClient,
    method: str,
    path: str,
    query: dict[str, str],
    body: str | bytes,
    headers: dict[str, str],
    signed_in: bool,
) -> None:
    registry = client.application.extensions["sandbox"].registry
    if signed_in:
        secret = token(Path(client.application.config["PROSPECT_HOME"]))
        headers = {**headers, "Authorization": f"Bearer {secret}"}
    before = published(registry)
    sent: dict[str, Any] = {"method": method, "data": body, "headers": headers}
    sent["query_string"] = {
        n.encode("utf-8", "replace"): v.encode("utf-8", "replace") for n, v in query.items()
    }
    with client.open(path.partition("?")[0], **sent) as answer:
        assert answer.status_code in DOCUMENTED
        assert (answer.status_code == 503) <= path.startswith("/scores/"), "no server is announced"
        assert (answer.status_code == 501) <= ("/datasets/" in path)
        if answer.status_code >= 400 and answer.status_code != 412:  # of a file, without a body
            assert answer.mimetype == "application/problem+json"
            assert published(registry) == before
            if method != "HEAD":
                assert answer.get_json()["status"] == answer.status_code


def published(registry: Any) -> str:
    return json.dumps([registry.every(kind) for kind in OBJECT_KINDS])
