"""Check whether this machine and the accounts are ready: one line per check, and what to do.

Example: ``python -m prospect_lib doctor`` -> ``ok       Python         3.11.7``; the exit code
is 0 if no check failed, and 2 otherwise. Warnings do not count as failures.
"""

import http.client
import json
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from prospect_lib import colab
from prospect_lib.doctor.accounts import (
    OpenWarehouse,
    open_limited,
    signals_account,
    warehouse_checks,
)
from prospect_lib.doctor.check import Check, failure
from prospect_lib.errors import ProspectError, SettingsError
from prospect_lib.files import nearest_existing, writable_folder
from prospect_lib.secret_values import databricks_host, snowflake_account
from prospect_lib.settings import (
    DATABRICKS_KEYS,
    SANDBOX_KEYS,
    SECRETS,
    SIGNALS_KEYS,
    SNOWFLAKE_KEYS,
    SNOWFLAKE_SIGN_IN,
    Settings,
    misspelt,
)

Reach = Callable[[str, int], None]

OLDEST_PYTHON = (3, 11)
#: The oldest tested version, where it is not the pinned one: Colab's (tests/colab/versions.txt).
OLDEST = {
    "pandas": "2.2.3",
    "numpy": "2.1.3",
    "pyarrow": "18.1.0",
    "duckdb": "1.3.2",
    "scikit-learn": "1.6.1",
    "matplotlib": "3.10.0",
}
#: Not checked with the others: one of the first two is enough, and the rest is optional.
OTHER_PACKAGES = ("xgboost", "xgboost-cpu", "jupyter", "gunicorn")
ENOUGH_GB, TOO_LITTLE_GB = 2.0, 0.5  # of free disk; the demo's history and models take 0.1 GB
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NGROK_HOST, CONSOLE_HOST = "connect.ngrok-agent.com", "console.snowplowanalytics.com"


def examine(
    settings: Settings,
    *,
    reach: Reach | None = None,
    open_warehouse: OpenWarehouse | None = None,
) -> list[Check]:
    """Run every check, in the order in which a user would correct the problems.

    Accounts are used only if their secrets are complete and their hosts are reachable.

    Args:
        reach: opens a connection to (host, port) or raises ``OSError``; called only for the
            hosts that the secrets require.
        open_warehouse: signs in to Snowflake or Databricks; by default as the secrets say.
    """
    backends = [*secrets(settings), *network(settings, reach or _connect)]
    if not any(check.state == "failure" and check.name != "ngrok" for check in backends):
        if settings.signals_backend != "local":
            backends += [signals_account(settings)]
        if settings.warehouse_backend != "duckdb":
            backends += warehouse_checks(settings, open_warehouse or open_limited)
    return [
        python(sys.version_info[:3]),
        *packages(),
        home(settings.home),
        disk(settings.home),
        port("sandbox port", settings.sandbox_port, "PROSPECT_PORT", "prospect-sandbox"),
        port("predict port", settings.predict_port, "PREDICT_PORT", "model"),
        *programs(),
        scoring_problem(settings),
        *backends,
    ]


def scoring_problem(settings: Settings) -> Check:
    """Check that the scoring problem in use can be loaded."""
    try:
        from prospect_lib.problem import chosen_problem  # needs the packages checked above

        problem = chosen_problem(settings)
    except ImportError as error:
        return Check("problem", "failure", f"not checked: {error}", "Install the packages first.")
    except ProspectError as error:
        do = "Correct the file, or unset PROSPECT_PROBLEM to use the demo website's problem."
        return Check("problem", "failure", str(error), do)
    about = f"{problem.name}: {len(problem.group.attributes)} attributes of a {problem.key}"
    return Check("problem", "ok", about)


def report(checks: list[Check], *, as_json: bool = False) -> str:
    """Return one line per check and a summary, or the same as JSON."""
    failed = sum(check.state == "failure" for check in checks)
    warned = sum(check.state == "warning" for check in checks)
    if as_json:
        checked = {"ready": not failed, "checks": [asdict(check) for check in checks]}
        return json.dumps(checked, indent=1)
    summary = "Ready." if not failed else f"Not ready: {failed} to correct."
    return "\n".join([*map(str, checks), f"{summary} Warnings: {warned}."])


def python(version: tuple[int, ...]) -> Check:
    """Check that Python is new enough."""
    number = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return Check("Python", "ok", number)
    return Check("Python", "failure", number, "Install Python 3.11 or newer and run `make demo`.")


def tested() -> dict[str, tuple[str, str]]:
    """Return the oldest and the newest tested version of each required package, by name."""
    pins = colab.pinned()
    return {
        name: (OLDEST.get(name, pins[name]), pins[name]) for name in pins.keys() - {*OTHER_PACKAGES}
    }


