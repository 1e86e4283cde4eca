"""Secrets, paths and ports, and the backends that follow from them.

A setting is read from Colab's secrets panel, then from the environment, then from ``.env``
in the working folder; the first value wins. The names are those of Snowplow's tutorial and of
Databricks' SQL connector; those of Snowplow's documentation (``SIGNALS_API_URL``) are read as
well. The embedded defaults (the local sandbox and DuckDB) need none of them.

Example: ``Settings.load().describe()`` ->
``"Signals: local sandbox (none of SP_SANDBOX_URL, SP_API_URL is set) ..."``
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from prospect_lib.errors import SettingsError
from prospect_lib.secret_values import refusal

SignalsBackend = Literal["signals", "signals-sandbox", "local"]
SecretSource = Callable[[str], str | None]
WarehouseBackend = Literal["snowflake", "databricks", "duckdb"]

#: Every secret by name, with the place where a user finds its value.
SECRETS = {
    "SP_API_URL": "Snowplow Console > Signals > Overview, 'API URL'",
    "SP_API_KEY": "Snowplow Console > Settings > Manage organization > API keys",
    "SP_API_KEY_ID": "Snowplow Console > Settings > Manage organization > API keys",
    "SP_ORG_ID": "Snowplow Console > Signals > Overview: a UUID, also in the Console's address",
    "SP_SANDBOX_URL": "the 'Profiles API URL' of a Signals sandbox",
    "SP_SANDBOX_TOKEN": "the token of the same Signals sandbox",
    "SP_OWNER": "the e-mail address that Signals records as the owner of what you publish",
    "SF_ACNT": "Snowflake > Account details > Account identifier",
    "SF_USR": "your Snowflake user name",
    "SF_PRIVATE_KEY": "the text of the key file of key-pair authentication",
    "SF_PRIVATE_KEY_PATH": "the key file of key-pair authentication",
    "SF_PRIVATE_KEY_PWD": "the passphrase of that key, if it has one",
    "SF_TOKEN": "Snowflake > Settings > Authentication > Programmatic access tokens",
    "SF_PWD": "your Snowflake password",
    "SF_PASSCODE": "the code that your authenticator app shows",
    "SF_AUTHENTICATOR": "another way to sign in: externalbrowser for SSO, oauth with SF_TOKEN",
    "SF_WH": "a Snowflake warehouse that your role may use",
    "SF_ROLE": "a Snowflake role, if your default role is not enough",
    "SF_DB": "the database, if ATOMIC_TABLE does not name it",
    "SF_SCHEMA": "the schema, if ATOMIC_TABLE does not name it",
    "SF_SCRATCH": "a schema for working tables, such as my_db.scratch",
    "SF_PARTITION": "the time column by which the events table is partitioned, if not "
    "collector_tstamp",
    "DATABRICKS_SERVER_HOSTNAME": "Databricks > SQL Warehouses > Connection details",
    "DATABRICKS_HTTP_PATH": "Databricks > SQL Warehouses > Connection details",
    "DATABRICKS_TOKEN": "Databricks > Settings > Developer > Access tokens",
    "DATABRICKS_PARTITION": "the time column by which the events table is partitioned, if not "
    "collector_tstamp; the lake loader's is load_tstamp",
    "ATOMIC_TABLE": "the events table, such as snowplow_db.atomic.events",
    "NGROK_TOKEN": "https://dashboard.ngrok.com/get-started/your-authtoken",
}
#: Other names of settings, Snowplow's own and that of Databricks' SDK, read where ours is not set.
OTHER_NAMES = {
    "SP_API_URL": "SIGNALS_API_URL",
    "SP_API_KEY": "SIGNALS_API_KEY",
    "SP_API_KEY_ID": "SIGNALS_API_KEY_ID",
    "SP_ORG_ID": "SIGNALS_ORG_ID",
    "DATABRICKS_SERVER_HOSTNAME": "DATABRICKS_HOST",
}
#: Every name that is read.
SECRET_NAMES = (*SECRETS, *OTHER_NAMES.values())
SIGNALS_KEYS = ("SP_API_URL", "SP_API_KEY", "SP_API_KEY_ID", "SP_ORG_ID")
SANDBOX_KEYS = ("SP_SANDBOX_URL", "SP_SANDBOX_TOKEN")
SNOWFLAKE_KEYS = ("SF_ACNT", "SF_USR", "SF_WH", "ATOMIC_TABLE")
#: One of these is enough.
SNOWFLAKE_SIGN_IN = (
    "SF_PRIVATE_KEY",
    "SF_PRIVATE_KEY_PATH",
    "SF_TOKEN",
    "SF_PWD",
    "SF_AUTHENTICATOR",
)
DATABRICKS_KEYS = (
    "DATABRICKS_SERVER_HOSTNAME",
    "DATABRICKS_HTTP_PATH",
    "DATABRICKS_TOKEN",
    "ATOMIC_TABLE",
)
#: Which setting names the time column by which the events table is partitioned, by dialect.
PARTITION_SETTINGS = {"snowflake": "SF_PARTITION", "databricks": "DATABRICKS_PARTITION"}
#: Selects Databricks alone; host and token, which other programs read too, only with ATOMIC_TABLE.
_DATABRICKS_CHOICE = "DATABRICKS_HTTP_PATH"
#: Installed only by who uses Databricks: the extra ``databricks`` of pyproject.toml.
DATABRICKS_CONNECTOR = "databricks-sql-connector==4.9.0"

SANDBOX_PORT = 9090
PREDICT_PORT = 9091


@dataclass(frozen=True)
class Settings:
    """The folder for state, the ports, the secrets, and the backends that they select.

    Attributes:
        home: folder of the sandbox's state and of the models (``PROSPECT_HOME``).
        sandbox_port: port of the local sandbox (``PROSPECT_PORT``).
        predict_port: port of the prediction server (``PREDICT_PORT``).
        problem: where the scoring problem is (``PROSPECT_PROBLEM``), as for ``load_problem``;
            empty for the demo website's.
        values: the secrets that are set, by name; never printed.
        read_as: the names under which secrets were read, where they are not ours.
        differing: secrets that the other name sets to another value, which is not used.
    """

    home: Path
    sandbox_port: int = SANDBOX_PORT
    predict_port: int = PREDICT_PORT
    problem: str = ""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_as: Mapping[str, str] = field(default_factory=dict)
    differing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, dotenv: Path | str = ".env") -> "Settings":
        """Read every setting from Colab's secrets, the environment and ``.env``.

        Raises:
            SettingsError: ``.env`` cannot be read or parsed, or a port is not a port number.
        """
        sources: list[SecretSource] = [
            _colab_secrets(),
            os.environ.get,
            _read_dotenv(Path(dotenv)).get,
        ]
        values, read_as = _read_secrets(sources)
        return cls(
            home=Path(_first("PROSPECT_HOME", sources) or "~/.prospect").expanduser(),
            sandbox_port=_port("PROSPECT_PORT", sources, SANDBOX_PORT),
            predict_port=_port("PREDICT_PORT", sources, PREDICT_PORT),
            problem=_first("PROSPECT_PROBLEM", sources) or "",
            values=values,
            read_as=read_as,
            differing={
                name: alias
                for name, alias in OTHER_NAMES.items()
                if (other := _first(alias, sources)) and _bare(other) != _bare(values[name])
            },
        )

    @property
    def sandbox_url(self) -> str:
        """Return the address of the local sandbox, such as ``http://127.0.0.1:9090``."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def predict_url(self) -> str:
        """Return the address of the local prediction server, such as ``http://127.0.0.1:9091``."""
        return f"http://127.0.0.1:{self.predict_port}"

    @property
    def signals_backend(self) -> SignalsBackend:
        """Return the Signals to use.

        Signals itself if any of its secrets is set, else a Signals sandbox if any of *its*
        secrets is set, else the local sandbox.
        """
        if self._any(SIGNALS_KEYS):
            return "signals"
        return "signals-sandbox" if self._any(SANDBOX_KEYS) else "local"

    @property
    def warehouse_backend(self) -> WarehouseBackend:
        """Return the warehouse to use.

        Databricks if its HTTP path is set, or its host or token with the events table, and no
        secret of Snowflake; Snowflake if any of its secrets or the events table is; else DuckDB.
        """
        snowflake = (*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN)
        only_snowflakes = [name for name in snowflake if name != "ATOMIC_TABLE"]
        is_meant = _DATABRICKS_CHOICE in self.values or (
            "ATOMIC_TABLE" in self.values and self._any(set(DATABRICKS_KEYS) - {"ATOMIC_TABLE"})
        )
        if is_meant and not self._any(only_snowflakes):
            return "databricks"
        return "snowflake" if self._any(snowflake) else "duckdb"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which another program reads the same settings."""
        variables = {
            "PROSPECT_HOME": str(self.home),
            "PROSPECT_PORT": str(self.sandbox_port),
            "PREDICT_PORT": str(self.predict_port),
            "PROSPECT_PROBLEM": self.problem,
        }
        return {name: value for name, value in variables.items() if value} | dict(self.values)

    def describe(self) -> str:
        """Return two lines: the active backends, and the names that selected each."""
        signals = {
            "signals": ("Snowplow Signals", SIGNALS_KEYS),
            "signals-sandbox": ("a Signals sandbox", SANDBOX_KEYS),
            "local": (f"local sandbox at {self.sandbox_url}", (*SIGNALS_KEYS, *SANDBOX_KEYS)),
        }[self.signals_backend]
        warehouse = {
            "snowflake": ("Snowflake", (*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN)),
            "databricks": ("Databricks", DATABRICKS_KEYS),
            "duckdb": (
                "embedded DuckDB",
                (*SNOWFLAKE_KEYS, *SNOWFLAKE_SIGN_IN, _DATABRICKS_CHOICE),
            ),
        }[self.warehouse_backend]
        return "\n".join(
            f"{service}: {backend} ({self._reason(names)})."
            for service, (backend, names) in (("Signals", signals), ("Warehouse", warehouse))
        )

    def secret(self, name: str) -> str:
        """Return the value of one secret.

        Raises:
            SettingsError: it is not set, or its value cannot be right; as ``secrets``.
        """
        return self.secrets(name)[0]

    def secrets(self, *names: str) -> tuple[str, ...]:
        """Return the values of several secrets.

        Raises:
            SettingsError: some are not set, or a value cannot be right; the message names the
                settings, what was expected and where to find it, and never a value.
        """
        missing = [name for name in names if name not in self.values]
        if missing:
            places = "; ".join(f"{_also(name)}: {SECRETS[name]}" for name in missing)
            raise SettingsError(
                f"not set: {', '.join(missing)}. {where_to_set()} Where to find it: {places}."
            )
        for name in names:
            if sentence := self.refusal(name):
                raise SettingsError(sentence)
        return tuple(self.values[name] for name in names)

    def name_of(self, name: str) -> str:
        """Return the name under which a secret was read: ours, or the other."""
        return self.read_as.get(name, name)

    def refusal(self, name: str) -> str:
        """Return one sentence if the value of a secret cannot be right, else an empty text."""
        if name not in self.values:
            return ""
        return refusal(name, self.values[name], self.name_of(name), SECRETS[name])

    def _any(self, names: Iterable[str]) -> bool:
        return any(name in self.values for name in names)

    def _reason(self, names: tuple[str, ...]) -> str:
        present = [self.name_of(name) for name in names if name in self.values]
        if present:
            return f"{', '.join(present)} set"
        hint = f"; {_SHARE}" if _lacks_the_panel() else ""
        return f"none of {', '.join(names)} is set{hint}"


_SHARE = (
    "Colab's secrets panel reaches a command only if a cell has called colab.share_secrets() "
    "before (from prospect_lib import colab)"
)


def misspelt(dotenv: Path | str = ".env") -> dict[str, str]:
    """Return names in the environment and ``.env`` that are nearly that of a setting, and it."""
    known = (
        *SECRET_NAMES,
        *(f"PROSPECT_{name}" for name in ("HOME", "PORT", "PROBLEM")),
        *(f"PREDICT_{name}" for name in ("PORT", "ORIGINS", "TOKEN_FILE", "BEHIND_PROXY")),
        "PREDICT_HOLDOUT",
    )
    names = sorted({*os.environ, *_read_dotenv(Path(dotenv))} - {*known})
    near = {name: get_close_matches(name.upper(), known, 1, 0.9) for name in names}
    return {name: matches[0] for name, matches in near.items() if matches}


def where_to_set() -> str:
    """Return one sentence: where this program reads secrets."""
    if _lacks_the_panel():
        return f"{_SHARE}. Otherwise set it in the environment, or as NAME=value in a file .env."
    return "Set it in Colab's secrets panel, in the environment, or as NAME=value in a file .env."


def _lacks_the_panel() -> bool:
    """Return whether this is a program that a notebook in Colab has started, as ``!python``."""
    return "COLAB_RELEASE_TAG" in os.environ and "google.colab" not in sys.modules


def _also(name: str) -> str:
    return f"{name} (or {OTHER_NAMES[name]})" if name in OTHER_NAMES else name


def _read_secrets(sources: list[SecretSource]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the secrets that are set, and the other names under which some were read."""
    values, read_as = {}, {}
    for name in SECRETS:
        alias = OTHER_NAMES.get(name)
        for source in sources:
            if value := _first(name, [source]):
                values[name] = value
                break
            if alias and (value := _first(alias, [source])):
                values[name], read_as[name] = value, alias
                break
    return values, read_as


