"""The contract of /predict and its companions, and what follows a score."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from flask import request
from snowplow_signals import AttributeKey, user_id

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import ModelError, ProspectError, SettingsError
from prospect_lib.features import FEATURES
from prospect_lib.model.calibration import logit
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from prospect_lib.problem import prospect_problem
from prospect_lib.server.app import Options, create_app
from prospect_lib.server.schemas import PredictResponse
from prospect_lib.settings import Settings
from tests.support.fake_signals import TOKEN, FakeSignals
from tests.support.serving import (
    AT,
    COLD,
    DOWN,
    OTHER_VISITOR,
    PUBLIC,
    VISITOR,
    WARM,
    FixedScore,
    MemoryAttributes,
    PlainScore,
    Rule,
    app_of,
    post,
    save_and_promote,
)
from tests.support.synthetic import training_table
from tests.support.waiting import wait_for


def test_the_contract_of_an_answer(model):
    answer = post(app_of(model)).get_json()
    assert list(answer) == [
        "signals", "scoring_attributes", "explanations", "base_value", "score",
        "model_version", "scored_at", "decision", "cold_start", "stale",
    ]  # fmt: skip
    assert answer["signals"] == {"domain_userid": VISITOR, **WARM}
    assert list(answer["scoring_attributes"]) == [feature.name for feature in FEATURES]
    assert answer["scoring_attributes"]["num_sessions_l7d"] == 2
    assert answer["scoring_attributes"]["had_conversions_l7d"] is False
    assert len(answer["explanations"]) == 6
    assert list(answer["explanations"])[-1] == "__sum_of_others"
    log_odds = answer["base_value"] + sum(answer["explanations"].values())
    assert log_odds == pytest.approx(float(logit(answer["score"])), abs=1e-6)
    assert answer["score"] == model.score(WARM, AT).score
    assert answer["model_version"] == model.version
    assert datetime.fromisoformat(answer["scored_at"]) == AT
    assert answer["decision"] == {
        "name": "invite", "threshold": None, "act": False, "suppressed_by": None,
        "held_out": False, "holdout_share": 0.0,
    }  # fmt: skip
    assert (answer["cold_start"], answer["stale"]) == (False, False)
    PredictResponse.model_validate_json(json.dumps(answer))


def test_an_unknown_visitor_is_a_cold_start(model):
    answer = post(app_of(model), {"domain_userid": OTHER_VISITOR}).get_json()
    assert answer["cold_start"] is True
    assert float(logit(answer["score"])) == pytest.approx(answer["base_value"])
    assert answer["explanations"] == {}
    assert answer["base_value"] == model.score(WARM, AT).base_value
    assert set(answer["signals"].values()) == {None, OTHER_VISITOR}


@pytest.mark.parametrize("nothing", [None, 0])
def test_a_visitor_of_whom_nothing_is_known_is_never_invited(nothing):
    scorer = Rule()
    scorer.threshold = 0.0
    unknown = COLD | {"num_page_views_l7d": nothing}
    answer = post(app_of(scorer, MemoryAttributes({VISITOR: unknown}))).get_json()
    assert answer["cold_start"] is True
    assert answer["decision"]["act"] is False


def test_after_a_form_the_decision_is_not_to_act_and_says_why():
    scorer = Rule()
    scorer.threshold = 0.0
    asked = MemoryAttributes({VISITOR: COLD | {"num_conversions_l30d": 1}})
    decision = post(app_of(scorer, asked)).get_json()["decision"]
    assert decision["act"] is False
    assert decision["suppressed_by"] == "num_conversions_l30d"


@pytest.mark.parametrize(
    ("of_scorer", "of_options", "act"), [(0.5, None, True), (0.7, None, False), (0.7, 0.6, True)]
)
def test_the_threshold_of_the_options_comes_before_that_of_the_scorer(of_scorer, of_options, act):
    scorer = Rule()
    scorer.threshold = of_scorer
    decision = post(app_of(scorer, options=Options(threshold=of_options))).get_json()["decision"]
    assert (decision["threshold"], decision["act"]) == (of_options or of_scorer, act)


def test_the_threshold_in_the_models_manifest_decides(model):
    manifest = {**model.manifest, "threshold": {"score": 0.0}}
    decision = post(app_of(ProspectModel(model.booster, manifest, FEATURES))).get_json()["decision"]
    assert (decision["threshold"], decision["act"]) == (0.0, True)


@pytest.mark.parametrize(
    ("holdout", "views", "act", "held_out"),
    [(0.0, 2, True, False), (1.0, 2, False, True), (1.0, 1, False, False)],
)
def test_a_held_out_session_is_chosen_and_not_acted_on(holdout, views, act, held_out, caplog):
    attributes = MemoryAttributes({VISITOR: WARM | {"num_pricing_views_l7d": views}})
    pushed = []
    app = app_of(
        attributes=attributes,
        options=Options(holdout=holdout),
        push=lambda visitor, _values: pushed.append(visitor) or "success",
    )
    decision = post(app).get_json()["decision"]
    for close in app.extensions["prospect_closers"]:
        close()
    assert (decision["act"], decision["held_out"]) == (act, held_out)
    assert decision["holdout_share"] == holdout
    assert pushed == [VISITOR] * act
    assert ("nobody is invited" in caplog.text) == (holdout == 1)


@pytest.mark.parametrize("holdout", [-0.1, 1.5, float("nan")])
def test_a_holdout_that_is_no_share_is_refused(holdout):
    with pytest.raises(SettingsError, match=f"holdout={holdout}: expected the share of sessions"):
        app_of(options=Options(holdout=holdout))


def test_explanations_can_be_turned_off(model):
    answer = post(app_of(model, options=Options(explain=False))).get_json()
    assert answer["explanations"] == {}
    assert answer["score"] == model.score(WARM, AT).score


def test_a_rule_can_take_the_models_place():
    answer = post(app_of(Rule())).get_json()
    assert (answer["score"], answer["model_version"]) == (0.6, "rule-1")
    assert list(answer["scoring_attributes"]) == [feature.name for feature in FEATURES]


def test_a_remote_scorer_can_take_the_models_place():
    class Remote:
        """A client of another service."""

        version = "remote"

        def __init__(self, url: str) -> None:
            self.url = url

        def score(self, attributes: dict[str, Any], at: datetime) -> PlainScore:
            body = {"attributes": attributes, "at": at.isoformat()}
            headers = {"Authorization": f"Bearer {TOKEN}"}
            answer = requests.post(self.url, json=body, headers=headers, timeout=10).json()
            return PlainScore(answer["score"], answer["why"])

    with FakeSignals({}) as fake:
        fake.mode, fake.body = "body", b'{"score": 0.25, "why": {"anything": 1.5}}'
        app = app_of(Remote(fake.url))
        answer = post(app).get_json()
        assert (answer["score"], answer["explanations"]) == (0.25, {"anything": 1.5})
        assert fake.calls[-1][1]["attributes"]["num_page_views_l7d"] == 7
    gone = post(app)
    assert (gone.status_code, gone.get_json()["title"]) == (503, "The model fails")


def test_a_model_of_another_group_is_refused_at_start(model):
    with pytest.raises(ModelError, match=r"latest_app_id.*'prospect_lib_sample'"):
        app_of(model, problem=sample_group)


@dataclass
class ByUser(MemoryAttributes):
    """Attributes from memory by user_id."""

    def read(self, identifier: str) -> dict[str, Any]:
        return {**super().read(identifier), "domain_userid": None, "user_id": identifier}


def test_a_model_of_a_group_of_ones_own_is_served_from_its_folder(tmp_path: Path):
    group = prospect_group.model_copy(update={"name": "shop", "attribute_key": user_id})
    table = training_table(visitors=200)
    table = table.rename_columns(["user_id", *table.column_names[1:]])
    shop = replace(prospect_problem, name="shop", group=group, decision="call")
    save_and_promote(
        tmp_path, ProspectModel.fit(table, problem=shop, recipe=Recipe(rounds=5), calibrate=False)
    )
    source = ByUser({'eve "é"': WARM})
    settings = Settings(home=tmp_path / "home", sandbox_port=1)
    app = app_of(str(tmp_path), source, problem=shop, settings=settings, push=lambda *_: "success")
    answer = post(app, {"user_id": 'eve "é"'}).get_json()
    assert answer["signals"]["user_id"] == 'eve "é"' and not answer["cold_start"]
    assert answer["decision"]["name"] == "call"
    assert post(app, {"user_id": "new"}).get_json()["score"] != answer["score"]
    assert app.test_client().get("/health").get_json()["ready"]
    for close in app.extensions["prospect_closers"]:
        close()
    log = tmp_path / "home" / "served-shop" / "2026-11-23.ndjson"
    assert json.loads(log.read_bytes().splitlines()[0])["user_id"] == 'eve "é"'
    with pytest.raises(ModelError, match="attribute group name 'shop', but"):
        app_of(tmp_path, source)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((Rule(), {}), "source of create_app is a dict, expected an object with read(identifier)"),
        ((Rule(), ByUser(), "home"), "settings of create_app is a str, expected Settings"),
        (("no such folder", ByUser()), "no model is promoted in no such folder"),
        ((Rule(), ByUser(), None, {"problem": "shop.py"}), "a str is no scoring problem"),
        ((Rule(), ByUser(), None, {"options": {}}), "options of create_app is a dict"),
        ((Rule(), ByUser(), None, {"problem": "key"}), "the attribute key is named 'score'"),
    ],
)
def test_arguments_of_other_types_are_refused_in_one_line(arguments, sentence):
    positional = [each for each in arguments if not isinstance(each, dict) or each == {}]
    named = dict(arguments[3]) if len(arguments) > 3 else {}
    if named.get("problem") == "key":
        key = AttributeKey(name="score")
        named["problem"] = prospect_group.model_copy(update={"attribute_key": key})
    with pytest.raises(ProspectError) as refusal:
        create_app(*positional, **named)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_object_that_cannot_score_is_refused_at_start():
    with pytest.raises(ModelError, match=r"expected an object with score\(attributes, at\)"):
        app_of(object())


# ---- health, documents, hooks ----


def test_health_of_a_server_that_can_score(model):
    answer = app_of(model).test_client().get("/health")
    assert (answer.status_code, answer.get_json()) == (
        200,
        {
            "live": True,
            "ready": True,
            "model": {"version": model.version, "refused": None},
            "signals": "ok",
        },
    )


def test_health_while_signals_fails_hides_the_reason_from_the_public(model):
    broken = app_of(model, MemoryAttributes(error=DOWN)).test_client()
    answer = broken.get("/health")
    assert (answer.status_code, answer.get_json()["live"]) == (503, True)
    assert answer.get_json()["signals"] == "Signals cannot be reached."
    public = broken.get("/health", headers=PUBLIC).get_json()
    assert public["signals"] == "failing"


def test_health_does_not_call_signals_each_time():
    attributes = MemoryAttributes()
    client = app_of(attributes=attributes).test_client()
    for _ in range(20):
        client.get("/health")
    assert attributes.calls == 1


def test_the_openapi_document_describes_the_answers(model):
    client = app_of(model).test_client()
    document = client.get("/openapi.json").get_json()
    schemas = {"components": document["components"]}
    responses = document["paths"]["/predict"]["post"]["responses"]

    def validate(response) -> None:
        content = responses[str(response.status_code)]["content"][response.mimetype]
        jsonschema.validate(response.get_json(), content["schema"] | schemas)

    validate(post(client.application))
    for bad in ({}, [], {"domain_userid": ""}):
        validate(post(client.application, bad))
    validate(post(client.application, headers=PUBLIC))
    validate(post(app_of(options=Options(public_scores=True)), headers=PUBLIC))
    validate(post(app_of(attributes=MemoryAttributes(error=DOWN))))
    assert set(document["paths"]) == {rule.rule for rule in client.application.url_map.iter_rules()}


def test_hooks_of_a_user_see_every_request_and_their_headers_are_sent():
    app, before, after = app_of(options=Options(caller_limit="2 per minute")), [], []

    @app.before_request
    def count() -> None:
        before.append(request.path)

    @app.after_request
    def mark(response):
        after.append(response.status_code)
        response.headers["X-Mark"] = "1"
        return response

    client = app.test_client()
    responses = [
        post(app),
        post(app, {}),
        client.get("/health"),
        client.get("/nothing"),
        client.get("/predict"),
        client.options("/predict"),
        post(app, headers={"Origin": "https://other.example"}),
        post(app, headers=PUBLIC),
    ]
    assert after == [200, 422, 200, 404, 405, 200, 403, 401]
    assert len(before) == len(after)
    assert {response.headers["X-Mark"] for response in responses} == {"1"}


# ---- what follows a score ----


def test_every_score_is_logged_for_audit(tmp_path: Path):
    app = app_of(settings=Settings(home=tmp_path, sandbox_port=1), push=lambda *_: "success")
    answer = post(app).get_json()
    post(app, {})
    for close in app.extensions["prospect_closers"]:
        close()
    (line,) = (tmp_path / "served" / "2026-11-23.ndjson").read_text().splitlines()
    about = {"domain_userid": VISITOR, "key": "domain_userid"}
    about["group"] = prospect_group.name
    about["group_hash"] = group_hash(prospect_group)
    assert json.loads(line) == {**about, **answer}


@pytest.mark.parametrize(("options", "home"), [(Options(served_days=0), True), (None, False)])
def test_the_log_of_served_scores_can_be_turned_off(tmp_path: Path, options, home):
    kwargs = {"settings": Settings(home=tmp_path, sandbox_port=1)} if home else {}
    app = app_of(options=options, **kwargs)
    post(app)
    for close in app.extensions["prospect_closers"]:
        close()
    assert not (tmp_path / "served").exists()


def test_an_intervention_is_pushed_once_when_the_decision_is_to_act():
    pushed = []

    def push(visitor, attributes):
        pushed.append((visitor, attributes["score"]))
        return "success"

    attributes = MemoryAttributes({VISITOR: COLD})
    app = app_of(attributes=attributes, push=push)
    post(app)
    attributes.rows[VISITOR] = WARM
    for _ in range(3):
        post(app)
    for close in app.extensions["prospect_closers"]:
        close()
    assert pushed == [(VISITOR, "0.6000")]


def test_scores_are_reported_to_the_local_board(tmp_path: Path):
    (tmp_path / "token").write_text(TOKEN)
    with FakeSignals({}) as fake:
        settings = Settings(home=tmp_path, sandbox_port=fake.port)
        answer = post(app_of(settings=settings, push=lambda *_: "success")).get_json()
        wait_for(lambda: fake.calls)
    ((path, record),) = fake.calls
    assert path == "/sandbox/scores"
    assert {**record, "domain_userid": VISITOR, **answer} == record
    assert record["signals"]["domain_userid"] == VISITOR


def test_with_another_signals_nothing_is_reported_to_a_board(tmp_path: Path):
    with FakeSignals({}) as fake:
        values = {"SP_SANDBOX_URL": fake.url, "SP_SANDBOX_TOKEN": TOKEN}
        settings = Settings(home=tmp_path, sandbox_port=fake.port, values=values)
        app = app_of(FixedScore(PlainScore(0.1, {})), settings=settings)
        post(app)
        for close in app.extensions["prospect_closers"]:
            close()
    assert fake.calls == []
