"""A local stand-in for Snowplow: collector, Signals API and demo website in one process."""

from prospect_lib.sandbox.home import MARKER, token
from prospect_lib.sandbox.process import LOOPBACK, ensure_running, holder, reset, serve, stop

__all__ = ["LOOPBACK", "MARKER", "ensure_running", "holder", "reset", "serve", "stop", "token"]
