"""Criteria of rule-based interventions."""

import pytest
from snowplow_signals import RuleIntervention

from prospect_lib.sandbox.signals_api.rules import holds, names_in


def criteria(nested):
    rule = {"name": "r", "version": 1, "owner": "a@example.com", "criteria": nested}
    return RuleIntervention(**rule).criteria


def leaf(operator, value=None, name="g_v1:a"):
    return {"attribute": name, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("value", "operator", "operand", "expected"),
    [
        (2, "=", 2, True), (2, "!=", 2, False), (2, "<", 3, True), (2, ">", 2, False),
        (2, "<=", 2, True), (2, ">=", 3, False), ("email", "=", "email", True),
        ("email", "like", "em%", True), ("email", "not like", "em%", False),
        ("email", "rlike", "^e.*l$", True), ("email", "not rlike", "x", True),
        ("email", "rlike", "(", False), ("email", "in", ["cpc", "email"], True),
        ("email", "not in", ["cpc"], True), (None, "is null", None, True),
        (2, "is not null", None, True), (None, "=", 0, False), (None, "!=", 0, False),
        (None, "not in", ["x"], False), (["a", "b"], ">=", 2, True), ("two", "<", 3, False),
        (2, "changed", None, True), (1, "changed", None, False),
    ],
)  # fmt: skip
def test_operators(value, operator, operand, expected):
    assert holds(criteria(leaf(operator, operand)), {"g_v1:a": value}, {"g_v1:a": 1}) is expected


@pytest.mark.parametrize(
    ("nested", "expected"),
    [
        ({"all": [leaf(">", 1), leaf("<", 3)]}, True),
        ({"all": [leaf(">", 1), leaf("<", 2)]}, False),
        ({"any": [leaf(">", 5), {"all": [leaf("=", 2), leaf("=", "x", "g_v1:b")]}]}, True),
        ({"none": [leaf(">", 5), leaf("=", 9)]}, True),
        ({"none": [leaf("=", 2)]}, False),
    ],
)
def test_nesting(nested, expected):
    assert holds(criteria(nested), {"g_v1:a": 2, "g_v1:b": "x"}, {}) is expected


def test_the_attributes_in_criteria_are_listed():
    nested = {"any": [leaf("=", 1), {"none": [leaf("=", 1, "h_v2:b")]}]}
    assert names_in(criteria(nested)) == {"g_v1:a", "h_v2:b"}
