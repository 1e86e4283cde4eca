"""The contract of /predict, who may call it, and everything that may go wrong around it."""

import json
import logging
import re
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import DataError, ModelError, ServiceError, SettingsError
from prospect_lib.features import FEATURES
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import bundle_path, promote
from prospect_lib.model.training import Recipe
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.server.schemas import PredictResponse
from prospect_lib.settings import Settings
from prospect_lib.signals import AttributeReader, Token
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.fuzzing import drawing
from tests.support.serving import (
    AT,
    COLD,
    DOWN,
    PUBLIC,
    VISITOR,
    WARM,
    Answer,
    Fixed,
    Profiles,
    Rule,
)
from tests.support.synthetic import training_table

SITE = "http://127.0.0.1:9090"


@pytest.fixture(scope="session")
def model() -> ProspectModel:
    recipe = Recipe(rounds=20)
    return ProspectModel.fit(training_table(visitors=300), recipe=recipe, calibrate=False)


def app_of(scorer: Any = None, profiles: Any = None, **given: Any):
    options = given.pop("options", Options())
    return create_app(
        scorer or Rule(), profiles or Profiles(), options=options, clock=lambda: AT, **given
    )


def post(app, body: Any = None, **given: Any):
    body = {"domain_userid": VISITOR} if body is None else body
    return app.test_client().post("/predict", json=body, **given)


def test_the_contract(model):
    answer = post(app_of(model)).get_json()
    assert list(answer) == [
        "signals", "scoring_attributes", "explanations", "score", "model_version",
        "scored_at", "decision", "cold_start", "stale",
    ]  # fmt: skip
    assert answer["signals"] == {"domain_userid": VISITOR, **WARM}
    assert list(answer["scoring_attributes"]) == [feature.name for feature in FEATURES]
    assert answer["scoring_attributes"]["num_sessions_l7d"] == 2
    assert answer["scoring_attributes"]["had_conversions_l7d"] is False
    assert len(answer["explanations"]) == 6
    assert list(answer["explanations"])[-1] == "__sum_of_others"
    assert answer["score"] == model.score(WARM, AT).score
    assert answer["model_version"] == model.version
    assert datetime.fromisoformat(answer["scored_at"]) == AT
    assert answer["decision"] == {"name": "invite", "threshold": None, "act": False}
    assert (answer["cold_start"], answer["stale"]) == (False, False)
    PredictResponse.model_validate_json(json.dumps(answer))


def test_an_unknown_visitor_is_a_cold_start(model):
    answer = post(app_of(model), {"domain_userid": VISITOR.replace("6", "7")}).get_json()
    assert answer["cold_start"] is True
    assert 0 <= answer["score"] <= 1
    assert set(answer["signals"].values()) == {None, VISITOR.replace("6", "7")}


@pytest.mark.parametrize(
    ("own", "chosen", "act"), [(0.5, None, True), (0.7, None, False), (0.7, 0.6, True)]
)
def test_the_decision(own, chosen, act):
    scorer = Rule()
    scorer.threshold = own
    decision = post(app_of(scorer, options=Options(threshold=chosen))).get_json()["decision"]
    assert decision == {"name": "invite", "threshold": chosen or own, "act": act}


def test_the_models_own_threshold_decides(model):
    told = ProspectModel(model.booster, {**model.manifest, "threshold": {"score": 0.0}}, FEATURES)
    decision = post(app_of(told)).get_json()["decision"]
    assert decision == {"name": "invite", "threshold": 0.0, "act": True}


def test_explanations_can_be_left_out(model):
    answer = post(app_of(model, options=Options(explain=False))).get_json()
    assert answer["explanations"] == {}
    assert answer["score"] == model.score(WARM, AT).score


def test_a_rule_in_the_models_place():
    answer = post(app_of(Rule())).get_json()
    assert (answer["score"], answer["model_version"]) == (0.6, "rule-1")
    assert list(answer["scoring_attributes"]) == [feature.name for feature in FEATURES]


