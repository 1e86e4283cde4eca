"""The visitor of the series, found again and again, and notebooks that can come first."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from prospect_lib import sandbox
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.jobs.demo import Demo
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.teaching import story
from prospect_lib.warehouse import DuckDBWarehouse


def _small(settings: Settings) -> None:
    end = datetime(2026, 3, 1, tzinfo=UTC)
    history.write(settings.home, visitors=800, days=30, end=end)


def test_the_protagonist_came_back_and_asked_for_a_demo(home_settings: Settings) -> None:
    _small(home_settings)
    warehouse = DuckDBWarehouse.over_home(home_settings.home)
    try:
        found = story.protagonist(warehouse)
        assert story.protagonist(warehouse) == found
        events = story.events_of(warehouse, found.domain_userid)
    finally:
        warehouse.close()
    assert {event["domain_userid"] for event in events} == {found.domain_userid}
    times = [event["derived_tstamp"] for event in events]
    assert times == sorted(times) and times[0] < found.at - timedelta(hours=12)
    horizon = found.at + timedelta(hours=1)
    assert any(
        e["event_name"] == "submit_form" and found.at < e["derived_tstamp"] <= horizon
        for e in events
    )


def test_without_anyone_who_came_back(home_settings: Settings) -> None:
    end = datetime(2026, 3, 1, tzinfo=UTC)
    history.write(home_settings.home, visitors=2, days=2, end=end)
    warehouse = DuckDBWarehouse.over_home(home_settings.home)
    try:
        with pytest.raises(DataError, match="longer history"):
            story.protagonist(warehouse)
        assert story.events_of(warehouse, "o'brien") == []
    finally:
        warehouse.close()


def test_what_is_there_is_left_as_it_is(
    home_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    _small(home_settings)
    manifest = home_settings.home / "history" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    story.ready(home_settings)
    sandbox.stop(home_settings)
    assert manifest.stat().st_mtime_ns == written and capsys.readouterr().out == ""


def test_what_is_missing_is_done_first(
    home_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[str] = []
    monkeypatch.setattr(sandbox, "ensure_running", lambda _: done.append("sandbox"))
    for step in ("prepare", "write_history", "publish"):
        monkeypatch.setattr(Demo, step, lambda _, step=step: done.append(step))
    story.ready(home_settings)
    assert done == ["write_history", "sandbox"] and "notebook 00" in capsys.readouterr().out
    done.clear()
    story.ready(home_settings, model=True)
    assert done[0] == "prepare" and done[-1] == "publish"


def test_on_accounts_of_ones_own_nothing_is_written(home_settings: Settings) -> None:
    story.ready(Settings(home_settings.home, values={"SP_API_KEY": "x"}), model=True)
    assert not home_settings.home.exists()


def test_steps_nobody_can_take_and_servers_that_are_not_there(running: Settings) -> None:
    with pytest.raises(DataError, match="sees the home page"):
        story.visit(running, running.sandbox_url, str(uuid4()), ["dances"])
    with pytest.raises(ServiceError, match="answered 40"):
        story.visit(running, running.sandbox_url, str(uuid4()), [])


def test_the_pictures() -> None:
    assert story.path(2).png().startswith(b"\x89PNG")
    assert story.steps_picture({"arrives": 0.1, "looks at pricing": 0.2}).png()
