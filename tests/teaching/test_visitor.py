"""The followed visitor: the same in every run, with their events and a scripted visit."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flask import Flask

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.problem import prospect_problem
from prospect_lib.sandbox.simulation import history
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from prospect_lib.teaching.visitor import (
    followed_visitor,
    scripted_visit,
    steps_picture,
    visitor_events,
)
from prospect_lib.warehouse import DuckDBWarehouse

END = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_followed_visitor_came_back_and_submitted_a_form(home_settings: Settings) -> None:
    history.write(home_settings.home, visitors=800, days=30, end=END)
    warehouse = DuckDBWarehouse.over_home(home_settings.home)
    try:
        visitor = followed_visitor(warehouse)
        assert followed_visitor(warehouse) == visitor
        events = visitor_events(warehouse, visitor.identifier)
    finally:
        warehouse.close()
    assert {event["domain_userid"] for event in events} == {visitor.identifier}
    times = [event["derived_tstamp"] for event in events]
    assert times == sorted(times) and times[0] < visitor.at - timedelta(hours=12)
    horizon = visitor.at + timedelta(hours=1)
    assert any(
        e["event_name"] == "submit_form" and visitor.at < e["derived_tstamp"] <= horizon
        for e in events
    )


def test_a_short_window_has_another_visitor_and_an_empty_one_is_an_error(
    home_settings: Settings,
) -> None:
    history.write(home_settings.home, visitors=2, days=2, end=END)
    warehouse = DuckDBWarehouse.over_home(home_settings.home)
    try:
        visitor = followed_visitor(warehouse)
        assert visitor_events(warehouse, visitor.identifier)
        empty = replace(prospect_problem.anchors, since=END)
        with pytest.raises(DataError, match="no anchors with a known label between since=2"):
            followed_visitor(warehouse, prospect_problem.with_anchors(empty))
        assert visitor_events(warehouse, "o'brien") == []
    finally:
        warehouse.close()


def test_an_unknown_step_or_a_missing_server_is_one_message(running: Settings) -> None:
    elsewhere = Server(Flask("no prediction server"), port=running.sandbox_port)
    with pytest.raises(DataError, match="sees the home page"):
        scripted_visit(running, elsewhere, str(uuid4()), ["dances"])
    with pytest.raises(ServiceError, match="answered 40"):
        scripted_visit(running, elsewhere, str(uuid4()), [])


def test_the_steps_of_a_visit_are_plotted() -> None:
    assert steps_picture({"arrives": 0.1, "looks at pricing": 0.2}).png().startswith(b"\x89PNG")
