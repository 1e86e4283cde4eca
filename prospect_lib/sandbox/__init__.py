"""The sandbox: a local stand-in for Snowplow, with collector, Signals API and demo website.

Example::

    sandbox.ensure_running(settings)  # http://127.0.0.1:9090, in a process of its own
"""

from prospect_lib.sandbox.home import token
from prospect_lib.sandbox.process import (
    ensure_running,
    holder,
    leave_as_before,
    reset,
    serve,
    stop,
)

__all__ = ["ensure_running", "holder", "leave_as_before", "reset", "serve", "stop", "token"]
