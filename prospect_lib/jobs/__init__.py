"""The work of each command, from its options to its result.

Names are imported on first use, because a job imports most of the package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prospect_lib.jobs.audit import run_audit
    from prospect_lib.jobs.demo import Demo, once
    from prospect_lib.jobs.publishing import preview, publish, status, unpublish
    from prospect_lib.jobs.retrain import Job, RetrainResult, parse_utc, run, train_and_promote

__all__ = [
    "Demo",
    "Job",
    "RetrainResult",
    "once",
    "parse_utc",
    "preview",
    "publish",
    "run",
    "run_audit",
    "status",
    "train_and_promote",
    "unpublish",
]
_MODULES = {
    "Demo": "demo",
    "once": "demo",
    "run_audit": "audit",
    **dict.fromkeys(("preview", "publish", "status", "unpublish"), "publishing"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'retrain')}"), name)
