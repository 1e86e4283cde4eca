"""The sandbox as one Flask application: collector, Signals API, website and board."""

from flask import Flask

from prospect_lib.sandbox.collector.payloads import MAX_BODY
from prospect_lib.sandbox.collector.routes import collector
from prospect_lib.sandbox.home import token
from prospect_lib.sandbox.micro import micro
from prospect_lib.sandbox.signals_api.credentials import credentials
from prospect_lib.sandbox.signals_api.profiles import Profiles
from prospect_lib.sandbox.signals_api.registry import Registry
from prospect_lib.sandbox.signals_api.routes import api
from prospect_lib.sandbox.signals_api.rules import Rules
from prospect_lib.sandbox.signals_api.subscribers import Subscribers
from prospect_lib.sandbox.storage import Storage
from prospect_lib.sandbox.website.board_routes import pages, remembered
from prospect_lib.sandbox.website.routes import site
from prospect_lib.settings import Settings


def create_app(settings: Settings) -> Flask:
    """The application over the state in ``settings.home``.

    Raises:
        SettingsError: the folder cannot be written.
    """
    app = Flask("prospect_lib.sandbox", static_folder=None)
    storage = Storage(settings.home)
    app.config.update(
        PROSPECT_HOME=str(settings.home), TOKEN=token(settings.home), MAX_CONTENT_LENGTH=MAX_BODY
    )
    app.extensions["storage"] = storage
    app.extensions["board"] = remembered(storage, settings.home)
    app.extensions["registry"] = registry = Registry(settings.home)
    app.extensions["profiles"] = profiles = Profiles(settings.home, storage)
    app.extensions["subscribers"] = subscribers = Subscribers()
    app.extensions["rules"] = Rules(registry, profiles, subscribers)
    app.register_blueprint(collector)
    app.register_blueprint(micro)
    app.register_blueprint(credentials)
    app.register_blueprint(api, url_prefix="/api/v1")
    app.register_blueprint(site)
    app.register_blueprint(pages)
    return app