def test_a_remote_scorer_in_the_models_place():
    class Remote:
        """Asks another service; anything with score(attributes, at) will do."""

        version = "remote"

        def __init__(self, url: str) -> None:
            self.url = url

        def score(self, attributes: dict[str, Any], at: datetime) -> Answer:
            asked = {"attributes": attributes, "at": at.isoformat()}
            headers = {"Authorization": f"Bearer {TOKEN}"}
            found = requests.post(self.url, json=asked, headers=headers, timeout=1).json()
            return Answer(found["score"], found["why"])

    with FakeSignals({}) as fake:
        fake.mode, fake.body = "body", b'{"score": 0.25, "why": {"anything": 1.5}}'
        app = app_of(Remote(fake.url))
        answer = post(app).get_json()
        assert (answer["score"], answer["explanations"]) == (0.25, {"anything": 1.5})
        assert fake.calls[-1][1]["attributes"]["num_page_views_l7d"] == 7
    gone = post(app)
    assert (gone.status_code, gone.get_json()["title"]) == (503, "The model fails")


# ---- what is refused ----


def is_problem(response, status: int, says: str) -> None:
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    body = response.get_json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert re.search(says, body["detail"]), body["detail"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "Invalid JSON"),
        (b"{", 400, "Invalid JSON"),
        (b"\xff", 400, "Invalid JSON"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'"', 400, "Invalid JSON"),
        (b"[" * 4000, 400, "Invalid JSON"),
        (b"null", 422, "the body"),
        (b"[]", 422, "the body"),
        (b"{}", 422, "domain_userid: Field required"),
        (b'{"domain_userid": null}', 422, "valid string"),
        (b'{"domain_userid": 7}', 422, "valid string"),
        (b'{"domain_userid": ["a"]}', 422, "valid string"),
        (b'{"domain_userid": "me@example.com"}', 422, "expected a UUID"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'\\n"}', 422, "expected a UUID"),
        (b'{"domain_userid": "' + VISITOR.encode() + b'", "email": "x"}', 422, "unknown key"),
        (b" " * 4097, 413, "limit"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_bad_bodies(body, status, says):
    response = app_of().test_client().post("/predict", data=body, content_type="application/json")
    is_problem(response, status, says)
    assert b"me@example.com" not in response.data


def test_another_content_type():
    response = app_of().test_client().post("/predict", data="{}", content_type="text/plain")
    is_problem(response, 415, "application/json")


def test_another_method_and_another_path():
    client = app_of().test_client()
    refused = client.get("/predict")
    is_problem(refused, 405, "not allowed")
    assert "POST" in refused.headers["Allow"]
    is_problem(client.get("/nothing"), 404, "not found")


def test_a_missing_attribute_is_named_and_a_null_is_not_missing(model):
    answered = {name: value for name, value in WARM.items() if name != "num_media_events_l30d"}
    is_problem(
        post(app_of(model, Profiles({VISITOR: answered}))), 503, "lacks num_media_events_l30d"
    )
    answered["num_media_events_l30d"] = None
    assert post(app_of(model, Profiles({VISITOR: answered}))).status_code == 200


def test_an_attribute_of_another_type(model):
    wrong = WARM | {"num_page_views_l7d": "seven"}
    is_problem(post(app_of(model, Profiles({VISITOR: wrong}))), 503, "num_page_views_l7d")


def test_a_model_of_another_group_is_refused_at_start(model):
    with pytest.raises(ModelError, match=r"latest_app_id.*'prospect_scoring_sample'"):
        app_of(model, group=sample_group)


def test_what_cannot_score_is_refused_at_start():
    with pytest.raises(ModelError, match=r"expected an object with score\(attributes, at\)"):
        app_of(object())


@pytest.mark.parametrize(
    "result",
    [
        Answer(float("nan"), {}),
        Answer(1.5, {}),
        Answer(-0.1, {}),
        Answer("high", {}),  # type: ignore[arg-type]
        Answer(0.5, {"a": "b"}),  # type: ignore[dict-item]
        Answer(0.5, None),  # type: ignore[arg-type]
        None,
        ValueError("secret-value"),
        KeyError("secret-value"),
        DataError("attribute"),
        ServiceError("away"),
        RecursionError(),
    ],
    ids=repr,
)
def test_a_scorer_that_fails_is_a_503(result, caplog):
    response = post(app_of(Fixed(result)))
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "secret-value" not in response.get_data(as_text=True) + caplog.text


# ---- Signals fails ----


def test_signals_down_and_nothing_known():
    response = post(app_of(profiles=Profiles(error=DOWN)))
    is_problem(response, 503, "cannot be reached")
    assert response.headers["Retry-After"] == "1"


def test_signals_down_and_the_last_known_value_serves():
    profiles = Profiles()
    app = app_of(profiles=profiles)
    first = post(app).get_json()
    profiles.error = DOWN
    second = post(app).get_json()
    assert second == {**first, "stale": True}


@pytest.mark.parametrize("mode", ["slow", "drop", "body", "401", "500", "drip", "headers"])
def test_every_way_signals_fails_is_answered_in_time(mode):
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.3)
        app = app_of(profiles=reader)
        assert post(app).status_code == 200
        fake.mode, fake.delay, fake.body = mode, 5, b"<html>"
        start = time.monotonic()
        known, unknown = post(app), post(app, {"domain_userid": VISITOR.replace("6", "7")})
        assert time.monotonic() - start < 2
        assert (known.status_code, known.get_json()["stale"]) == (200, True)
        assert unknown.status_code == 503
        assert TOKEN not in unknown.get_data(as_text=True)
        fake.mode = "ok"
        assert post(app).get_json()["stale"] is False


