"""Publishing a problem: its group, its service and a key of one's own, in one line or one error."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    AttributeKey,
    Event,
    Service,
    StreamAttributeGroup,
)

from prospect_lib import signals
from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.jobs.publish import publish
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.settings import Settings
from tests.support.fake_signals import FakeConsole
from tests.support.keys import everything_in, pieces_in

OWNER = "a@example.com"


def account_problem() -> ScoringProblem:
    """A problem about accounts, which are in an atomic column of another name."""
    group = StreamAttributeGroup(
        name="accounts", owner=OWNER,
        attribute_key=AttributeKey(name="account", property=AtomicProperty(name="user_id")),
        attributes=[
            Attribute(name="n", type="int64", events=[Event(name="x")], aggregation="counter")
        ],
    )  # fmt: skip
    service = Service(name="accounts_service", owner=OWNER, attribute_groups=[group])
    return ScoringProblem("accounts", group, service)


def test_publishing_makes_group_service_and_own_key_known(running: Settings) -> None:
    lines: list[str] = []
    since = datetime(2026, 1, 31, tzinfo=UTC)
    publish(running, account_problem(), since=since, say=lines.append)
    assert lines == ["Published: accounts v1 (1 attributes) and accounts_service."]
    published = signals.connect(running).get_attribute_group("accounts", 1)
    assert published.is_published and published.backfill_since_tstamp == since
    assert published.attribute_key.name == "account"


def test_a_published_definition_is_never_overwritten_unasked(running: Settings) -> None:
    problem = account_problem()
    group = problem.group.model_copy(update={"name": "accounts_again"})
    service = Service(name="again_service", owner=OWNER, attribute_groups=[group])
    problem = ScoringProblem("again", group, service)
    publish(running, problem, say=lambda _: None)
    publish(running, problem, say=lambda _: None)  # the same definition
    other = group.model_copy(update={"ttl": timedelta(days=9)})
    changed = ScoringProblem("again", other, service)
    with pytest.raises(ServiceError, match=r"another definition of accounts_again v1.*version=2"):
        publish(running, changed, say=lambda _: None)
    publish(running, changed, replace=True, say=lambda _: None)
    published = signals.connect(running).get_attribute_group("accounts_again", 1)
    assert published.ttl == timedelta(days=9)


def test_without_a_sandbox_the_error_is_one_line(home_settings: Settings) -> None:
    with pytest.raises(SettingsError, match="Start it with"):
        publish(home_settings, prospect_problem)
    home_settings.home.mkdir(parents=True, exist_ok=True)
    (home_settings.home / "token").write_text("x" * 40)
    with pytest.raises(ServiceError, match="did not publish prospect_lib_visitor") as error:
        publish(home_settings, prospect_problem)
    assert "\n" not in str(error.value)


def test_a_refused_api_key_is_told_without_the_address_that_has_the_organisation(
    home_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("SP_API_KEY", "SP_API_KEY_ID", "SP_ORG_ID")
    values = {"SP_API_URL": "https://signals.example", **dict.fromkeys(names, "hush-hush-hush")}
    with FakeConsole(key="another", token="") as console:
        monkeypatch.setattr(signals, "CONSOLE_URL", console.url)
        with pytest.raises(ServiceError, match="console answered 401 to the API key") as refused:
            publish(replace(home_settings, values=values), prospect_problem)
    assert pieces_in(everything_in(refused.value), "hush-hush-hush") == set()
