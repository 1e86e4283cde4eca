"""Who may call: local callers, tokens, proxies, origins, rate limits, security headers."""

from pathlib import Path

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.files import ensure_secret
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
        {"headers": {"X-Real-IP": "127.0.0.1"}},
        {"headers": {"X-Forwarded-Server": "proxy"}},
        {"headers": {"CF-Connecting-IP": "127.0.0.1"}},
        {"headers": {"Host": "scores"}},
        {"headers": {"Host": ""}},
        {"environ_overrides": {"SERVER_PROTOCOL": "HTTP/1.0"}},
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
    options = Options(public_scores=True, behind_proxy=True)
    answer = post(app_of(options=options), headers=PUBLIC).get_json()
    hidden = ("signals", "scoring_attributes", "explanations", "base_value")
    assert [answer[key] for key in hidden] == [None] * 4
    assert (answer["score"], answer["decision"]["act"]) == (0.6, True)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_token_of_pages_is_for_scores_and_the_operators_for_everything(tmp_path: Path):
    options, failing = Options(token_file=tmp_path / "token"), MemoryAttributes(error=DOWN)
    app, down = app_of(options=options), app_of(attributes=failing, options=options)
    client = app.test_client()
    pages, operator = ((tmp_path / name).read_text() for name in ("token", "token.operator"))
    assert pages != operator
    answers = [post(app, headers=bearer(token)) for token in (pages, operator)]
    assert [answer.get_json()["score"] for answer in answers] == [0.6, 0.6]
    assert client.get("/metrics", headers=bearer(operator)).status_code == 200
    is_problem(client.get("/metrics", headers=bearer(pages)), 403, r"scores only.*FILE\.operator")
    for token, signals in ((pages, "failing"), (operator, str(DOWN))):
        assert post(down, headers=bearer(token)).status_code == 503
        health = down.test_client().get("/health", headers=bearer(token)).get_json()
        assert health["signals"] == signals
    for headers in ({}, PUBLIC):
        is_problem(client.get("/metrics", headers=headers), 401, r"operator's token.*FILE\.oper")
        is_problem(post(app, headers=headers), 401, "token of this server's snippet")


def test_without_a_token_the_refusal_says_how_the_owner_gets_one():
    is_problem(post(app_of(), headers=PUBLIC), 401, r"no token\. Its owner.*--token-file FILE")


def test_after_a_restart_the_same_tokens_are_valid(tmp_path: Path):
    options = Options(token_file=tmp_path / "token")
    first, second = (app_of(options=options).extensions["prospect_guard"] for _ in range(2))
    assert (first.issue_token(), first.headers) == (second.token, second.headers)
    first.revoke_token()
    assert first.token == second.token, "a tunnel that closes leaves a token of a file valid"


def test_a_token_file_that_cannot_be_used_is_refused(tmp_path: Path):
    file = tmp_path / "token"
    (tmp_path / "token.operator").write_text(ensure_secret(file))
    (tmp_path / "token.operator").chmod(0o600)
    with pytest.raises(SettingsError, match="hold the same token"):
        app_of(options=Options(token_file=file))
    with pytest.raises(SettingsError, match=r"File exists\. Name a file in a folder of yours"):
        app_of(options=Options(token_file=file / "x"))


def test_behind_a_proxy_nobody_is_trusted_for_calling_from_this_machine(tmp_path: Path):
    options = Options(token_file=tmp_path / "token", behind_proxy=True)
    app = app_of(options=options)
    is_problem(post(app), 401, "snippet")
    token = bearer((tmp_path / "token").read_text())
    assert post(app, headers=token).get_json()["signals"]
    assert post(app, headers=token | PUBLIC).get_json()["signals"]
    with pytest.raises(SettingsError, match=r"trusts nobody.*Options\(token_file=.*PREDICT_TOKEN"):
        app_of(options=Options(behind_proxy=True))


def test_behind_a_proxy_callers_are_counted_by_the_address_that_it_adds(tmp_path: Path, caplog):
    options = Options(token_file=tmp_path / "token", behind_proxy=True, caller_limit="2 per minute")
    app = app_of(options=options)
    token = bearer((tmp_path / "token").read_text())
    proxy = {"environ_overrides": {"REMOTE_ADDR": "172.17.0.2"}}
    for address in ("1.1.1.1", "2.2.2.2", "3.3.3.3, 1.1.1.1", "1.1.1.1"):
        answer = post(app, headers=token | {"X-Forwarded-For": address}, **proxy)
    assert answer.status_code == 429
    assert not caplog.messages
    assert [post(app, headers=token).status_code for _ in range(3)] == [200, 200, 429]
    assert [message for message in caplog.messages if "no X-Forwarded-For" in message] == [
        caplog.messages[0]
    ]


def test_the_address_that_another_machine_claims_to_forward_does_not_count():
    app = app_of(options=Options(caller_limit="2 per minute"))
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.168.0.7"}}
    statuses = [
        post(app, headers={"X-Forwarded-For": f"1.1.1.{n}"}, **elsewhere).status_code
        for n in range(3)
    ]
    assert statuses == [401, 401, 429]


@pytest.mark.parametrize(
    "origin",
    [SITE, "http://localhost:9090", SHOP, "http://[::1]:3000", "https://xn--bcher-kva.example"],
)
def test_pages_of_allowed_origins_may_call(origin):
    origins = (f"{SHOP}/", "http://[::1]:3000", "https://Bücher.example")
    app = app_of(options=Options(origins=origins))
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


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", f"{SHOP}.evil.example", "null", SITE[:-1], ""],
)
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


def test_an_origin_of_another_shape_is_refused():
    with pytest.raises(SettingsError, match=r"Write it as https://www\.example\.com$"):
        app_of(options=Options(origins=("www.example.com",)))


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
    here = {"Authorization": bearer["Authorization"]}
    assert [post(app, headers=here).status_code for _ in range(20)] == [200] * 20


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
