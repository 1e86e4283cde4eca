"""``python -m prospect_lib sandbox``: start, status, stop and reset, with what they print."""

import requests

from prospect_lib.sandbox import process
from prospect_lib.settings import Settings


def start_command(
    settings: Settings, host: str = process.LOOPBACK, *, warehouse: bool = True
) -> None:
    """Run the sandbox in the foreground; print where it answers and who can reach it.

    Raises:
        SettingsError: the port, the address or the home cannot be used.
        DataError: its events are damaged, or of another release.
    """
    process.serve(
        settings,
        host,
        warehouse=warehouse,
        ready=lambda: print(_welcome(settings, host), flush=True),
    )


def status_command(settings: Settings) -> bool:
    """Return whether the sandbox of this home runs; print its address and its counts."""
    pid = process.holder(settings.home)
    if pid is None:
        print(f"No sandbox runs in {settings.home}.")
        return False
    print(f"The sandbox of {settings.home} runs as process {pid}{_counts(settings)}.")
    return True


def stop_command(settings: Settings) -> None:
    """Stop the sandbox; its state stays.

    Raises:
        ServiceError: it does not stop.
    """
    if process.stop(settings):
        print(f"The sandbox of {settings.home} is stopped. Its events are kept.")
    else:
        print(f"No sandbox runs in {settings.home}.")


def reset_command(settings: Settings) -> None:
    """Stop the sandbox and delete its events and published objects.

    Raises:
        ServiceError: it does not stop.
        SettingsError: a file cannot be deleted.
    """
    deleted = process.reset(settings)
    print(f"The sandbox of {settings.home} is empty. Deleted: {', '.join(deleted) or 'nothing'}.")
    print("Kept: models, tables, served scores and the token.")


def elsewhere(settings: Settings) -> list[str]:
    """Return one line if the secrets choose another Signals than the sandbox's, else none."""
    if settings.signals_backend == "local":
        return []
    return ["Signals elsewhere is in use: it gets none of the sandbox's events and definitions."]


def _welcome(settings: Settings, host: str) -> str:
    url = settings.sandbox_url
    lines = [
        f"The sandbox of {settings.home} answers at {url}",
        f"  website {url}/   board {url}/board   Ctrl-C stops it",
        *elsewhere(settings),
    ]
    if host not in (process.LOOPBACK, "::1", "localhost"):
        lines += [
            f"It listens on {host}, port {settings.sandbox_port}: everybody who reaches this "
            "machine over the network can open the website and the board, send events, and "
            "receive the interventions of a visitor whose id they know. Events, attributes and "
            f"publishing need the token in {settings.home / 'token'}. Nothing is encrypted: use "
            "it in a network that you trust, and stop it afterwards."
        ]
    return "\n".join(lines)


def _counts(settings: Settings) -> str:
    try:
        health = requests.get(f"{settings.sandbox_url}/health", timeout=2).json()
        good, bad = health["events"]["good"], health["events"]["bad"]
    except (requests.RequestException, ValueError, LookupError, TypeError):
        return f"; it does not answer at {settings.sandbox_url}"
    if health.get("home") != str(settings.home):
        return f"; another sandbox answers at {settings.sandbox_url}"
    return f" at {settings.sandbox_url}: {good:,} live events, {bad:,} bad ones"