def packages(version_of: Callable[[str], str | None] | None = None) -> Iterator[Check]:
    """Yield a check per package that is missing or of an untested version, or one for all."""
    version_of = version_of or colab.installed().get
    versions = tested()
    problems = [
        problem
        for name, (oldest, newest) in sorted(versions.items())
        if (problem := _package(name, version_of(name), oldest, newest))
    ]
    problems += _xgboost(version_of("xgboost"), version_of("xgboost-cpu"))
    yield from problems
    if not problems:
        yield Check("packages", "ok", f"{len(versions) + 1} installed, all of tested versions")


def _package(name: str, version: str | None, oldest: str, newest: str) -> Check | None:
    if version is None:
        do = f"pip install {name}=={newest}  (or `make demo`, which installs everything)"
        return Check(name, "failure", "not installed", do)
    if _number(oldest) <= _number(version) <= _number(newest):
        return None
    versions = newest if oldest == newest else f"{oldest} to {newest}"
    do = f"Tested with {versions}. If something breaks: pip install {name}=={newest}"
    return Check(name, "warning", version, do)


def _xgboost(full: str | None, cpu: str | None) -> list[Check]:
    if full and cpu:
        do = "Both write the same files. pip uninstall -y xgboost xgboost-cpu, then `make demo`."
        return [Check("xgboost", "failure", f"xgboost {full} and xgboost-cpu {cpu}", do)]
    if full or cpu:
        return []
    name = "xgboost-cpu" if sys.platform == "linux" else "xgboost"
    do = f"pip install {name}=={colab.pinned()[name]}"
    return [Check("xgboost", "failure", "not installed", do)]


def home(folder: Path) -> Check:
    """Check that PROSPECT_HOME, or the nearest of its parents that exists, is writable."""
    try:
        return Check("PROSPECT_HOME", "ok", f"{writable_folder(folder)} is writable")
    except SettingsError as error:
        return failure("PROSPECT_HOME", error)


def disk(folder: Path, free: int | None = None) -> Check:
    """Check the free space for history, models and logs.

    Args:
        free: free bytes; by default those of the disk of ``folder``.
    """
    gigabytes = (shutil.disk_usage(nearest_existing(folder)).free if free is None else free) / 1e9
    free_space = f"{gigabytes:.1f} GB free"
    if gigabytes >= ENOUGH_GB:
        return Check("disk", "ok", free_space)
    do = f"Free some space, or set PROSPECT_HOME to a disk with {ENOUGH_GB:g} GB."
    return Check("disk", "failure" if gigabytes < TOO_LITTLE_GB else "warning", free_space, do)


def port(name: str, number: int, variable: str, marker: str) -> Check:
    """Check that a port is free, or that our own server answers there.

    Args:
        variable: the environment variable that sets the port.
        marker: text in the ``/health`` answer of our own server.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
            return Check(name, "ok", f"{number} is free")
        except OSError:
            pass
    if marker in _health(number):
        return Check(name, "ok", f"{number} is ours: our server is running there")
    do = f"Stop the program there, or choose another port: {variable}={number + 100}."
    return Check(name, "failure", f"{number} is in use by another program", do)


def _health(number: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=2)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.read().decode() if is_json else ""
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return ""
    finally:
        connection.close()


def programs(find: Callable[[str], str | None] = shutil.which) -> Iterator[Check]:
    """Check the optional programs: a browser for the tests, npm for the tracker's files."""
    for name, do in (
        ("chromium", "Only the browser tests need it: apt-get install chromium."),
        ("npm", "Without it the demo website loads the tracker from a CDN."),
    ):
        if find(name):
            yield Check(name, "ok", "installed")
        else:
            yield Check(name, "warning", "not installed", do)


def secrets(settings: Settings) -> Iterator[Check]:
    """Check each backend's secrets: missing ones, wrong ones, and those that Colab withholds."""
    signals, warehouse = settings.describe().splitlines()
    required = {"signals": SIGNALS_KEYS, "signals-sandbox": SANDBOX_KEYS, "local": ()}
    yield _backend("Signals", signals, settings, required[settings.signals_backend])
    keys = {"snowflake": SNOWFLAKE_KEYS, "databricks": DATABRICKS_KEYS, "duckdb": ()}
    yield _backend("Warehouse", warehouse, settings, keys[settings.warehouse_backend])
    if settings.warehouse_backend == "snowflake" and not any(
        name in settings.values for name in SNOWFLAKE_SIGN_IN
    ):
        do = f"Set one of {', '.join(SNOWFLAKE_SIGN_IN)}."
        yield Check("Warehouse", "failure", "no way to sign in to Snowflake is set", do)
    for name in settings.values:
        if sentence := settings.refusal(name):
            yield Check("secret", "failure", sentence, f"Correct {settings.name_of(name)}.")
    yield from _consistent(settings)
    for line in colab.refused_secrets():
        problem, _, do = line.partition(": ")
        yield Check("Colab", "warning", problem, do[0].upper() + do[1:])
    tunnel = "set" if "NGROK_TOKEN" in settings.values else "not set: no public address"
    yield Check("NGROK_TOKEN", "ok", tunnel)


