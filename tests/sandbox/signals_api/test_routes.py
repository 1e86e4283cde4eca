"""The Signals API as the unmodified SDK sees it, through a running sandbox."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from snowplow_signals import AttributeKeyIdentifiers, InterventionInstance, user_id
from snowplow_signals.api_client import SignalsAPIError
from snowplow_signals.models import WarehouseTable

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.simulation.traffic import happening_now, scripted_visitor, send
from prospect_lib.settings import Settings
from tests.support.sandbox import page_view, publish, without_warehouse
from tests.support.waiting import wait_for


def test_publish_look_up_and_delete_with_the_sdk(running: Settings) -> None:
    client = publish(running)
    client.publish([prospect_group, prospect_service])  # again: 400, then PUT
    group = client.get_attribute_group(prospect_group.name)
    assert group.is_published and group.full_name == "prospect_lib_visitor_v1"
    assert [a.name for a in group.attributes or []] == [a.name for a in prospect_group.attributes]
    for refused in (client.delete, client.unpublish):
        with pytest.raises(SignalsAPIError, match=r"409.*still used by prospect_lib_service"):
            refused([prospect_group])
    with pytest.raises(SignalsAPIError, match=r"409.*prospect_lib_service is published"):
        client.delete([prospect_service])
    client.unpublish([prospect_service])
    client.delete([prospect_service])
    client.unpublish([prospect_group])
    client.delete([prospect_group])
    with pytest.raises(SignalsAPIError, match="404"):
        client.get_attribute_group(prospect_group.name)


def test_live_attributes_follow_a_scripted_visit(running: Settings) -> None:
    client = publish(running)
    visitor, session = str(uuid4()), str(uuid4())
    cold = client.get_service_attributes(prospect_service.name, "domain_userid", visitor)
    assert all(value is None for name, value in cold.items() if name != "domain_userid")
    steps = dict(scripted_visitor(visitor, session, "https://s.example", start=datetime.now(UTC)))
    for payloads in steps.values():
        send(running.sandbox_url, happening_now(payloads))
    warm = client.get_service_attributes(prospect_service.name, "domain_userid", visitor)
    assert warm["num_page_views_l7d"] == 6 and warm["num_pricing_views_l30d"] == 2
    assert warm["num_page_pings_l7d"] == 13 and warm["num_form_engagements_l7d"] == 2
    assert warm["num_media_events_l30d"] == 3 and warm["num_conversions_l7d"] == 1
    assert warm["num_sessions_l7d"] == [session] and warm["num_apps_l30d"] == ["website"]
    assert warm["last_page_path"] == "/thank-you" and warm["first_page_path_l1h"] == "/"
    assert warm["num_page_views_l1h"] == 6 and warm["num_key_page_views_l1h"] == 4
    assert warm["latest_device_class"] == "Desktop" and warm["first_mkt_medium_l30d"] == "cpc"
    some = client.get_group_attributes(
        prospect_group.name, 1, ["num_page_views_l7d"], "domain_userid", visitor
    )
    assert some == {"domain_userid": visitor, "num_page_views_l7d": 6}
    tested = client.test(prospect_group, attribute_key_ids=[visitor])
    assert tested.loc[0, "num_page_views_l7d"] == 6
    assert visitor in set(client.test(prospect_group)["domain_userid"])


def test_values_begin_when_a_group_is_published_or_at_its_backfill_date(running: Settings) -> None:
    visitor, client = str(uuid4()), signals.connect(running)
    long_ago = str(int((datetime.now(UTC) - timedelta(days=2)).timestamp() * 1000))
    send(running.sandbox_url, [page_view(duid=visitor, ttm=long_ago)])
    since = datetime.now(UTC) - timedelta(days=5)
    for version, date, expected in ((1, None, None), (2, since, 1)):
        update = {"name": "begins", "version": version, "backfill_since_tstamp": date}
        client.publish([prospect_group.model_copy(update=update)])
        name = ["num_page_views_l7d"]
        values = client.get_group_attributes("begins", version, name, "domain_userid", visitor)
        assert values[name[0]] == expected


@pytest.mark.parametrize(
    "change",
    [
        {"ttl": timedelta(days=9)},
        {"attributes": prospect_group.attributes[1:]},
        {"backfill_since_tstamp": datetime(2026, 1, 31, tzinfo=UTC)},
        {"attribute_key": user_id},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_version_that_has_been_published_never_changes(
    running: Settings, change: dict[str, Any]
) -> None:
    client = signals.connect(running)
    group = prospect_group.model_copy(update={"name": "fixed"})
    described = group.model_copy(update={"owner": "b@example.com", "description": "other words"})
    client.publish([group])
    client.publish([described])  # the definition is the same
    for state in (client.publish, client.unpublish):
        with pytest.raises(SignalsAPIError, match=r"409.*increment the version"):
            state([group.model_copy(update=change)])
        client.unpublish([group])  # after which it is as fixed as before
    assert len(client.get_attribute_group("fixed").attributes or []) == 23


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("get-online-attributes", {}, 422),
        (
            "get-online-attributes",
            {"service": "no", "attribute_keys": {"domain_userid": ["u"]}},
            404,
        ),
        ("get-online-attributes", {"service": "s", "attribute_keys": {"k": ["u"] * 101}}, 422),
        ("registry/attribute_groups/", {"name": "?"}, 422),
        ("registry/unheard_of/", {}, 404),
        ("testing/attribute_groups/", {"window": "x"}, 422),
    ],
)
def test_bad_calls_of_the_api(
    running: Settings, path: str, body: dict[str, Any], status: int
) -> None:
    bearer = {"Authorization": f"Bearer {sandbox.token(running.home)}"}
    answer = requests.post(
        f"{running.sandbox_url}/api/v1/{path}", json=body, headers=bearer, timeout=5
    )
    assert answer.status_code == status and "detail" in answer.json()
    refused = requests.post(f"{running.sandbox_url}/api/v1/{path}", json=body, timeout=5)
    assert refused.status_code == 401


def test_interventions_are_pushed_and_pulled_with_the_sdk(running: Settings) -> None:
    client = signals.connect(running)
    targets = AttributeKeyIdentifiers(root={"domain_userid": ["pulled", "also"]})
    other = AttributeKeyIdentifiers(root={"domain_userid": ["another"]})
    sent = InterventionInstance(name="offer", version=2, attributes={"title": "Tea & Törtchen"})
    assert client.push_intervention(targets, sent) == "undelivered"
    with client.pull_interventions(targets) as subscription:
        wait_for(lambda: client.push_intervention(targets, sent) == "success")
        assert subscription.get(timeout=5) == sent
        assert client.push_intervention(other, sent) == "undelivered"
    wait_for(lambda: client.push_intervention(targets, sent) == "undelivered")  # it has left


def test_unpublishing_freezes_values_and_publishing_begins_again(running: Settings) -> None:
    client, visitor = publish(running), str(uuid4())
    other = prospect_group.model_copy(update={"name": "frozen"})

    def views() -> Any:
        name = ["num_page_views_l7d"]
        return client.get_group_attributes("frozen", 1, name, "domain_userid", visitor)[name[0]]

    client.publish([other])
    send(running.sandbox_url, [page_view(duid=visitor)])
    assert views() == 1
    for _ in range(2):  # the second changes nothing
        client.unpublish([other])
        send(running.sandbox_url, [page_view(duid=visitor)])
        assert views() == 1
    client.publish([other])
    assert views() is None
    client.unpublish([other])
    client.delete([other])


def test_versions_of_a_group_live_side_by_side(running: Settings) -> None:
    client = signals.connect(running)
    since = datetime.now(UTC) - timedelta(hours=1)
    first = prospect_group.model_copy(update={"name": "two", "backfill_since_tstamp": since})
    second = first.model_copy(update={"version": 2, "attributes": first.attributes[:1]})
    client.publish([first, second])
    assert client.get_attribute_group("two").version == 2
    assert len(client.get_attribute_group("two", 1).attributes or []) == 23
    names = [second.attributes[0].name]
    visitor = str(uuid4())
    send(running.sandbox_url, [page_view(duid=visitor)])
    for version in (1, 2):
        values = client.get_group_attributes("two", version, names, "domain_userid", visitor)
        assert values[names[0]] == "website"
    client.unpublish([second])
    client.delete([second])
    assert client.get_attribute_group("two").version == 1


def test_calls_that_the_sandbox_does_not_have_are_named(running: Settings) -> None:
    client = signals.connect(running)
    with pytest.raises(SignalsAPIError, match="no GET event_log"):
        client.get_agentic_context("log", "session")
    with pytest.raises(SignalsAPIError, match="does not store event_logs"):
        client.get_event_log("log")


def test_data_sets_are_refused_with_the_way_to_build_one(running: Settings) -> None:
    client = publish(running)
    with pytest.raises(SignalsAPIError, match=r"501.*prospect_lib\.training_set\.extract"):
        client.build_dataset_with_custom_anchors([prospect_group], WarehouseTable(table="mine"))
    with pytest.raises(SignalsAPIError, match=r"501.*prospect_lib\.training_set\.extract"):
        client.get_dataset_run_status(uuid4())
    address = f"{running.sandbox_url}/api/v1/datasets/sql"
    assert requests.post(address, json={}, timeout=5).status_code == 401  # without the token


def test_without_a_warehouse_nothing_is_backfilled_or_tested(home_settings: Settings) -> None:
    with without_warehouse(home_settings) as settings:
        client = signals.connect(settings)
        since = datetime.now(UTC) - timedelta(days=5)
        dated = prospect_group.model_copy(update={"backfill_since_tstamp": since})
        with pytest.raises(SignalsAPIError, match="404"):  # of the PUT that follows a 400
            client.publish([dated])
        with pytest.raises(SignalsAPIError, match=r"400.*warehouse connection is required"):
            client.test(prospect_group)
        client.publish([prospect_group, prospect_service])
        with pytest.raises(SignalsAPIError, match=r"400.*warehouse connection is required"):
            client.publish([dated])
