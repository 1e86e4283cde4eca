"""Is this machine ready? One line a check: what was found and, where it is not well, what to do.

Example: ``python -m prospect_lib doctor`` -> ``ok       Python        3.11.7``; the exit
code is 0 where nothing failed, and 2 otherwise. Warnings do not fail.
"""

import json
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import requests

from prospect_lib import colab
from prospect_lib.settings import SANDBOX_KEYS, SECRETS, SIGNALS_KEYS, SNOWFLAKE_KEYS, Settings

State = Literal["ok", "warning", "failure"]
Reach = Callable[[str, int], None]

OLDEST_PYTHON = (3, 11)
#: Package: the oldest and the newest version that the series was run with.
TESTED = {
    "snowplow-signals": ("0.4.10", "0.4.10"),
    "pandas": ("2.2.3", "2.3.3"),
    "numpy": ("2.1.3", "2.4.6"),
    "pyarrow": ("18.1.0", "26.0.0"),
    "duckdb": ("1.3.2", "2.0.0"),
    "scikit-learn": ("1.6.1", "1.9.1"),
    "flask": ("3.1.3", "3.1.3"),
    "flask-cors": ("6.0.5", "6.0.5"),
    "limits": ("5.8.0", "5.8.0"),
    "waitress": ("3.0.2", "3.0.2"),
    "requests": ("2.32.0", "2.34.2"),
    "prometheus-client": ("0.20.0", "0.26.0"),
    "ua-parser": ("1.0.2", "1.0.2"),
    "tqdm": ("4.66.0", "4.70.1"),
    "matplotlib": ("3.10.0", "3.11.2"),
    "pyngrok": ("9.1.0", "9.1.0"),
    "snowflake-connector-python": ("4.8.1", "4.8.1"),
}
ROOM, LITTLE_ROOM = 2.0, 0.5  # GB in PROSPECT_HOME: the demo's history and models take 0.1
NGROK_HOST, CONSOLE_HOST = "connect.ngrok-agent.com", "console.snowplowanalytics.com"


@dataclass(frozen=True)
class Check:
    """One line: ``name`` was looked at, ``found`` is what is there, ``do`` what to do about it."""

    name: str
    state: State
    found: str
    do: str = ""

    def __str__(self) -> str:
        line = f"{self.state:8} {self.name:14} {self.found}"
        return f"{line}\n{'':8} -> {self.do}" if self.do else line


def examine(settings: Settings, *, reach: Reach | None = None) -> list[Check]:
    """Every check, in the order in which a person would put things right.

    Args:
        reach: opens a connection to (host, port) or raises ``OSError``; only asked where a
            secret makes a host needed.
    """
    return [
        python(sys.version_info[:3]),
        *packages(),
        home(settings.home),
        disk(settings.home),
        port("sandbox port", settings.sandbox_port, "PROSPECT_PORT", "prospect-sandbox"),
        port("predict port", settings.predict_port, "PREDICT_PORT", "model"),
        *programs(),
        *secrets(settings),
        *network(settings, reach or _connect),
    ]


def report(checks: list[Check], *, as_json: bool = False) -> str:
    """All lines and a summary, or the same as JSON for a script."""
    failed = sum(check.state == "failure" for check in checks)
    warned = sum(check.state == "warning" for check in checks)
    if as_json:
        found = {"ready": not failed, "checks": [asdict(check) for check in checks]}
        return json.dumps(found, indent=1)
    verdict = "Ready." if not failed else f"Not ready: {failed} to put right."
    return "\n".join([*map(str, checks), f"{verdict} Warnings: {warned}."])


def python(version: tuple[int, ...]) -> Check:
    """Python is new enough."""
    said = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return Check("Python", "ok", said)
    return Check("Python", "failure", said, "Install Python 3.11 or newer and run `make demo`.")


def packages(installed: Callable[[str], str | None] | None = None) -> Iterator[Check]:
    """Packages that are missing, or of another version than was tested; one line if all is well."""
    look = installed or _version
    problems = [found for name in TESTED if (found := _package(name, look(name)))]
    problems += _xgboost(look("xgboost"), look("xgboost-cpu"))
    yield from problems
    if not problems:
        yield Check("packages", "ok", f"{len(TESTED) + 1} installed, all of tested versions")


def _package(name: str, version: str | None) -> Check | None:
    oldest, newest = TESTED[name]
    if version is None:
        do = f"pip install {name}=={newest}  (or `make demo`, which installs everything)"
        return Check(name, "failure", "not installed", do)
    if _number(oldest) <= _number(version) <= _number(newest):
        return None
    tested = newest if oldest == newest else f"{oldest} to {newest}"
    do = f"Tested with {tested}. If something breaks: pip install {name}=={newest}"
    return Check(name, "warning", version, do)


def _xgboost(full: str | None, cpu: str | None) -> list[Check]:
    if full and cpu:
        do = "Both write the same files. pip uninstall -y xgboost xgboost-cpu, then `make demo`."
        return [Check("xgboost", "failure", f"xgboost {full} and xgboost-cpu {cpu}", do)]
    if full or cpu:
        return []
    do = "pip install xgboost-cpu==3.2.0  (on Linux; elsewhere xgboost==3.2.0)"
    return [Check("xgboost", "failure", "not installed", do)]


