"""Secrets and paths, and which backend is in use and why.

A setting is looked for in Colab's secrets panel, then in the environment, then in
``.env`` in the working folder. Names are those of Snowplow's tutorial; none of
them is needed for the embedded defaults (the local sandbox and DuckDB).

Example: ``Settings.load().describe()`` ->
``"Signals: local sandbox (none of SP_SANDBOX_URL, SP_API_URL is set) ..."``
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prospect_lib.errors import SettingsError

SignalsBackend = Literal["signals", "signals-sandbox", "local"]
Source = Callable[[str], str | None]
WarehouseBackend = Literal["snowflake", "duckdb"]

#: Every name that is read, with where a person gets its value.
SECRETS = {
    "SP_API_URL": "Snowplow Console > Signals > Overview, 'API URL'",
    "SP_API_KEY": "Snowplow Console > Settings > Manage organization > API keys",
    "SP_API_KEY_ID": "Snowplow Console > Settings > Manage organization > API keys",
    "SP_ORG_ID": "the UUID in the Snowplow Console's address",
    "SP_SANDBOX_URL": "the 'Profiles API URL' of a Signals sandbox",
    "SP_SANDBOX_TOKEN": "the token of the same Signals sandbox",
    "SF_ACNT": "Snowflake > Account details > Account identifier",
    "SF_USR": "your Snowflake user name",
    "SF_PWD": "your Snowflake password",
    "SF_TOKEN": "Snowflake > Settings > Authentication > Programmatic access tokens",
    "SF_PRIVATE_KEY_PATH": "the PKCS#8 key file of key-pair authentication",
    "SF_PRIVATE_KEY_PWD": "the pass phrase of that key file, where it has one",
    "SF_WH": "a Snowflake warehouse you may use",
    "SF_ROLE": "a Snowflake role, where your default role is not enough",
    "ATOMIC_TABLE": "the events table, such as snowplow_db.atomic.events",
    "NGROK_TOKEN": "https://dashboard.ngrok.com/get-started/your-authtoken",
}
SIGNALS_KEYS = ("SP_API_URL", "SP_API_KEY", "SP_API_KEY_ID", "SP_ORG_ID")
SANDBOX_KEYS = ("SP_SANDBOX_URL", "SP_SANDBOX_TOKEN")
SNOWFLAKE_KEYS = ("SF_ACNT", "SF_USR", "SF_WH", "ATOMIC_TABLE")
SNOWFLAKE_SIGN_IN = ("SF_PRIVATE_KEY_PATH", "SF_TOKEN", "SF_PWD")

SANDBOX_PORT = 9090
PREDICT_PORT = 9091


@dataclass(frozen=True)
class Settings:
    """Where state lives, which secrets are set, and what follows from them.

    Attributes:
        home: folder of the sandbox's state and of models (``PROSPECT_HOME``).
        sandbox_port: port of the local sandbox (``PROSPECT_PORT``).
        predict_port: port of the prediction server (``PREDICT_PORT``).
        values: the secrets that are set, by name; never printed.
    """

    home: Path
    sandbox_port: int = SANDBOX_PORT
    predict_port: int = PREDICT_PORT
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, dotenv: Path | str = ".env") -> "Settings":
        """Read Colab's secrets, then the environment, then ``.env``.

        Raises:
            SettingsError: ``.env`` cannot be read or parsed, or a port is no number.
        """
        sources: list[Source] = [_colab_secrets(), os.environ.get, _read_dotenv(Path(dotenv)).get]
        names = [*SECRETS, "PROSPECT_HOME", "PROSPECT_PORT", "PREDICT_PORT"]
        found = {name: _first(name, sources) for name in names}
        home = found.pop("PROSPECT_HOME") or "~/.prospect"
        return cls(
            home=Path(home).expanduser(),
            sandbox_port=_port("PROSPECT_PORT", found.pop("PROSPECT_PORT"), SANDBOX_PORT),
            predict_port=_port("PREDICT_PORT", found.pop("PREDICT_PORT"), PREDICT_PORT),
            values={name: value for name, value in found.items() if value},
        )

    @property
    def sandbox_url(self) -> str:
        """Address of the local sandbox, such as ``http://127.0.0.1:9090``."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def predict_url(self) -> str:
        """Address of the local prediction server, such as ``http://127.0.0.1:9091``."""
        return f"http://127.0.0.1:{self.predict_port}"

    @property
    def signals_backend(self) -> SignalsBackend:
        """Real Signals if any of its secrets is set, a Signals sandbox, else the local one."""
        if self._any(SIGNALS_KEYS):
            return "signals"
        return "signals-sandbox" if self._any(SANDBOX_KEYS) else "local"

    @property
    def warehouse_backend(self) -> WarehouseBackend:
        """Snowflake if any of its secrets is set, else embedded DuckDB."""
        return "snowflake" if self._any((*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN)) else "duckdb"

    def describe(self) -> str:
        """Two sentences: which backends are in use, and which names decided it."""
        signals = {
            "signals": ("Snowplow Signals", SIGNALS_KEYS),
            "signals-sandbox": ("a Signals sandbox", SANDBOX_KEYS),
            "local": (f"local sandbox at {self.sandbox_url}", (*SIGNALS_KEYS, *SANDBOX_KEYS)),
        }[self.signals_backend]
        warehouse = {
            "snowflake": ("Snowflake", (*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN)),
            "duckdb": ("embedded DuckDB", (*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN)),
        }[self.warehouse_backend]
        return "\n".join(
            f"{what}: {name} ({self._why(names)})."
            for what, (name, names) in (("Signals", signals), ("Warehouse", warehouse))
        )

    def secret(self, name: str) -> str:
        """The value of one secret.

        Raises:
            SettingsError: it is not set; the message says where to get it.
        """
        return self.secrets(name)[0]

    def secrets(self, *names: str) -> tuple[str, ...]:
        """The values of several secrets; one error names all that are missing."""
        missing = [name for name in names if name not in self.values]
        if missing:
            wanted = "\n".join(f"  {name}: {SECRETS[name]}" for name in missing)
            raise SettingsError(
                f"not set: {', '.join(missing)}. Get it here:\n{wanted}\nThen set it in "
                "Colab's secrets panel, in the environment or in a file .env as NAME=value."
            )
        return tuple(self.values[name] for name in names)

    def _any(self, names: tuple[str, ...]) -> bool:
        return any(name in self.values for name in names)

    def _why(self, names: tuple[str, ...]) -> str:
        present = [name for name in names if name in self.values]
        if present:
            return f"{', '.join(present)} set"
        return f"none of {', '.join(names)} is set"


