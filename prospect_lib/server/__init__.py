"""The prediction server: ``POST /predict`` and what a website needs around it."""

from prospect_lib.server.app import Options, Server, create_app

__all__ = ["Options", "Server", "create_app"]