def test_flapping_under_load_never_fails_for_known_visitors():
    with FakeSignals(WARM) as fake:
        reader = AttributeReader(fake.url, Token(lambda: TOKEN), "service", timeout=0.5)
        with Server(app_of(profiles=reader), port=0) as server:
            ask(server)
            fake.modes = ["ok", "drop", "503", "drop", "drop", "401", "ok"] * 40
            statuses = in_threads(8, lambda: [ask(server).status_code for _ in range(20)])
    assert {status for some in statuses for status in some} == {200}


# ---- who may call ----


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
    "given",
    [
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"X-Forwarded-Proto": "https"}},
        {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"headers": {"Host": "evil.example:9091"}},
        {"headers": {"Host": "127.0.0.1.evil.example"}},
        {"headers": {"Host": "[::1"}},
        {"environ_overrides": {"REMOTE_ADDR": "192.168.0.7"}},
        {"environ_overrides": {"REMOTE_ADDR": ""}},
    ],
    ids=repr,
)
def test_who_is_not_local_is_public(given):
    assert post(app_of(), **given).status_code in (400, 401)


@pytest.mark.parametrize("host", ["127.0.0.1:9091", "localhost:9091", "localhost", "[::1]:9091"])
def test_who_is_local(host):
    assert post(app_of(), headers={"Host": host}).status_code == 200


def test_the_public_may_see_the_score_alone_if_the_owner_allows():
    answer = post(app_of(options=Options(public_scores=True)), headers=PUBLIC).get_json()
    hidden = ("signals", "scoring_attributes", "explanations")
    assert [answer[key] for key in hidden] == [None, None, None]
    assert (answer["score"], answer["decision"]["act"]) == (0.6, True)


def test_the_public_is_not_told_what_fails(caplog):
    failing = Profiles(error=ServiceError(f"the answer about {VISITOR} is broken"))
    app = app_of(profiles=failing, options=Options(public_scores=True))
    response = post(app, headers=PUBLIC)
    is_problem(response, 503, "Try again shortly")
    assert VISITOR not in response.get_data(as_text=True) + caplog.text