def _bare(value: str) -> str:
    """Return an address without ``https://`` and a final slash; other text as it is."""
    return value.removeprefix("https://").rstrip("/")


def _first(name: str, sources: list[SecretSource]) -> str | None:
    texts = ((source(name) or "").strip() for source in sources)
    return next((text for text in texts if text), None)


def _colab_secrets() -> SecretSource:
    """Return a reader of Colab's secrets panel; it knows no secret outside Colab."""
    unavailable = "google.colab" not in sys.modules

    def secret(name: str) -> str | None:
        nonlocal unavailable
        if unavailable:
            return None
        from google.colab import userdata  # exists only inside Colab

        try:
            value = userdata.get(name)
        except Exception as error:  # noqa: BLE001 - Colab raises plain Exceptions: absent, refused
            # no page is open: each further name would wait just as long
            unavailable = type(error).__name__ == "TimeoutException"
            return None
        return str(value) if value else None

    return secret


def _read_dotenv(path: Path) -> dict[str, str]:
    """Return the settings in a ``.env`` file; it is never copied into the environment."""
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}. Save it as UTF-8 text.") from error
    return dict(_assignments(path, text))


def _assignments(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        from dotenv.parser import parse_stream  # in Colab, `colab.prepare` installs it
    except ModuleNotFoundError:
        raise SettingsError(
            f"cannot read {path}: python-dotenv is not installed. pip install python-dotenv"
        ) from None
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key and (line.value is None or not line.key.isidentifier())):
            statement = line.original.string
            blank_lines = statement[: -len(statement.lstrip())].count("\n")
            # the line may hold a secret, so the message has only its number
            raise SettingsError(
                f"{path}, line {line.original.line + blank_lines}: expected NAME=value, or # and "
                "a comment. Correct the line."
            )
        if line.key:
            yield line.key, line.value or ""


def _port(name: str, sources: list[SecretSource], default: int) -> int:
    text = _first(name, sources)
    if text is None:
        return default
    if text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise SettingsError(f"{name}={text!r}: expected a port number from 1 to 65535.")
