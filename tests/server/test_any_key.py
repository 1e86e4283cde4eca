"""Scores by any attribute key: from a tracker's events to /predict, an intervention, the audit."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from snowplow_signals import (
    Attribute,
    AttributeKey,
    EntityProperty,
    Event,
    RuleIntervention,
    Service,
    StreamAttributeGroup,
    domain_sessionid,
    network_userid,
    user_id,
)

from prospect_lib import signals
from prospect_lib.jobs.audit import AuditOptions, run_audit
from prospect_lib.jobs.publishing import publish
from prospect_lib.monitoring.audit import audit
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.problem import ScoringProblem
from prospect_lib.sandbox.simulation.traffic import send
from prospect_lib.server.app import create_app
from prospect_lib.server.interventions import pusher
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse
from tests.support.sandbox import page_view
from tests.support.serving import FixedScore, PlainScore

CUSTOMER = AttributeKey(
    name="customer_id",
    property=EntityProperty(vendor="com.acmeCorp", name="customer", major_version=1, path="id"),
)


def customer(identifier: str) -> dict[str, str]:
    """The field of a tracker's payload with the entity of a customer."""
    entity = {"schema": "iglu:com.acmeCorp/customer/jsonschema/1-0-0", "data": {"id": identifier}}
    return {"co": json.dumps({"schema": "contexts", "data": [entity]})}


@dataclass(frozen=True)
class Case:
    """An attribute key, two identifiers, and how a tracker sends one of them."""

    key: AttributeKey
    one: str
    other: str
    fields: Callable[[str], dict[str, str]]


CASES = [
    Case(user_id, "eve+1@example.com", 'O\'Hara "é"', lambda who: {"uid": who}),
    Case(domain_sessionid, str(uuid4()), "s-2", lambda who: {"sid": who}),
    Case(network_userid, "0123456789abcdef", "n-2", lambda who: {"tnuid": who}),
    Case(CUSTOMER, "c/1", "c 2", customer),
]


def problem_by(key: AttributeKey) -> ScoringProblem:
    group = StreamAttributeGroup(
        name=f"by_{key.name}",
        version=1,
        attribute_key=key,
        owner="a@example.com",
        ttl=timedelta(days=30),
        attributes=[
            Attribute(
                name="num_page_views",
                type="int64",
                events=[Event(name="page_view")],
                aggregation="counter",
            )
        ],
    )
    service = Service(name=f"{group.name}_service", owner=group.owner, attribute_groups=[group])
    return ScoringProblem(group.name, group, service)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key.name)
def test_a_visitor_of_any_key_is_scored_invited_and_audited(running: Settings, case: Case) -> None:
    problem = problem_by(case.key)
    publish(running, problem, say=lambda _: None)
    app = create_app(
        FixedScore(PlainScore(0.5, {})), signals.reader(running, problem), running, problem=problem
    )
    client, sdk = app.test_client(), signals.connect(running)

    def predict(identifier: str) -> dict[str, Any]:
        answer = client.post("/predict", json={problem.key: identifier})
        assert answer.status_code == 200, answer.text
        return dict(answer.get_json())

    assert predict(case.one)["cold_start"]
    views = [(case.one, 2), (case.other, 1)]
    for identifier, times in views:
        payloads = [page_view(duid=str(uuid4()), **case.fields(identifier)) for _ in range(times)]
        send(running.sandbox_url, payloads)
    for identifier, times in views:
        answer = predict(identifier)
        assert answer["signals"] == {problem.key: identifier, "num_page_views": times}
        assert answer["signals"] == sdk.get_service_attributes(
            problem.service.name, problem.key, identifier
        )
        assert not answer["cold_start"]
    other_key = client.post("/predict", json={"domain_userid": case.one})
    assert other_key.status_code == 422
    assert f'Send {{"{problem.key}": "<identifier>"}}' in other_key.get_json()["detail"]
    for close in app.extensions["prospect_closers"]:
        close()

    folder = problem.folder(running.home, "served")
    served = read_served(folder, problem)
    expected = [case.one, case.one, case.other]
    assert served[problem.key].to_pylist() == expected
    with closing(DuckDBWarehouse.over_home(running.home)) as warehouse:
        report = audit(warehouse, served, problem)
    assert (report.scores, report.exit_code) == (3, 0), report.summary()
    lines: list[str] = []
    result = run_audit(running, AuditOptions(problem=problem), say=lines.append)
    assert result.exit_code == 0 and result.page.parent == problem.folder(running.home, "audit")
    assert any("no outcome is known yet" in line for line in lines)


@pytest.mark.parametrize("case", [CASES[0], CASES[3]], ids=lambda case: case.key.name)
def test_interventions_and_rules_reach_a_visitor_of_any_key(running: Settings, case: Case) -> None:
    problem = problem_by(case.key)
    publish(running, problem, say=lambda _: None)
    criterion = {"attribute": f"{problem.group.name}_v1:num_page_views", "operator": "changed"}
    rule = RuleIntervention(
        name=f"rule_{problem.key}", version=1, owner="a@example.com", criteria=criterion
    )
    signals.connect(running).publish([rule])
    address = f"{running.sandbox_url}/api/v1/interventions"
    with requests.get(address, params={problem.key: case.one}, stream=True, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b": connected"
        assert pusher(running, "by_hand", problem.key)(case.one, {}) == "success"
        send(running.sandbox_url, [page_view(**case.fields(case.one))])
        messages = [line for line in (next(lines) for _ in range(5)) if line.startswith(b"data")]
    names = [json.loads(message[5:])["name"] for message in messages]
    assert names[:2] == ["by_hand", rule.name]


def test_attributes_of_another_key_than_the_group_has_are_refused(running: Settings) -> None:
    problem = problem_by(user_id)
    publish(running, problem, say=lambda _: None)
    with pytest.raises(Exception, match="422"):
        signals.connect(running).get_service_attributes(problem.service.name, "domain_userid", "u1")
