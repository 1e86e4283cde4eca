"""Who may call: local callers, the token, origins, rate limits, security headers."""

import pytest

from prospect_lib.server.app import Options
from tests.support.serving import (
    DOWN,
    OTHER_VISITOR,
    PUBLIC,
    SHOP,
    SITE,
    VISITOR,
    MemoryAttributes,
    app_of,
    is_problem,
    post,
)


def test_public_callers_need_the_token():
    app = app_of()
    guard = app.extensions["prospect_guard"]
    is_problem(post(app, headers=PUBLIC), 401, "token")
    token = guard.issue_token()
    bearer = {"Authorization": f"Bearer {token}"}
    assert post(app, headers=PUBLIC | bearer).get_json()["signals"]
    for wrong in ("", "Bearer ", "Bearer x", f"Basic {token}", token, "Bearer \xff"):
        response = post(app, headers=PUBLIC | {"Authorization": wrong})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    guard.revoke_token()
    assert post(app, headers=PUBLIC | bearer).status_code == 401


@pytest.mark.parametrize(
    "request_parts",
    [
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"X-Forwarded-Proto": "https"}},
        {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"headers": {"Via": "1.1 proxy"}},
        {"headers": {"Host": "evil.example:9091"}},
        {"headers": {"Host": "127.0.0.1.evil.example"}},
        {"headers": {"Host": "[::1"}},
        {"environ_overrides": {"REMOTE_ADDR": "192.168.0.7"}},
        {"environ_overrides": {"REMOTE_ADDR": ""}},
    ],
    ids=repr,
)
def test_a_forwarded_request_or_another_host_is_not_local(request_parts):
    assert post(app_of(), **request_parts).status_code in (400, 401)


@pytest.mark.parametrize("host", ["127.0.0.1:9091", "localhost:9091", "localhost", "[::1]:9091"])
def test_a_loopback_host_is_local(host):
    assert post(app_of(), headers={"Host": host}).status_code == 200


def test_the_public_sees_only_the_score_if_the_owner_allows_it():
    answer = post(app_of(options=Options(public_scores=True)), headers=PUBLIC).get_json()
    hidden = ("signals", "scoring_attributes", "explanations", "base_value")
    assert [answer[key] for key in hidden] == [None] * 4
    assert (answer["score"], answer["decision"]["act"]) == (0.6, True)


def test_metrics_need_the_token_too():
    is_problem(app_of().test_client().get("/metrics", headers=PUBLIC), 401, "token")


@pytest.mark.parametrize("origin", [SITE, "http://localhost:9090", SHOP])
def test_pages_of_allowed_origins_may_call(origin):
    app = app_of(options=Options(origins=(f"{SHOP}/",)))
    answer = post(app, headers={"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"
    sent = ["authorization", "content-type", "ngrok-skip-browser-warning"]
    preflight = app.test_client().options(
        "/predict",
        headers=PUBLIC
        | {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ", ".join(sent),
            "Access-Control-Request-Private-Network": "true",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    allowed = preflight.headers["Access-Control-Allow-Headers"]
    assert set(sent) <= {name.strip().lower() for name in allowed.split(",")}
    assert preflight.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Credentials" not in preflight.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", ""])
def test_pages_of_other_origins_are_refused(origin):
    response = post(app_of(), headers={"Origin": origin})
    is_problem(response, 403, "origin")
    assert "Access-Control-Allow-Origin" not in response.headers


def test_any_page_may_load_the_client():
    client, stranger = app_of().test_client(), {"Origin": "https://any.example"}
    ask = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "ngrok-skip-browser-warning",
    }
    for answer in (
        client.options("/prospect.js", headers=PUBLIC | stranger | ask),
        client.get("/prospect.js", headers=PUBLIC | stranger),
    ):
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == stranger["Origin"]


def test_pages_of_allowed_origins_can_read_errors():
    response = post(app_of(attributes=MemoryAttributes(error=DOWN)), headers={"Origin": SITE})
    assert response.status_code == 503
    assert response.headers["Access-Control-Allow-Origin"] == SITE
    assert response.headers["Access-Control-Expose-Headers"] == "Retry-After"


def test_callers_and_visitors_have_rate_limits_and_this_machine_has_none():
    app = app_of(options=Options(caller_limit="5 per minute", visitor_limit="3 per minute"))
    token = app.extensions["prospect_guard"].issue_token()
    bearer = {"Authorization": f"Bearer {token}", "Host": "abc.ngrok.app"}

    def ask(caller: str, visitor: str):
        headers = bearer | {"X-Forwarded-For": caller}
        return post(app, {"domain_userid": visitor}, headers=headers)

    assert [ask("1.1.1.1", VISITOR).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert ask("2.2.2.2", VISITOR).status_code == 429, "the visitor's limit is for all callers"
    assert [ask("1.1.1.1", OTHER_VISITOR).status_code for _ in range(2)] == [200, 429]
    assert ask("spoofed, 1.1.1.1", OTHER_VISITOR).status_code == 429, "the tunnel's entry counts"
    limited = ask("1.1.1.1", OTHER_VISITOR)
    is_problem(limited, 429, "5 per 1 minute")
    assert 1 <= int(limited.headers["Retry-After"]) <= 61
    assert [post(app).status_code for _ in range(20)] == [200] * 20


def test_security_headers_are_on_every_answer():
    client = app_of().test_client()
    for response in (post(client.application), client.get("/x"), client.get("/prospect.js")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert response.headers.getlist("Vary") == ["Origin"]
    assert post(client.application).headers["Cache-Control"] == "no-store"
    assert client.get("/prospect.js").headers["Cache-Control"] == "max-age=300"