@pytest.mark.parametrize("origin", [SITE, "http://localhost:9090", "https://shop.example"])
def test_allowed_origins(origin):
    sent = ["authorization", "content-type", "ngrok-skip-browser-warning"]
    app = app_of(options=Options(origins=("https://shop.example/",)))
    answer = post(app, headers={"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
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
def test_other_origins(origin):
    response = post(app_of(), headers={"Origin": origin})
    is_problem(response, 403, "origin")
    assert "Access-Control-Allow-Origin" not in response.headers


def test_errors_can_be_read_by_the_site_too():
    response = post(app_of(profiles=Profiles(error=DOWN)), headers={"Origin": SITE})
    assert response.status_code == 503
    assert response.headers["Access-Control-Allow-Origin"] == SITE


def test_rate_limits_of_a_caller_and_of_a_visitor():
    app = app_of(options=Options(caller_limit="5 per minute", visitor_limit="3 per minute"))
    token = app.extensions["prospect_guard"].issue_token()
    auth = {"Authorization": f"Bearer {token}", "Host": "abc.ngrok.app"}

    def ask(caller: str, visitor: str):
        headers = auth | {"X-Forwarded-For": caller}
        return post(app, {"domain_userid": visitor}, headers=headers)

    other = VISITOR.replace("6", "7")
    assert [ask("1.1.1.1", VISITOR).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert ask("2.2.2.2", VISITOR).status_code == 429, "the visitor's limit is for all callers"
    assert [ask("1.1.1.1", other).status_code for _ in range(2)] == [200, 429]
    assert ask("spoofed, 1.1.1.1", other).status_code == 429, "the tunnel's entry counts"
    limited = ask("1.1.1.1", other)
    is_problem(limited, 429, "5 per 1 minute")
    assert 1 <= int(limited.headers["Retry-After"]) <= 61
    assert [post(app).status_code for _ in range(20)] == [200] * 20, "not on this machine"


def test_security_headers_are_on_every_answer():
    client = app_of().test_client()
    for response in (post(client.application), client.get("/x"), client.get("/prospect.js")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
    assert post(client.application).headers["Cache-Control"] == "no-store"


# ---- health, metrics, documents, logs ----


def test_health(model):
    profiles = Profiles()
    answer = app_of(model, profiles).test_client().get("/health")
    assert (answer.status_code, answer.get_json()) == (
        200,
        {
            "live": True,
            "ready": True,
            "model": {"version": model.version, "refused": None},
            "signals": "ok",
        },
    )
    broken = app_of(model, Profiles(error=DOWN)).test_client()
    answer = broken.get("/health")
    assert (answer.status_code, answer.get_json()["live"]) == (503, True)
    assert answer.get_json()["signals"] == "Signals cannot be reached."
    public = broken.get("/health", headers=PUBLIC).get_json()
    assert public["signals"] == "failing"


def test_health_does_not_ask_signals_each_time():
    profiles = Profiles()
    client = app_of(profiles=profiles).test_client()
    for _ in range(20):
        client.get("/health")
    assert profiles.calls == 1


def test_metrics():
    profiles = Profiles()
    app = app_of(profiles=profiles)
    post(app)
    post(app, {})
    profiles.error = DOWN
    post(app)
    text = app.test_client().get("/metrics").get_data(as_text=True)
    for line in (
        'prospect_requests_total{caller="local",route="/predict",status="200"} 2.0',
        'prospect_requests_total{caller="local",route="/predict",status="422"} 1.0',
        'prospect_request_seconds_count{route="/predict"} 3.0',
        'prospect_attribute_call_seconds_count{outcome="ok"} 1.0',
        'prospect_attribute_call_seconds_count{outcome="error"} 1.0',
        'prospect_score_bucket{le="0.6",model_version="rule-1"} 2.0',
        'prospect_score_bucket{le="0.5",model_version="rule-1"} 0.0',
        'prospect_answers_total{kind="stale"} 1.0',
        'prospect_answers_total{kind="act"} 2.0',
    ):
        assert line in text, line
    assert VISITOR not in text
    is_problem(app.test_client().get("/metrics", headers=PUBLIC), 401, "token")


def test_one_log_line_a_request_without_personal_data(caplog):
    app = app_of()
    with caplog.at_level(logging.INFO, logger="prospect_lib"):
        post(app, headers=PUBLIC)
        post(app)
    refused, served = [json.loads(message) for message in caplog.messages]
    assert {**refused, "ms": 0} == {
        "event": "request", "route": "/predict", "method": "POST", "status": 401,
        "caller": "public", "ms": 0,
    }  # fmt: skip
    assert served.keys() - refused.keys() == {"model_version", "act", "cold_start", "stale"}
    assert not re.search(f"{VISITOR}|203.0.113|website|email", caplog.text)


def test_the_openapi_document_describes_the_answers(model):
    client = app_of(model).test_client()
    document = client.get("/openapi.json").get_json()
    schemas = {"components": document["components"]}
    responses = document["paths"]["/predict"]["post"]["responses"]

    def validate(response) -> None:
        content = responses[str(response.status_code)]["content"][response.mimetype]
        jsonschema.validate(response.get_json(), content["schema"] | schemas)

    validate(post(client.application))
    for bad in ({}, [], {"domain_userid": "x"}):
        validate(post(client.application, bad))
    validate(post(client.application, headers=PUBLIC))
    validate(post(app_of(options=Options(public_scores=True)), headers=PUBLIC))
    validate(post(app_of(profiles=Profiles(error=DOWN))))
    assert set(document["paths"]) == {rule.rule for rule in client.application.url_map.iter_rules()}


# ---- what follows a score ----


def test_every_score_is_logged_for_audit(tmp_path: Path):
    app = app_of(settings=Settings(home=tmp_path, sandbox_port=1), push=lambda *_: "success")
    answer = post(app).get_json()
    post(app, {})
    for close in app.extensions["prospect_closers"]:
        close()
    (line,) = (tmp_path / "served" / "2026-11-23.ndjson").read_text().splitlines()
    about = {"domain_userid": VISITOR, "group_hash": group_hash(prospect_group)}
    assert json.loads(line) == {**about, **answer}


@pytest.mark.parametrize(("options", "settings"), [(Options(served_days=0), True), (None, False)])
def test_the_log_can_be_left_off(tmp_path: Path, options, settings):
    given = {"settings": Settings(home=tmp_path, sandbox_port=1)} if settings else {}
    post(app_of(options=options, **given))
    assert not (tmp_path / "served").exists()


def test_an_intervention_is_pushed_once_when_the_decision_is_to_act():
    pushed, done = [], threading.Event()

    def push(visitor, says):
        pushed.append((visitor, says["score"]))
        done.set()
        return "success"

    profiles = Profiles({VISITOR: COLD})
    app = app_of(profiles=profiles, push=push)
    post(app)
    profiles.rows[VISITOR] = WARM
    for _ in range(3):
        post(app)
    assert done.wait(2)
    assert pushed == [(VISITOR, "0.6000")]


def test_scores_are_reported_to_the_local_board(tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    with FakeSignals({}) as fake:
        port = int(fake.url.rpartition(":")[2])
        settings = Settings(home=tmp_path, sandbox_port=port)
        answer = post(app_of(settings=settings, push=lambda *_: "success")).get_json()
        wait_for(lambda: fake.calls)
    ((path, record),) = fake.calls
    assert path == "/sandbox/scores"
    assert {**record, "domain_userid": VISITOR, **answer} == record
    assert record["signals"]["domain_userid"] == VISITOR


def test_nothing_is_reported_elsewhere(tmp_path: Path):
    with FakeSignals({}) as fake:
        port = int(fake.url.rpartition(":")[2])
        values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
        settings = Settings(home=tmp_path, sandbox_port=port, values=values)
        post(app_of(Fixed(Answer(0.1, {})), settings=settings))
        time.sleep(0.05)
    assert fake.calls == []


# ---- a promoted model ----


def save_and_promote(models: Path, model: ProspectModel) -> None:
    model.save(bundle_path(models, model.version))
    promote(models, model.version)


@pytest.fixture(scope="session")
def challenger() -> ProspectModel:
    table = training_table(visitors=300, seed=1)
    return ProspectModel.fit(table, recipe=Recipe(rounds=10), calibrate=False)


def test_a_promoted_model_takes_over_without_a_request_lost(tmp_path: Path, model, challenger):
    save_and_promote(tmp_path, model)
    with Server(app_of(tmp_path), port=0) as server:
        versions: list[tuple[int, str]] = []
        stop = threading.Event()

        def load() -> None:
            with requests.Session() as session:
                while not stop.is_set():
                    answer = session.post(
                        f"{server.url}/predict", json={"domain_userid": VISITOR}, timeout=5
                    )
                    versions.append((answer.status_code, answer.json().get("model_version")))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: versions)
        save_and_promote(tmp_path, challenger)
        wait_for(lambda: versions[-1][1] == challenger.version)
        (tmp_path / challenger.version / "model.ubj").write_bytes(b"damaged")
        health = f"{server.url}/health"
        wait_for(lambda: requests.get(health, timeout=5).json()["model"]["refused"])
        (tmp_path / "current").write_text("no-such-version")
        time.sleep(1.2)
        save_and_promote(tmp_path, model)
        wait_for(lambda: versions[-1][1] == model.version)
        stop.set()
        for thread in threads:
            thread.join()
        assert requests.get(health, timeout=5).json()["model"]["refused"] is None
    assert {status for status, _ in versions} == {200}
    assert {version for _, version in versions} == {model.version, challenger.version}


def test_without_a_promoted_model_it_does_not_start(tmp_path: Path):
    with pytest.raises(ModelError, match="no model is promoted"):
        app_of(tmp_path)


# ---- the server itself ----


def ask(server: Server, **given: Any) -> requests.Response:
    body = {"domain_userid": VISITOR}
    return requests.post(f"{server.url}/predict", json=body, timeout=5, **given)


def in_threads(number: int, call) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == number
    return results


def wait_for(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_it_starts_answers_and_stops():
    server = Server(app_of(), port=0)
    with server as running:
        assert running.start() is running
        assert ask(running).json()["score"] == 0.6
    server.stop()
    with pytest.raises(requests.ConnectionError):
        ask(server)
    with server:
        assert ask(server).status_code == 200


def test_stopping_answers_what_is_in_flight():
    class Slow(Profiles):
        def read(self, identifier):
            entered.set()
            time.sleep(0.5)
            return super().read(identifier)

    entered = threading.Event()
    server = Server(app_of(profiles=Slow()), port=0).start()
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask(server).status_code))
    asking.start()
    entered.wait(5)
    server.stop()
    asking.join(5)
    assert answers == [200]


def test_stopping_writes_what_was_served(tmp_path: Path):
    settings = Settings(home=tmp_path, sandbox_port=1)
    with Server(app_of(settings=settings, push=lambda *_: "success"), port=0) as server:
        for _ in range(5):
            assert ask(server).status_code == 200
    served = (tmp_path / "served" / "2026-11-23.ndjson").read_text()
    assert served.count(VISITOR) == 10, "in the key and among the attributes"


def test_a_port_in_use():
    with (
        Server(app_of(), port=0) as first,
        pytest.raises(SettingsError, match=rf":{first.port}: the port is in use.*PREDICT_PORT"),
    ):
        Server(app_of(), port=first.port).start()


def test_a_tunnels_headers_reach_the_guard_through_the_real_server():
    with Server(app_of(), port=0) as server:
        assert ask(server).status_code == 200
        assert ask(server, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
        assert ask(server, headers={"Host": "abc.ngrok.app"}).status_code == 401


def test_large_bodies_through_the_real_server():
    with Server(app_of(), port=0) as server:
        for size in (4097, 100_000):
            response = requests.post(
                f"{server.url}/predict",
                data=b" " * size,
                headers={"Content-Type": "application/json"},
                timeout=5,
            )
            assert (response.status_code, response.json()["status"]) == (413, 413)


def test_many_clients_at_once():
    with Server(app_of(), port=0) as server:
        statuses = in_threads(32, lambda: [ask(server).status_code for _ in range(5)])
    assert {status for some in statuses for status in some} == {200}


# ---- anything at all ----

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.uuids().map(str),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["domain_userid", "a"]) | st.text(), inner)
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Origin", "Host", "Authorization", "X-Forwarded-For", "Content-Type", "Content-Encoding"]
    ),
    st.sampled_from(["", "null", SITE, "Bearer x", "application/json", "1.2.3.4", "::1", "gzip"])
    | st.text(st.characters(codec="latin-1", exclude_categories=["C"])),
)
FUZZ = drawing(400)


FREE = Options(caller_limit="1000000 per minute", visitor_limit="1000000 per minute")


@pytest.fixture(scope="module")
def fuzzed():
    return app_of(options=FREE).test_client()


@FUZZ
@given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()), headers=HEADERS)
def test_any_body_and_headers(fuzzed, body, headers):
    headers = {"Content-Type": "application/json"} | headers
    response = fuzzed.post("/predict", data=body, headers=headers)
    assert response.status_code in (200, 400, 401, 403, 413, 415, 422)
    assert response.is_json


@FUZZ
@given(
    path=st.text(st.characters(exclude_categories=["Cs"])),
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"]),
)
def test_any_path(fuzzed, path, method):
    response = fuzzed.open("/" + path.lstrip("/"), method=method)
    assert response.status_code < 500
