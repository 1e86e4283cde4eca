"""Events join the anchors by the property of the attribute key, wherever an event has it."""

from typing import Any

import duckdb
import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    AttributeKey,
    EntityProperty,
    EventProperty,
    StreamAttributeGroup,
    domain_sessionid,
    network_userid,
    user_id,
)

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.aggregation.keys import NOBODY, identifier, key_name
from prospect_lib.sql.compiler import attributes_sql
from tests.support.worlds import DEVICE, ITEM, START, event, events_table

PLACE = {"vendor": "com.acme", "name": "item", "major_version": 1}
BUYER = AttributeKey(name="buyer", property=EventProperty(**PLACE, path="buyer.id"))
MACHINE = AttributeKey(
    name="machine",
    property=EntityProperty(
        vendor="nl.basjes", name="yauaa_context", major_version=1, path="serial"
    ),
)
VISITOR = AttributeKey(name="visitor", property=AtomicProperty(name="user_id"))


def group_by(key: AttributeKey) -> StreamAttributeGroup:
    counted = Attribute(name="n", type="int64", events=[], aggregation="counter")
    return StreamAttributeGroup(
        name="g", attribute_key=key, owner="a@example.com", attributes=[counted]
    )


def counts(key: AttributeKey, events: list[dict[str, Any]], *identifiers: Any) -> list[Any]:
    """The number of events of each identifier, by the statement."""
    sql = attributes_sql(group_by(key), events="events", anchors="anchors")
    with duckdb.connect() as connection:
        connection.register("events", events_table(events))
        connection.execute(
            f"CREATE TABLE anchors AS SELECT unnest($ids) AS {key.name}, $at AS anchor_ts",
            {"ids": list(identifiers), "at": START.replace(tzinfo=None)},
        )
        rows = connection.execute(sql).fetchall()
    numbers = {row[0]: row[-1] for row in rows}
    return [numbers[each if each is None else str(each)] for each in identifiers]


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        (user_id, lambda value: {"user_id": value}),
        (network_userid, lambda value: {"network_userid": value}),
        (domain_sessionid, lambda value: {"domain_sessionid": value}),
        (VISITOR, lambda value: {"user_id": value}),
        (AttributeKey.model_construct(name="member", key="user_id", property=None, ttl=None),
         lambda value: {"user_id": value}),
        (BUYER, lambda value: {ITEM: {"buyer": {"id": value}}}),
        (MACHINE, lambda value: {DEVICE: [{"serial": value}, {"serial": "other"}]}),
    ],
)  # fmt: skip
def test_any_key_joins_events_and_anchors(key: AttributeKey, columns: Any) -> None:
    values = ["ä'b", "7", "7", None, *NOBODY]
    events = [event(START, **columns(value)) for value in values]
    assert counts(key, events, "ä'b", "7", "else", None, *NOBODY) == [1, 2] + [None] * 4
    assert [identifier(group_by(key), each) for each in events] == ["ä'b", "7", "7"] + [None] * 3


def test_an_anchor_s_number_is_the_key_as_text() -> None:
    events = [event(START, user_id="7")]
    assert counts(user_id, events, 7, 8) == [1, None]


def test_a_group_s_hash_includes_where_the_key_is() -> None:
    moved = AttributeKey(name="buyer", property=EventProperty(**PLACE, path="payer.id"))
    assert group_hash(group_by(BUYER)) != group_hash(group_by(moved))
    assert key_name(group_by(moved)) == "buyer"
