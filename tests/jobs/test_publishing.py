"""Publishing a problem looks first, changes no published version, and can be undone."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    AttributeKey,
    Event,
    Service,
    StreamAttributeGroup,
)

from prospect_lib import cli, signals
from prospect_lib.aggregation.fold import group_hash
from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.jobs.publishing import preview, publish, status, unpublish
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.settings import Settings
from tests.support.fake_signals import FakeConsole
from tests.support.keys import everything_in, pieces_in
from tests.support.sandbox import account, recorded_calls, without_warehouse

OWNER = "a@example.com"
SINCE = datetime(2026, 1, 31, tzinfo=UTC)
_NUMBERS = itertools.count()
COUNT = Attribute(name="n", type="int64", events=[Event(name="x")], aggregation="counter")


def quiet(_: str) -> None:
    pass


def problem_of_its_own(**changes: Any) -> ScoringProblem:
    """A problem about accounts, which are in an atomic column of another name."""
    name = f"accounts_{next(_NUMBERS)}"
    group = StreamAttributeGroup(
        name=name, owner=OWNER, attributes=[COUNT],
        attribute_key=AttributeKey(name="account", property=AtomicProperty(name="user_id")),
    ).model_copy(update=changes)  # fmt: skip
    service = Service(name=f"{name}_service", owner=OWNER, attribute_groups=[group])
    return ScoringProblem(name, group, service)


def changed(problem: ScoringProblem, **changes: Any) -> ScoringProblem:
    """The problem with another definition of its group, which its service serves."""
    group = problem.group.model_copy(update=changes)
    links = Service(name="s", owner=OWNER, attribute_groups=[group]).attribute_groups
    service = problem.service.model_copy(update={"attribute_groups": links})
    return replace(problem, group=group, service=service)


def writes(calls: list[str]) -> list[str]:
    return [call for call in calls if not call.startswith("GET")]


def test_publishing_makes_group_service_and_own_key_known(running: Settings) -> None:
    lines: list[str] = []
    problem = problem_of_its_own()
    assert publish(running, problem, since=SINCE, say=lines.append).is_current
    group, service = problem.group.name, problem.service.name
    assert lines == [f"Published: {group} v1 (1 attributes) and {service}."]
    published = signals.connect(running).get_attribute_group(group, 1)
    assert published.is_published and published.backfill_since_tstamp == SINCE
    assert published.attribute_key.name == "account"


def test_the_same_definition_is_not_sent_again(running: Settings) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    publish(running, problem, since=SINCE, say=quiet)
    with recorded_calls() as calls:
        later = publish(running, problem, since=SINCE + timedelta(days=9), say=lines.append)
    assert writes(calls) == [] and later.group.backfill_since_tstamp == SINCE
    (line,) = lines
    assert line.startswith("Published already") and "since 2026-01-31 00:00" in line


def test_another_definition_is_refused_with_the_next_free_version(running: Settings) -> None:
    problem = problem_of_its_own()
    publish(running, problem, say=quiet)
    publish(running, changed(problem, version=4), say=quiet)
    for again in (lambda: None, lambda: unpublish(running, problem, say=quiet)):
        again()
        with recorded_calls() as calls, pytest.raises(ServiceError, match=r"v1, .* version=5 in"):
            publish(running, changed(problem, ttl=timedelta(days=9)), say=quiet)
        assert writes(calls) == []


def test_a_service_follows_the_version_but_never_takes_the_place_of_another(
    running: Settings,
) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    publish(running, problem, say=quiet)
    publish(running, changed(problem, version=2), say=lines.append)
    name = problem.group.name
    assert lines[0] == f"{name}_service now serves {name} v2 instead of {name} v1."
    other = problem_of_its_own()
    other = replace(other, service=other.service.model_copy(update={"name": f"{name}_service"}))
    with recorded_calls() as calls, pytest.raises(ServiceError, match=f"serves {name} v2. Write"):
        publish(running, other, say=quiet)
    assert writes(calls) == []


def test_another_attribute_key_of_the_same_name_is_left_alone(running: Settings) -> None:
    publish(running, problem_of_its_own(), say=quiet)
    other = AttributeKey(name="account", property=AtomicProperty(name="network_userid"))
    problem = problem_of_its_own(attribute_key=other)
    with recorded_calls() as calls, pytest.raises(ServiceError, match="another attribute key acc"):
        publish(running, problem, say=quiet)
    assert writes(calls) == []


def test_only_the_local_sandbox_replaces_a_version(running: Settings) -> None:
    problem = problem_of_its_own()
    publish(running, problem, say=quiet)
    longer = changed(problem, ttl=timedelta(days=9))
    with account(running) as (settings, _), pytest.raises(SettingsError, match="sandbox only"):
        publish(settings, longer, replace=True, say=quiet)
    assert publish(running, longer, replace=True, say=quiet).group.ttl == timedelta(days=9)


def test_what_is_published_has_the_owner_of_the_settings(running: Settings) -> None:
    problem = problem_of_its_own()
    with account(running) as (settings, _):
        publication = publish(settings, problem, say=quiet)
        assert publication.group.owner == publication.service.owner == "ada@lovelace.org"
        assert publication.group.attribute_key.owner == "ada@lovelace.org"
        assert group_hash(publication.group) == group_hash(problem.group)
        values = {name: text for name, text in settings.values.items() if name != "SP_OWNER"}
        with recorded_calls() as calls, pytest.raises(SettingsError, match="Set SP_OWNER"):
            publish(replace(settings, values=values), problem, say=quiet)
        assert calls == []


def test_a_version_of_an_account_keeps_its_first_backfill_date(running: Settings) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    with account(running) as (settings, _):
        publish(settings, problem, since=SINCE, say=lines.append)
        assert "since 2026-01-31 00:00 once the backfill has run" in lines[-1]
        unpublish(settings, problem, say=quiet)
        signals.connect(settings).delete([problem.group])
        moved = SINCE + timedelta(days=9)
        again = publish(settings, problem, since=moved, say=quiet)
        assert again.group.backfill_since_tstamp == SINCE
        second = publish(settings, changed(problem, version=2), since=moved, say=quiet)
        assert second.group.backfill_since_tstamp == moved


@pytest.mark.parametrize("since", [datetime(2026, 1, 31), datetime(2999, 1, 1, tzinfo=UTC)])
def test_a_backfill_date_is_in_the_past_and_has_a_zone(
    home_settings: Settings, since: datetime
) -> None:
    with pytest.raises(SettingsError, match="expected a time in the past, with its zone"):
        publish(home_settings, prospect_problem, since=since)


def test_without_a_warehouse_backfill_and_test_are_left_out_with_a_sentence(
    home_settings: Settings,
) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    with without_warehouse(home_settings) as settings, account(settings) as (as_account, _):
        publication = publish(as_account, problem, since=SINCE, say=lines.append)
        assert publication.is_current and publication.group.backfill_since_tstamp is None
        assert "Past events do not count" in lines[0] and lines[1].startswith("Published")
        publish(as_account, problem, since=SINCE, say=lines.append)
        assert "events since its publishing" in lines[2]
        frame = preview(as_account, problem, say=lines.append)
    assert list(frame.columns) == ["account", "n"] and len(frame) == 0
    assert "Not tested" in lines[3] and "warehouse connection is required" in lines[3]


def test_a_preview_without_events_has_every_column(running: Settings) -> None:
    frame = preview(running, problem_of_its_own(), window=timedelta(seconds=1))
    assert list(frame.columns) == ["account", "n"] and len(frame) == 0


def test_undoing_deletes_the_service_and_then_unpublishes_the_group(running: Settings) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    publish(running, problem, since=SINCE, say=quiet)
    for _ in range(2):
        unpublish(running, problem, say=lines.append)
    name = problem.group.name
    assert [line.partition(".")[0] for line in lines] == [
        f"Deleted: service {name}_service",
        f"Unpublished: {name} v1",
        f"There is no service {name}_service",
        f"{name} v1 is not published",
    ]
    again = publish(running, problem, say=quiet)
    assert again.is_current and again.group.backfill_since_tstamp == SINCE


def test_undoing_keeps_a_service_that_serves_another_version_or_more(running: Settings) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    publish(running, problem, say=quiet)
    publish(running, changed(problem, version=2), say=quiet)
    unpublish(running, problem, say=lines.append)
    assert lines[0].startswith("Left as it is") and lines[1].startswith("Unpublished")
    publish(running, problem, say=quiet)
    links = [{"name": problem.group.name, "version": version} for version in (1, 2)]
    both = Service(name=problem.service.name, owner=OWNER, attribute_groups=links)
    signals.connect(running).publish([both])
    with pytest.raises(ServiceError, match="v1 out of it first"):
        unpublish(running, problem, say=quiet)


def test_the_status_says_what_differs_and_from_when_it_counts(running: Settings) -> None:
    problem, lines = problem_of_its_own(), list[str]()
    name = problem.group.name
    assert not status(running, problem, say=lines.append).is_current
    publish(running, problem, since=SINCE, say=quiet)
    assert status(running, problem, say=lines.append).is_current
    more = [COUNT, COUNT.model_copy(update={"name": "m"})]
    assert not status(running, changed(problem, attributes=more), say=lines.append).is_current
    assert lines[:2] == [
        f"{name} v1: Signals does not have it.",
        f"{name}_service: Signals does not have it.",
    ]
    assert lines[2].endswith(
        "1 attributes, owner a@example.com, counts events since 2026-01-31 00:00."
    )
    assert lines[3].endswith("the same as here.") and lines[5].endswith(f"serves {name} v1.")
    assert lines[7].endswith("differs from the one here: m.")


def test_the_commands_publish_show_and_take_back(
    running: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Settings, "load", lambda: running)
    codes = [cli.main([each]) for each in ("status", "publish", "status", "unpublish", "status")]
    assert codes == [1, 0, 0, 0, 1]
    assert "Published: prospect_lib_visitor v1" in capsys.readouterr().out


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
    values = {"SP_API_URL": "https://signals.example", "SP_OWNER": "ada@lovelace.org"}
    values |= dict.fromkeys(names, "hush-hush-hush")
    with FakeConsole(key="another", token="") as console:
        monkeypatch.setattr(signals, "CONSOLE_URL", console.url)
        with pytest.raises(ServiceError, match="console answered 401 to the API key") as refused:
            publish(replace(home_settings, values=values), prospect_problem)
    assert pieces_in(everything_in(refused.value), "hush-hush-hush") == set()


def test_a_wrong_token_of_the_sandbox_is_one_line_with_the_way_to_check_it(
    running: Settings,
) -> None:
    secrets = {"SP_SANDBOX_URL": running.sandbox_url, "SP_SANDBOX_TOKEN": "wrong-token-of-another"}
    with pytest.raises(ServiceError, match=r"it answered 401 [^{}]*\. Check the secrets") as caught:
        status(replace(running, values=secrets), prospect_problem)
    assert "\n" not in str(caught.value) and "wrong-token" not in str(caught.value)
