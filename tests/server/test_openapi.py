"""Schemathesis reads the OpenAPI document and looks for answers that contradict it."""

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from snowplow_signals import user_id

from prospect_lib.attributes import prospect_group
from prospect_lib.server.app import Options, create_app
from tests.support.fuzzing import drawing
from tests.support.serving import DOWN, MemoryAttributes, Rule

UNLIMITED = Options(caller_limit="1000000 per minute", visitor_limit="1000000 per minute")
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
FUZZ = drawing(100)


def operations(app):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    return [operation.ok() for operation in schema.get_all_operations()]


BY_USER = prospect_group.model_copy(update={"attribute_key": user_id})
UP = operations(create_app(Rule(), MemoryAttributes(), options=UNLIMITED))
UP_BY_USER = operations(create_app(Rule(), MemoryAttributes(), options=UNLIMITED, problem=BY_USER))
WHILE_DOWN = operations(create_app(Rule(), MemoryAttributes(error=DOWN), options=UNLIMITED))


@pytest.mark.parametrize("mode", GenerationMode)
@FUZZ
@given(st.data())
def test_answers_are_as_documented(mode, data):
    operation = data.draw(st.sampled_from([*UP, *UP_BY_USER]))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    case.call_and_validate(checks=CHECKS)


@FUZZ
@given(st.data())
def test_answers_are_as_documented_while_signals_is_down(data):
    case = data.draw(data.draw(st.sampled_from(WHILE_DOWN)).as_strategy())
    response = case.call_and_validate(checks=CHECKS[1:])
    assert response.status_code < 500 or response.status_code == 503


def test_the_document_has_the_attribute_key_of_the_server():
    for app_operations, key in ((UP, "domain_userid"), (UP_BY_USER, "user_id")):
        (predict,) = [one for one in app_operations if one.path == "/predict"]
        schema = predict.schema.raw_schema["components"]["schemas"]["PredictRequest"]
        assert list(schema["properties"]) == schema["required"] == [key]
        assert schema["properties"][key]["examples"] and schema["properties"][key]["description"]


def test_every_operation_is_in_the_document():
    assert {operation.path for operation in UP} == {
        "/predict", "/health", "/metrics", "/prospect.js",
    }  # fmt: skip
