"""Announce the prediction server to the demo website: ``site.json`` in the home.

The server writes the file; the website and simulated visitors read it, so that a server that
starts later is used without a restart of the sandbox.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prospect_lib.files import not_writable, write_whole

SITE_FILE = "site.json"
_NAMES = ("predict_url", "predict_token", "predict_key")


@dataclass(frozen=True)
class Announcement:
    """Where predictions come from.

    Attributes:
        predict_url: address of the prediction server; ``None`` if there is none.
        predict_token: bearer token that the server requires; ``None`` if it requires none.
        problem: one sentence that says why there is no address; ``None`` if the file is sound.
        predict_key: the attribute key in its requests.
    """

    predict_url: str | None = None
    predict_token: str | None = field(default=None, repr=False)
    problem: str | None = None
    predict_key: str = "domain_userid"


def announce(
    home: Path,
    predict_url: str | None,
    predict_token: str | None = None,
    predict_key: str = "domain_userid",
) -> None:
    """Write the address of the prediction server; ``None`` when the server stops.

    Only the owner may read the file, because it holds the token. The announcement ends with this
    process, however that ends.

    Raises:
        SettingsError: the folder cannot be written.
    """
    content = asdict(Announcement(predict_url, predict_token, predict_key=predict_key))
    content["pid"] = os.getpid()
    try:
        write_whole(home / SITE_FILE, json.dumps(content), mode=0o600)
    except OSError as error:
        raise not_writable(home, error) from error


def announced(home: Path) -> Announcement:
    """Return what was announced last; a missing or damaged file is reported as a problem."""
    try:
        content = json.loads((home / SITE_FILE).read_text(encoding="utf-8"))
        if content.get("predict_url") and not _runs(content.get("pid")):
            return Announcement(problem="The prediction server has ended without a stop.")
        known = {name: value for name, value in content.items() if name in _NAMES}
        return Announcement(**known)
    except FileNotFoundError:
        return Announcement(problem="No prediction server has been started yet.")
    except (OSError, ValueError, AttributeError, TypeError, OverflowError):
        return Announcement(problem=f"{SITE_FILE} is not the JSON object it should be.")


def _runs(pid: int | None) -> bool:
    try:
        os.kill(pid or os.getpid(), 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
