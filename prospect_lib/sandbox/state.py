"""The parts of a running sandbox, for the routes of its application."""

from dataclasses import dataclass

from flask import current_app

from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.home import Clock
from prospect_lib.sandbox.signals_api.online_attributes import OnlineAttributes
from prospect_lib.sandbox.signals_api.registry import Registry
from prospect_lib.sandbox.signals_api.rules import Rules
from prospect_lib.sandbox.signals_api.subscribers import Subscribers
from prospect_lib.sandbox.website.board import Board


@dataclass(frozen=True)
class Sandbox:
    """What requests share; each part is safe to use from several threads.

    Attributes:
        events: accepted and rejected events.
        board: what the board shows.
        registry: published keys, groups, services and interventions.
        attributes: online values of attributes.
        subscribers: pages and programs that wait for interventions.
        rules: published rules that push interventions.
        clock: returns the time (aware).
    """

    events: EventStore
    board: Board
    registry: Registry
    attributes: OnlineAttributes
    subscribers: Subscribers
    rules: Rules
    clock: Clock


def current() -> Sandbox:
    """Return the sandbox of the application that handles this request."""
    sandbox: Sandbox = current_app.extensions["sandbox"]
    return sandbox
