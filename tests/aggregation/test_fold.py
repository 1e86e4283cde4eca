"""Each aggregation, one fact at a time, as the documentation of Signals describes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    EntityProperty,
    EventProperty,
    StreamAttributeGroup,
    domain_userid,
)

from prospect_lib.aggregation.criteria import like
from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.aggregation.properties import column_of, path_of
from prospect_lib.attributes import prospect_group, prospect_service, sample_group, tutorial_group
from prospect_lib.errors import DataError
from prospect_lib.features import FEATURES, features_of, from_attributes

T0 = datetime(2026, 1, 5, tzinfo=UTC)
APP, PRICE = (
    AtomicProperty(name="app_id"),
    EventProperty(vendor="a.b", name="buy", major_version=1, path="price"),
)


def value(kind: str, aggregation: Any, *seen: Any, prop: Any = APP, **more: Any) -> Any:
    """The aggregation of values that occurred one second apart, an hour after the first."""
    attribute = Attribute(
        name="x", type=kind, events=[], aggregation=aggregation, property=prop, **more
    )
    group = StreamAttributeGroup(
        name="g", attribute_key=domain_userid, owner="a@example.com", attributes=[attribute]
    )
    events = [
        {
            "derived_tstamp": T0 + timedelta(seconds=i),
            "app_id": item,
            column_of(PRICE): {"price": item},
        }
        for i, item in enumerate(seen)
    ]
    return attribute_values(group, reversed(events), T0 + timedelta(hours=1))["x"]


@pytest.mark.parametrize(
    ("kind", "aggregation", "seen", "expected"),
    [
        ("int64", "counter", "aab", 3),
        ("int64", "counter", "", None),
        ("string", "first", [None, "a", "b"], "a"),
        ("string", "last", ["a", "b", None], "b"),
        ("string_list", "unique_list", "abcab", ["c", "a", "b"]),
        ("string_list", "unique_list", [None], None),
        ("string", "most_frequent", "abba", "a"),
        ("string", "least_frequent", "abbca", "c"),
        ("dict", "category_count", "abb", {"b": 2, "a": 1}),
        ("int64", "approx_count_distinct", "abb", 2),
    ],
)
def test_aggregations_of_texts(kind: str, aggregation: str, seen: Any, expected: Any) -> None:
    assert value(kind, aggregation, *seen) == expected


@pytest.mark.parametrize(
    ("kind", "aggregation", "expected"),
    [
        ("double", "sum", 7.5),
        ("int64", "sum", 8),
        ("double", "min", 1),
        ("double", "max", 4),
        ("double", "mean", 2.5),
    ],
)
def test_aggregations_of_numbers_ignore_other_values(
    kind: str, aggregation: str, expected: float
) -> None:
    assert value(kind, aggregation, 1, "2.5", None, "x", 4, prop=PRICE) == expected


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", 3599), ("min", 3599 / 60), ("h", 3599 / 3600), ("d", 3599 / 86400)]
)
def test_ages_are_in_the_attribute_s_unit(unit: str, expected: float) -> None:
    assert value("double", "time_since_last", "a", "b", prop=None, time_unit=unit) == pytest.approx(
        expected
    )
    assert value("double", "time_since_first", "a", "b", prop=None, time_unit="s") == 3600


def test_a_default_value_replaces_a_missing_one() -> None:
    assert value("int64", "counter", default_value=0) == 0


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (Criteria(all=[Criterion.eq(APP, "a"), Criterion.neq(APP, "b")]), 1),
        (Criteria(any=[Criterion.eq(APP, "a"), Criterion.eq(APP, "b")]), 2),
        (Criteria(all=[Criterion.is_null(APP)]), 1),
        (Criteria(all=[Criterion.neq(APP, "a")]), 1),
        (Criteria(all=[Criterion.in_list(APP, ["a", "z"])]), 1),
        (Criteria(all=[Criterion.like(APP, "_")]), 2),
    ],
)
def test_criteria_compare_as_sql_does(criteria: Criteria, expected: int) -> None:
    assert value("int64", "counter", "a", "b", None, criteria=criteria) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("%pricing%", "/pricing/x", True),
        ("a_c", "abc", True),
        ("a_c", "ac", False),
        ("a.c", "abc", False),
        ("a%", "a\nb", True),
    ],
)
def test_like(pattern: str, text: str, expected: bool) -> None:
    assert like(pattern, text) is expected


def test_columns_and_paths_follow_the_loaders() -> None:
    entity = EntityProperty(
        vendor="nl.basjes", name="yauaaContext", major_version=2, path="$.a[1].b", index=3
    )
    assert column_of(entity) == "contexts_nl_basjes_yauaa_context_2"
    assert path_of(entity) == [3, "a", 1, "b"]


@pytest.mark.parametrize(
    "stamp", [T0, T0.replace(tzinfo=None), "2026-01-05T00:00:00Z", "2026-01-05 01:00:00+01:00"]
)
def test_an_event_s_time_may_be_a_datetime_or_text(stamp: Any) -> None:
    event = {"derived_tstamp": stamp, "event_name": "page_view", "event_version": "1-0-0",
             "event_vendor": "com.snowplowanalytics.snowplow"}  # fmt: skip
    assert attribute_values(sample_group, [event], T0)["num_page_views"] == 1
    assert (
        attribute_values(sample_group, [event], T0, include_anchor=False)["num_page_views"] is None
    )


@pytest.mark.parametrize("stamp", [None, "yesterday", 5])
def test_an_event_without_a_time_is_refused_by_its_id(stamp: Any) -> None:
    with pytest.raises(DataError, match=r"'e1'.*derived_tstamp"):
        attribute_values(sample_group, [{"event_id": "e1", "derived_tstamp": stamp}], T0)


# --- the catalogue and its features ------------------------------------------------------------


def test_the_catalogue_has_23_attributes_with_lifetimes() -> None:
    assert len(prospect_group.attributes) == 23 and len(tutorial_group.attributes) == 19
    assert all((a.period is None) != (a.ttl is None) for a in prospect_group.attributes)
    assert prospect_service.attribute_groups[0].name == prospect_group.name


def test_the_hash_changes_only_with_the_meaning() -> None:
    renamed = prospect_group.model_copy(update={"description": "other", "is_published": True})
    assert group_hash(renamed) == group_hash(prospect_group)
    ttl = {"ttl": timedelta(days=365)}  # as Signals may set it
    key = prospect_group.attribute_key.model_copy(update=ttl)
    kept = prospect_group.model_copy(update={"attribute_key": key})
    assert group_hash(kept) == group_hash(prospect_group)
    shorter, longer = (g.model_copy(update={"ttl": None}) for g in (prospect_group, kept))
    assert group_hash(shorter) != group_hash(longer)
    fewer = prospect_group.model_copy(update={"attributes": prospect_group.attributes[1:]})
    assert group_hash(fewer) != group_hash(prospect_group)


def test_the_24_features_and_their_rules() -> None:
    values: dict[str, Any] = {a.name: None for a in prospect_group.attributes}
    values |= {"num_apps_l7d": ["a", "b"], "num_conversions_l7d": 3, "num_page_views_l7d": 4}
    features = from_attributes(values, datetime(2026, 1, 4, 23, tzinfo=UTC))
    assert list(features) == [f.name for f in FEATURES] and len(features) == 24
    assert features["num_apps_l7d"] == 2 and features["num_page_views_l7d"] == 4
    assert features["had_conversions_l7d"] is True and features["had_conversions_l30d"] is False
    assert features["num_sessions_l7d"] is None and features["day_of_week"] == 7
    assert [f.name for f in features_of(sample_group)][-1] == "day_of_week"


def test_a_missing_attribute_is_named_and_a_naive_datetime_refused() -> None:
    values = {a.name: None for a in prospect_group.attributes[1:]}
    with pytest.raises(DataError, match="latest_app_id"):
        from_attributes(values, T0)
    with pytest.raises(DataError, match="no time zone"):
        from_attributes(values, datetime(2026, 1, 5))
