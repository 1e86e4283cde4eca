"""``python -m prospect_lib sandbox``: start, status, stop and reset, and what each one says."""

import requests

from prospect_lib import sandbox
from prospect_lib.settings import Settings


def start(settings: Settings, host: str = sandbox.LOOPBACK) -> None:
    """Run it in the foreground, having said where it answers and who can reach it.

    Raises:
        SettingsError: the port, the address or the home cannot be used.
    """
    sandbox.serve(settings, host, ready=lambda: print(_welcome(settings, host), flush=True))


def status(settings: Settings) -> bool:
    """Whether the sandbox of this home runs; says so, with its address and its counts."""
    pid = sandbox.holder(settings.home)
    if pid is None:
        print(f"No sandbox runs in {settings.home}.")
        return False
    print(f"The sandbox of {settings.home} runs as process {pid}{_counts(settings)}.")
    return True


def stop(settings: Settings) -> None:
    """Stop it, if it runs; its state stays.

    Raises:
        ServiceError: it does not end.
    """
    if sandbox.stop(settings):
        print(f"The sandbox of {settings.home} has stopped. The next one goes on from its state.")
    else:
        print(f"No sandbox runs in {settings.home}; there is nothing to stop.")


def reset(settings: Settings) -> None:
    """Stop it and forget its events and published objects.

    Raises:
        ServiceError: it does not end.
    """
    forgotten = sandbox.reset(settings)
    what = f"forgot {', '.join(forgotten)}" if forgotten else "there was nothing to forget"
    print(f"The sandbox of {settings.home} starts afresh: {what}.")
    print("Kept: models, tables, served scores and the token.")


def _welcome(settings: Settings, host: str) -> str:
    lines = [
        f"The sandbox of {settings.home} answers at {settings.sandbox_url}",
        f"  website {settings.sandbox_url}/   board {settings.sandbox_url}/board   Ctrl-C stops it",
    ]
    if host not in (sandbox.LOOPBACK, "::1", "localhost"):
        lines += [
            f"It listens on {host}, port {settings.sandbox_port}: whoever reaches this machine "
            "over the network can open the website and the board, send events, and hear the "
            "interventions of a visitor whose id is known. Events, attributes and publishing need "
            f"the token in {settings.home / 'token'}. Nothing is encrypted: use it in a network "
            "that you trust, and stop it afterwards."
        ]
    return "\n".join(lines)


def _counts(settings: Settings) -> str:
    try:
        found = requests.get(f"{settings.sandbox_url}/health", timeout=2).json()
        good, bad = found["events"]["good"], found["events"]["bad"]
    except (requests.RequestException, ValueError, LookupError, TypeError):
        return f"; it does not answer at {settings.sandbox_url}"
    if found.get("home") != str(settings.home):
        return f"; another sandbox answers at {settings.sandbox_url}"
    return f" at {settings.sandbox_url}: {good:,} live events, {bad:,} bad ones"
