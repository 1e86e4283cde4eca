"""The ngrok agent of a home: its configuration, its lock, and what a killed process left behind.

A process that has a tunnel holds a lock in the home, which ends with the process, however that
ends. An agent with this home's configuration and without such a process was left behind by
``kill -9``: the next start ends it, and removes the configuration, which contains the token.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import psutil

from prospect_lib import files
from prospect_lib.errors import ServiceError

CONFIG_FILE, TUNNEL_LOCK = "ngrok.yml", "ngrok.lock"
END_SECONDS = 5.0  # in which an agent should end
_log = logging.getLogger(__name__)


@contextmanager
def configuration(home: Path, token: str) -> Iterator[Path]:
    """Yield the path of the agent's configuration, which exists during the block.

    Ends an agent that a killed process of this home left behind.

    Raises:
        ServiceError: another process of this home has a tunnel; the message names it.
        SettingsError: the home cannot be written.
    """
    file = _file(home)
    with _locked(home):
        _remove_left_behind(file)
        # the token is no argument of the agent, which every process could read; JSON is YAML
        content = json.dumps({"version": "3", "agent": {"authtoken": token}})
        files.write_whole(file, content, mode=0o600)
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)


def remove_left_behind(home: Path) -> None:
    """End the agent that a killed process of this home left behind, and remove its token."""
    if not any(_configurations(_file(home))):
        return
    with suppress(ServiceError), _locked(home):  # a process that runs has a tunnel
        _remove_left_behind(_file(home))


def running_agents() -> list[psutil.Process]:
    """Return the ngrok agents that run on this machine, as far as this user may see them."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        # a script is the second word, after its interpreter
        if any(Path(word).name == "ngrok" for word in (process.info["cmdline"] or [])[:2])
    ]


def _locked(home: Path) -> TextIO:
    """Return the open lock of a home, which contains the number of this process."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return files.hold(home / TUNNEL_LOCK)
    except BlockingIOError:
        pid = files.holder_of(home / TUNNEL_LOCK)
        raise ServiceError(
            f"process {pid} has a tunnel of {home} open. End it (kill {pid}), or set PROSPECT_HOME "
            "to another folder for a second tunnel."
        ) from None
    except OSError as error:
        raise files.not_writable(home, error) from error


def _file(home: Path) -> Path:
    return home.resolve() / CONFIG_FILE


def _configurations(file: Path) -> Iterator[Path]:
    """Yield the configuration, and its drafts, if they exist."""
    return file.parent.glob(f"*{file.name}*") if file.parent.is_dir() else iter(())


def _remove_left_behind(file: Path) -> None:
    """End the agents with a configuration; only for the process that holds its lock."""
    for agent in running_agents():
        if str(file) in agent.info["cmdline"]:
            with suppress(psutil.NoSuchProcess):
                agent.terminate()
                _, alive = psutil.wait_procs([agent], END_SECONDS)
                for stubborn in alive:
                    stubborn.kill()
            _log.warning("ended the ngrok agent that a killed process left behind: %d", agent.pid)
    for leftover in _configurations(file):
        leftover.unlink(missing_ok=True)
