"""The sandbox's home: the folder that holds the state of one sandbox."""

import os
import secrets
from pathlib import Path

from prospect_lib.errors import SettingsError

MARKER = "prospect-sandbox"  # how /health names itself, so that no other program is mistaken for it


def token(home: Path) -> str:
    """Return the API token of the sandbox in ``home``; it is created on first use.

    Only the owner may read the folder that this creates, and the token.

    Raises:
        SettingsError: the folder cannot be written.
    """
    path = home / "token"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text(encoding="utf-8").strip()
        with os.fdopen(handle, "w") as file:
            file.write(text := secrets.token_urlsafe(24))
        return text
    except OSError as error:
        raise not_writable(home, error) from error


def not_writable(home: Path, error: OSError) -> SettingsError:
    """Return the error for a home that cannot be written."""
    return SettingsError(
        f"{home} cannot be written ({error.strerror}). Set PROSPECT_HOME to a folder of yours."
    )
