"""The sandbox's home, the folder that holds the state of one sandbox; and its clock."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from prospect_lib.files import ensure_secret, not_writable

Clock = Callable[[], datetime]  # returns the time, aware
MARKER = "prospect-sandbox"  # how /health names itself, so that no other program is mistaken for it


def utc_now() -> datetime:
    """Return the time of the machine's clock, which may be set back."""
    return datetime.now(UTC)


def token(home: Path) -> str:
    """Return the API token of the sandbox in ``home``; it is created on first use.

    Only the owner may read the folder that this creates, and the token.

    Raises:
        SettingsError: the folder cannot be written, or the file holds no valid token.
    """
    try:
        return ensure_secret(home / "token")
    except OSError as error:
        raise not_writable(home, error) from error