def _first(name: str, sources: list[Source]) -> str | None:
    for source in sources:
        value = source(name)
        if value and value.strip():
            return value.strip()
    return None


def _colab_secrets() -> Source:
    """Secrets of Colab's panel; ``None`` outside Colab or where one is not granted."""
    silent = "google.colab" not in sys.modules

    def secret(name: str) -> str | None:
        nonlocal silent
        if silent:
            return None
        from google.colab import userdata  # only importable inside Colab

        try:
            value = userdata.get(name)
        except Exception as error:  # noqa: BLE001 - Colab raises plain Exceptions: absent, refused
            # without the page every name would wait for as long as the first
            silent = type(error).__name__ == "TimeoutException"
            return None
        return str(value) if value else None

    return secret


def _read_dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}. Save it as UTF-8 text.") from error
    return dict(
        _parse_line(path, number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    )


def _parse_line(path: Path, number: int, line: str) -> tuple[str, str]:
    name, equals, value = line.strip().removeprefix("export ").partition("=")
    if not equals or not name.strip().isidentifier():
        # the line may hold a secret, so only its number is shown
        raise SettingsError(
            f"{path}, line {number}: expected NAME=value (or # for a comment). Correct the line."
        )
    return name.strip(), value.strip().strip("\"'")


def _port(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise SettingsError(f"{name}={text!r}: expected a port number from 1 to 65535.")
