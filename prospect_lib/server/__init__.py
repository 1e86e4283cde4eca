"""The prediction server: ``POST /predict`` and what a website needs around it.

The names below are loaded when they are first used (PEP 562): the sandbox imports one small
module of this room, and must not wait for the server's dependencies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prospect_lib.server.announcement import announce
    from prospect_lib.server.app import Options, Server, create_app
    from prospect_lib.server.interventions import is_held_out
    from prospect_lib.server.snippet import Snippet
    from prospect_lib.server.tunnel import open_tunnel

__all__ = ["Options", "Server", "Snippet", "announce", "create_app", "is_held_out", "open_tunnel"]
_MODULES = {
    "Snippet": "snippet",
    "announce": "announcement",
    "is_held_out": "interventions",
    "open_tunnel": "tunnel",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = import_module(f"{__name__}.{_MODULES.get(name, 'app')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