def home(folder: Path) -> Check:
    """PROSPECT_HOME, or the first of its parents that exists, can be written."""
    there = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return Check("PROSPECT_HOME", "ok", f"{folder} can be written")
    except OSError as error:
        do = "Set PROSPECT_HOME to a folder of yours."
        return Check("PROSPECT_HOME", "failure", f"{folder}: {error.strerror}", do)


def disk(folder: Path, free: int | None = None) -> Check:
    """Room for history, models and logs; ``free`` in bytes."""
    gigabytes = (shutil.disk_usage(_existing(folder)).free if free is None else free) / 1e9
    found = f"{gigabytes:.1f} GB free"
    if gigabytes >= ROOM:
        return Check("disk", "ok", found)
    do = f"Free some, or set PROSPECT_HOME to a disk with {ROOM:g} GB."
    return Check("disk", "failure" if gigabytes < LITTLE_ROOM else "warning", found, do)


def port(name: str, number: int, variable: str, marker: str) -> Check:
    """A port is free, or it is our own server that answers there (``marker`` in its health)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
            return Check(name, "ok", f"{number} is free")
        except OSError:
            pass
    if marker in _health(number):
        return Check(name, "ok", f"{number} is ours: it runs already")
    do = f"Stop what runs there, or choose another: {variable}={number + 100}."
    return Check(name, "failure", f"{number} is in use by something else", do)


def _health(number: int) -> str:
    try:
        answer = requests.get(f"http://127.0.0.1:{number}/health", timeout=2)
        kind = answer.headers.get("Content-Type", "")
    except requests.RequestException:
        return ""
    return answer.text if kind.startswith("application/json") else ""


def programs(find: Callable[[str], str | None] = shutil.which) -> Iterator[Check]:
    """What is good to have: a browser to test with, npm for the tracker's files."""
    for name, wanted in (
        ("chromium", "Only the browser tests need it: apt-get install chromium."),
        ("npm", "Without it the demo website loads the tracker from a CDN."),
    ):
        found = find(name)
        state: State = "ok" if found else "warning"
        yield Check(name, state, "installed" if found else "not installed", "" if found else wanted)


def secrets(settings: Settings) -> Iterator[Check]:
    """Which backend follows from the secrets, which of it are missing, which Colab withholds."""
    signals, warehouse = settings.describe().splitlines()
    wanted = {"signals": SIGNALS_KEYS, "signals-sandbox": SANDBOX_KEYS, "local": ()}
    yield _backend("Signals", signals, settings, wanted[settings.signals_backend])
    snowflake = SNOWFLAKE_KEYS if settings.warehouse_backend == "snowflake" else ()
    yield _backend("Warehouse", warehouse, settings, snowflake)
    for line in colab.refused():
        withheld, _, do = line.partition(": ")
        yield Check("Colab", "warning", withheld, do[0].upper() + do[1:])
    tunnel = "set" if "NGROK_TOKEN" in settings.values else "not set: no public address"
    yield Check("NGROK_TOKEN", "ok", tunnel)


def _backend(name: str, said: str, settings: Settings, wanted: tuple[str, ...]) -> Check:
    missing = [key for key in wanted if key not in settings.values]
    found = said.partition(": ")[2].partition(" (")[0]
    if not missing:
        return Check(name, "ok", found)
    do = "Set " + "; ".join(f"{key} ({SECRETS[key]})" for key in missing) + "."
    return Check(name, "failure", f"{found}, but not set: {', '.join(missing)}", do)


def network(settings: Settings, reach: Reach) -> Iterator[Check]:
    """The hosts that the secrets make needed; none without secrets."""
    for host, number, because in _hosts(settings):
        try:
            reach(host, number)
            yield Check("network", "ok", f"{host} can be reached")
        except OSError as error:
            do = f"Ask for {host}:{number} to be opened in the firewall, or correct {because}."
            yield Check("network", "failure", f"{host}: {type(error).__name__}", do)


def _hosts(settings: Settings) -> Iterator[tuple[str, int, str]]:
    values = settings.values
    for name in ("SP_API_URL", "SP_SANDBOX_URL"):
        if name in values:
            address = urlsplit(values[name])
            standard = 80 if address.scheme == "http" else 443
            yield address.hostname or values[name], address.port or standard, name
    if settings.signals_backend == "signals":
        yield CONSOLE_HOST, 443, "the proxy"
    if "SF_ACNT" in values:
        yield f"{values['SF_ACNT']}.snowflakecomputing.com".lower(), 443, "SF_ACNT"
    if "NGROK_TOKEN" in values:
        yield NGROK_HOST, 443, "the proxy"


def _connect(host: str, number: int) -> None:
    socket.create_connection((host, number), timeout=3).close()


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _number(version: str) -> tuple[int, ...]:
    """Example: ``_number("2.1.0rc1")`` -> ``(2, 1, 0)``"""
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int(re.match(r"\d*", part)[0] or 0) for part in parts)  # type: ignore[index]