def _consistent(settings: Settings) -> Iterator[Check]:
    """Check what needs no network: keys, two values of one setting, the owner."""
    values = settings.values
    if settings.warehouse_backend == "snowflake" and values.keys() >= {*SNOWFLAKE_KEYS}:
        try:
            from prospect_lib.warehouse.snowflake_sign_in import connector_arguments

            connector_arguments(settings)  # reads the private key
        except SettingsError as error:
            yield failure("Snowflake", error)
        except ImportError:
            pass  # reported as a missing package
    for name, alias in settings.differing.items():
        observed = f"{name} and {alias} are both set and differ: {name} is used"
        yield Check("secret", "warning", observed, f"Remove {alias}, or correct {name}.")
    for name, setting in misspelt().items():
        do = f"If it is meant for {setting}, correct its name."
        yield Check("secret", "warning", f"{name} is set, and no setting has that name", do)
    ways = [name for name in SNOWFLAKE_SIGN_IN if name in values]
    if ways[1:] and "SF_AUTHENTICATOR" not in ways:
        observed = f"{' and '.join(ways)} are set: {ways[0]} is used"
        yield Check("secret", "warning", observed, "Remove what is not to be used.")
    if Path(".env").is_dir():
        observed = ".env is a folder, from which no settings are read"
        yield Check("secret", "warning", observed, "Write NAME=value lines into a file .env.")
    if settings.signals_backend != "signals":
        return
    if "SP_ORG_ID" in values and not re.fullmatch(_UUID, values["SP_ORG_ID"].lower()):
        do = f"Copy it again: {SECRETS['SP_ORG_ID']}."
        yield Check("secret", "warning", f"{settings.name_of('SP_ORG_ID')} is not a UUID", do)
    if "SP_OWNER" not in values:
        observed = "SP_OWNER is not set: publish records the owner that the problem names"
        yield Check("secret", "warning", observed, "Set SP_OWNER to your e-mail address.")


def _backend(name: str, described: str, settings: Settings, keys: tuple[str, ...]) -> Check:
    missing = [key for key in keys if key not in settings.values]
    backend = described.partition(": ")[2].removesuffix(".")
    if not missing:
        return Check(name, "ok", backend)
    do = "Set " + "; ".join(f"{key} ({SECRETS[key]})" for key in missing) + "."
    return Check(name, "failure", f"{backend}, but not set: {', '.join(missing)}", do)


def network(settings: Settings, reach: Reach) -> Iterator[Check]:
    """Check that each host that the secrets require is reachable; none without secrets."""
    for host, number, source in _hosts(settings):
        # what stands in SF_ACNT may be another secret; an address is one or is refused
        label = "the host of SF_ACNT" if source == "SF_ACNT" else host
        name = "ngrok" if host == NGROK_HOST else "network"
        try:
            reach(host, number)
            yield Check(name, "ok", f"{label} is reachable")
        except OSError as error:
            do = f"Open {label}, port {number}, in the firewall, or correct {source}."
            yield Check(name, "failure", f"{label}: {type(error).__name__}", do)


def _hosts(settings: Settings) -> Iterator[tuple[str, int, str]]:
    values = settings.values
    for name in ("SP_API_URL", "SP_SANDBOX_URL"):
        if name in values and not settings.refusal(name):
            address = urlsplit(values[name])
            default = 80 if address.scheme == "http" else 443
            yield address.hostname or "", address.port or default, settings.name_of(name)
    if settings.signals_backend == "signals":
        yield CONSOLE_HOST, 443, "the proxy"
    if account := snowflake_account(values.get("SF_ACNT", "")):
        yield f"{account}.snowflakecomputing.com", 443, "SF_ACNT"
    host = databricks_host(values.get("DATABRICKS_SERVER_HOSTNAME", ""))
    if host and settings.warehouse_backend == "databricks":
        yield host, 443, settings.name_of("DATABRICKS_SERVER_HOSTNAME")
    if "NGROK_TOKEN" in values:
        yield NGROK_HOST, 443, "the proxy"


def _connect(host: str, number: int) -> None:
    socket.create_connection((host, number), timeout=3).close()


def _number(version: str) -> tuple[int, ...]:
    """Example: ``_number("2.1.0rc1")`` -> ``(2, 1, 0)``"""
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int(re.match(r"\d*", part)[0] or 0) for part in parts)  # type: ignore[index]
