"""Google Colab: install what it lacks, leave alone what it has, and say so; its addresses.

Colab brings most of what the library needs, in versions of its own that its other parts rely
on. ``prepare`` installs only what is missing, pinned, and holds everything else where it is
by a constraint on every package that is installed.

Example: ``colab.prepare()`` -> prints ``Installed: pyngrok 9.1.0, … Nothing else changed.``
"""

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prospect_lib.errors import SettingsError
from prospect_lib.settings import SECRETS, Settings

if TYPE_CHECKING:  # before `prepare` its packages may not be there
    from prospect_lib.server.app import Server

#: What Colab does not bring, as pinned in requirements.txt.
LACKING = {
    "snowplow-signals": "0.4.10",
    "flask-cors": "6.0.5",
    "limits": "5.8.0",
    "waitress": "3.0.2",
    "pyngrok": "9.1.0",
    "ua-parser": "1.0.2",
    "ua-parser-builtins": "202610",
    "prometheus-client": "0.26.0",
}
#: Installed only once Snowflake's secrets are set. Version 5 needs a newer protobuf than Colab's.
SNOWFLAKE = {"snowflake-connector-python": "4.8.1"}
AGAIN = "Choose Runtime > Disconnect and delete runtime, and run this cell again."
Versions = dict[str, str]
Pip = Callable[[Sequence[str]], str]


def inside() -> bool:
    """Whether this is Colab's kernel."""
    return "google.colab" in sys.modules


def prepare(*, snowflake: bool | None = None, pip: Pip | None = None) -> list[str]:
    """Install what is missing, and print what was done; nothing where nothing is missing.

    Args:
        snowflake: the connector as well; by default if its secrets are set.
        pip: runs pip with arguments and returns what it said on failure, else ``""``.
    Returns:
        The names of what was installed.
    Raises:
        SettingsError: pip could not install it, or changed what it should not have.
    """
    if snowflake is None:
        snowflake = Settings.load().warehouse_backend == "snowflake"
    before = installed()
    wanted = LACKING | (SNOWFLAKE if snowflake else {})
    missing = [f"{name}=={pin}" for name, pin in wanted.items() if name not in before]
    if missing:
        _install(missing, before, pip or _pip)
    after = installed()
    _nothing_else_changed(before, after)
    names = [pin.partition("==")[0] for pin in missing]
    print(_told({name: after.get(name, wanted[name]) for name in names}))
    for line in refused():
        print(line)
    return names


def installed() -> Versions:
    """Every package and its version, by normalised name."""
    found = ((d.metadata["Name"], d.version) for d in metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def _install(missing: Sequence[str], before: Mapping[str, str], pip: Pip) -> None:
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "constraints.txt"
        held.write_text("".join(f"{name}=={version}\n" for name, version in before.items()))
        said = pip(["install", "-q", "--disable-pip-version-check", "-c", str(held), *missing])
    importlib.invalidate_caches()
    if said:
        last = "\n".join(said.strip().splitlines()[-3:])
        raise SettingsError(f"pip could not install {', '.join(missing)}:\n{last}\n{AGAIN}")


def _pip(arguments: Sequence[str]) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return (run.stderr or run.stdout or "pip said nothing") if run.returncode else ""


def _nothing_else_changed(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    changed = [f"{name} {was}" for name, was in before.items() if after.get(name) != was]
    if changed:
        raise SettingsError(f"pip changed what Colab brought: {', '.join(changed)}. {AGAIN}")


def _told(new: Mapping[str, str]) -> str:
    if not new:
        return "Nothing to install: everything that is needed is there."
    names = ", ".join(f"{name} {version}" for name, version in new.items())
    return f"Installed: {names}, and what they need. What Colab had is as it was."


def refused() -> list[str]:
    """A line for each secret that is in Colab's panel but that this notebook may not read."""
    if not inside():
        return []
    from google.colab import userdata  # only importable inside Colab

    lines: list[str] = []
    for name in SECRETS:
        try:
            userdata.get(name)
        except Exception as error:  # noqa: BLE001 - Colab's errors are plain Exceptions
            kind = type(error).__name__
            if kind == "TimeoutException":  # no page is open; each further name would wait as long
                return [*lines, "Colab's secrets panel did not answer: keep the page open."]
            if kind == "NotebookAccessError":
                lines.append(
                    f"{name} is in the secrets panel (the key, at the left), but this notebook "
                    "has no access: switch it on there and run this cell again."
                )
    return lines


def address(port: int) -> str:
    """Where a person's browser finds a port of this machine, in Colab through its proxy.

    Example: ``address(9090)`` -> ``"http://127.0.0.1:9090"`` outside Colab.
    """
    if not inside():
        return f"http://127.0.0.1:{port}"
    from google.colab import output  # only importable inside Colab

    found: Any = output.eval_js(f"google.colab.kernel.proxyPort({port})")
    return str(found).rstrip("/")


def open_site(settings: Settings, server: "Server") -> str:
    """Tell the demo website where its scores come from, and where a browser finds it.

    In Colab a browser is outside the machine: the server gets a public address, by ngrok where
    ``NGROK_TOKEN`` is set and else by Colab's proxy, and the token that goes with it. The
    server has to allow the website's origin, ``address(settings.sandbox_port)``.

    Raises:
        ServiceError: ngrok does not open its tunnel; the message says what to do.
    """
    from prospect_lib.server.announcement import announce
    from prospect_lib.server.tunnel import open_tunnel

    if inside():
        tunnel = open_tunnel(server, settings)
        announce(settings.home, tunnel.url, tunnel.token)
    else:
        announce(settings.home, server.url)
    return address(settings.sandbox_port)
