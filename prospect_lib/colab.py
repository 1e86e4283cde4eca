"""Prepare Google Colab: install what it lacks and leave everything else as it is.

Colab brings most of what the library needs, in versions that its other parts depend on.
``prepare`` installs only what is missing, pinned, under a constraint that holds every
installed package at its version.

Example: ``colab.prepare()`` -> prints ``Installed: pyngrok 9.1.0, … Nothing else changed.``
"""

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prospect_lib.errors import SettingsError
from prospect_lib.settings import DATABRICKS_CONNECTOR, SECRET_NAMES, Settings

if TYPE_CHECKING:  # its packages may be missing until `prepare` has run
    from prospect_lib.server.app import Server

#: What Colab does not bring.
LACKING = (
    "snowplow-signals",
    "flask-cors",
    "limits",
    "waitress",
    "pyngrok",
    "ua-parser",
    "ua-parser-builtins",
    "prometheus-client",
    "python-dotenv",
)
#: Installed only if the warehouse's secrets are set.
CONNECTORS = {
    "snowflake": ("snowflake-connector-python",),
    "databricks": (DATABRICKS_CONNECTOR.partition("==")[0],),
}
_DATABRICKS_PIN = dict([DATABRICKS_CONNECTOR.split("==")])
START_AGAIN = "Choose Runtime > Disconnect and delete runtime, and run this cell again."
Versions = dict[str, str]
Pip = Callable[[Sequence[str]], str]


def inside() -> bool:
    """Return whether this process is a Colab kernel."""
    return "google.colab" in sys.modules


def pinned() -> Versions:
    """Return the version of each package in ``prospect_lib/requirements.txt``, by name."""
    requirements = resources.files("prospect_lib").joinpath("requirements.txt").read_text()
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", requirements, re.MULTILINE))


def installed() -> Versions:
    """Return the version of each installed package, by normalised name."""
    packages = ((d.metadata["Name"], d.version) for d in metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in packages if name}


def prepare(*, snowflake: bool | None = None, pip: Pip | None = None) -> list[str]:
    """Install the missing packages and print what was installed.

    Args:
        snowflake: whether to install the Snowflake connector too; by default, the connector of
            the warehouse whose secrets are set.
        pip: runs pip with the given arguments; returns its output if it failed, else ``""``.
    Returns:
        The names of the installed packages.
    Raises:
        SettingsError: pip failed, or changed a package that was already installed.
    """
    before = installed()
    names = _install_missing(LACKING, pip or _pip)
    if snowflake is None:
        backend = Settings.load().warehouse_backend
    else:
        backend = "snowflake" if snowflake else "duckdb"
    names += _install_missing(CONNECTORS.get(backend, ()), pip or _pip)
    after = installed()
    changed = [
        f"{name} {version}" for name, version in before.items() if after.get(name) != version
    ]
    if changed:
        raise SettingsError(f"pip changed what Colab brought: {', '.join(changed)}. {START_AGAIN}")
    if names:
        pins = pinned() | _DATABRICKS_PIN
        versions = ", ".join(f"{name} {after.get(name, pins[name])}" for name in names)
        print(f"Installed: {versions}, and their dependencies. Nothing else changed.")
    else:
        print("Nothing to install: every package is there.")
    for line in refused_secrets():
        print(line)
    return names


def _install_missing(names: Sequence[str], pip: Pip) -> list[str]:
    before, pins = installed(), pinned() | _DATABRICKS_PIN
    missing = [name for name in names if name not in before]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{name}=={v}\n" for name, v in before.items()))
            options = ["-q", "--disable-pip-version-check", "-c", str(constraints)]
            failure = pip(["install", *options, *(f"{name}=={pins[name]}" for name in missing)])
        importlib.invalidate_caches()
        if failure:
            reason = "; ".join(failure.strip().splitlines()[-3:])
            raise SettingsError(
                f"pip could not install {', '.join(missing)}: {reason}. {START_AGAIN}"
            )
    return missing


def _pip(arguments: Sequence[str]) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return (run.stderr or run.stdout or "no output") if run.returncode else ""


def refused_secrets() -> list[str]:
    """Return one line per secret in Colab's panel that this notebook has no access to."""
    if not inside():
        return []
    from google.colab import userdata  # exists only inside Colab

    lines: list[str] = []
    for name in SECRET_NAMES:
        try:
            userdata.get(name)
        except Exception as error:  # noqa: BLE001 - Colab's errors are plain Exceptions
            kind = type(error).__name__
            if kind == "TimeoutException":  # no page is open: each further name would wait as long
                return [*lines, "Colab's secrets panel did not answer: keep the page open."]
            if kind == "NotebookAccessError":
                lines.append(
                    f"{name} is in the secrets panel (the key symbol at the left), but this "
                    "notebook has no access: switch it on there and run this cell again."
                )
    return lines


def address(port: int) -> str:
    """Return the address at which the user's browser reaches a port: in Colab, its proxy's.

    Example: ``address(9090)`` -> ``"http://127.0.0.1:9090"`` outside Colab.
    """
    if not inside():
        return f"http://127.0.0.1:{port}"
    from google.colab import output  # exists only inside Colab

    proxy: Any = output.eval_js(f"google.colab.kernel.proxyPort({port})")
    return str(proxy).rstrip("/")


def share_secrets() -> list[str]:
    """Let commands of later cells, such as ``!python -m prospect_lib demo``, read the secrets.

    Colab's panel answers to cells only. Prints and returns the names of the secrets.
    """
    settings = Settings.load()
    os.environ.update(settings.environment)
    print("Commands of this notebook now read:", ", ".join(settings.values) or "no secrets")
    return [*settings.values]


def open_site(settings: Settings, server: "Server") -> str:
    """Announce the prediction server to the demo website, and return the website's address.

    In Colab the browser is outside the machine: the website passes its requests on to the
    server, which then asks for a token (``server.headers`` has one).

    With Signals elsewhere there is no demo website: a sentence says so instead.
    """
    if settings.signals_backend != "local":
        return "No demo website: Signals is elsewhere, and gets the events of your own website."
    from prospect_lib.server.announcement import announce
    from prospect_lib.server.tunnel.agent import remove_left_behind

    remove_left_behind(settings.home)
    extensions = server.app.extensions
    key, guard = extensions["prospect_key"], extensions["prospect_guard"]
    token = guard.token or (guard.issue_token() if inside() else None)
    announce(settings.home, server.url, token, key)
    extensions["prospect_closers"].append(lambda: announce(settings.home, None))
    return address(settings.sandbox_port)


def show_site(settings: Settings) -> None:
    """In Colab, show the demo website of the local sandbox below the cell; else do nothing.

    Its address works in a tab of its own only if the browser lets Colab's proxy keep cookies.
    """
    if inside() and settings.signals_backend == "local":
        from google.colab import output  # exists only inside Colab

        output.serve_kernel_port_as_iframe(settings.sandbox_port, height="800")
