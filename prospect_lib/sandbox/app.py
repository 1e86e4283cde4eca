"""The sandbox as one Flask application: collector, Signals API, website and board."""

from flask import Flask

from prospect_lib.sandbox.answers import answer_all_errors
from prospect_lib.sandbox.collector.payloads import MAX_PAYLOAD
from prospect_lib.sandbox.collector.routes import collector
from prospect_lib.sandbox.credentials import credentials
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.home import Clock, token, utc_now
from prospect_lib.sandbox.micro import micro
from prospect_lib.sandbox.signals_api.online_attributes import OnlineAttributes
from prospect_lib.sandbox.signals_api.registry import Registry
from prospect_lib.sandbox.signals_api.routes import api
from prospect_lib.sandbox.signals_api.rules import Rules
from prospect_lib.sandbox.signals_api.subscribers import Subscribers
from prospect_lib.sandbox.state import Sandbox
from prospect_lib.sandbox.website.board import Board
from prospect_lib.sandbox.website.board_routes import board_pages
from prospect_lib.sandbox.website.routes import site
from prospect_lib.sandbox.website.scores import remote_scores
from prospect_lib.settings import Settings


def create_sandbox(settings: Settings, *, warehouse: bool = True, clock: Clock = utc_now) -> Flask:
    """Return the application over the state in ``settings.home``.

    Its parts are in ``app.extensions["sandbox"]``; close its ``events`` at the end.

    Args:
        warehouse: whether its Signals has a warehouse connection, without which Signals neither
            backfills nor tests attributes.
        clock: returns the time at which events arrive and for which values are computed.
    Raises:
        SettingsError: the folder cannot be written, or its registry cannot be read.
        DataError: its events are damaged, or of a format that this release does not read.
    """
    home = settings.home
    app = Flask("prospect_lib.sandbox", static_folder=None)
    app.config.update(PROSPECT_HOME=str(home), TOKEN=token(home), MAX_CONTENT_LENGTH=MAX_PAYLOAD)
    app.config["WAREHOUSE"] = warehouse
    registry, subscribers, events = Registry(home, clock), Subscribers(), EventStore(home)
    attributes = OnlineAttributes(home, events)
    app.extensions["sandbox"] = Sandbox(
        events=events,
        board=Board(),
        registry=registry,
        attributes=attributes,
        subscribers=subscribers,
        rules=Rules(registry, attributes, subscribers, clock),
        clock=clock,
    )
    answer_all_errors(app)
    app.register_blueprint(collector)
    app.register_blueprint(micro)
    app.register_blueprint(credentials)
    app.register_blueprint(api, url_prefix="/api/v1")
    app.register_blueprint(site)
    app.register_blueprint(remote_scores)
    app.register_blueprint(board_pages)
    return app
