"""Sign in to Snowflake by key pair, token, single sign-on or password; set up the session.

The connector's errors can contain what it was given, a pasted private key included. So keys are
loaded here, values are checked before they are used, and refusals are told in our own words.

Example: ``open_connection(connector_arguments(settings))`` -> a connection of the connector.
"""

import base64
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.secret_values import AUTHENTICATORS, name_parts, snowflake_account
from prospect_lib.settings import SECRETS, SNOWFLAKE_SIGN_IN, Settings

LOGIN_SECONDS = 30  # until the connector stops trying to sign in
BROWSER_SECONDS = 120  # for a person who signs in with a browser
_SECONDS = "YYYY-MM-DD HH24:MI:SS.FF6"
#: Every parameter of a session that changes results, and what keeps it safe; an account or a user
#: may have other values (https://docs.snowflake.com/en/sql-reference/parameters).
SESSION_PARAMETERS: dict[str, str | int | bool] = {
    "QUERY_TAG": "prospect_lib",
    "TIMEZONE": "UTC",
    "WEEK_START": 1,  # Monday
    "WEEK_OF_YEAR_POLICY": 0,  # ISO weeks
    "DATE_INPUT_FORMAT": "AUTO",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "TIME_INPUT_FORMAT": "AUTO",
    "TIME_OUTPUT_FORMAT": "HH24:MI:SS.FF6",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_OUTPUT_FORMAT": f"{_SECONDS} TZH:TZM",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": _SECONDS,
    "TIMESTAMP_LTZ_OUTPUT_FORMAT": f"{_SECONDS} TZH:TZM",
    "TIMESTAMP_TZ_OUTPUT_FORMAT": f"{_SECONDS} TZH:TZM",
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "TIMESTAMP_DAY_IS_ALWAYS_24H": False,
    "TWO_DIGIT_CENTURY_START": 1970,
    "BINARY_INPUT_FORMAT": "HEX",
    "BINARY_OUTPUT_FORMAT": "HEX",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "ROWS_PER_RESULTSET": 0,  # all of them
    "DEFAULT_NULL_ORDERING": "LAST",
    "JSON_INDENT": 0,
    "AUTOCOMMIT": True,
    "MULTI_STATEMENT_COUNT": 1,
    "ABORT_DETACHED_QUERY": True,  # what nobody waits for any more costs no credits
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "ARROW",
}
_CONVERT = "Convert it: openssl pkcs8 -topk8 -in your_key.pem -out rsa_key.p8"
_SECOND_FACTOR = "The user needs a second factor. Set SF_PASSCODE, or sign in with SF_PRIVATE_KEY"
#: What to do about a refusal, by the numbers of Snowflake's answer, or else by its words.
_ADVICE: tuple[tuple[set[int], str, str], ...] = (
    (
        {390432},
        r"network policy is required",
        "A programmatic access token needs a network policy for its user. Ask your administrator "
        "for one that admits this machine, or sign in with SF_PRIVATE_KEY",
    ),
    (
        {390422},
        r"\bip\b.*not allowed|network policy",
        "A network policy forbids this machine's address. Ask your administrator to admit it, or "
        "run where it is admitted",
    ),
    (set(), r"\bmfa\b|multi-factor|\bduo\b", _SECOND_FACTOR),
    (
        {390189},
        r"\brole\b.*not (exist|authorized)",
        "The role of SF_ROLE does not exist or is not granted to the user. Correct or unset it",
    ),
    (
        {390144, *range(394300, 394307)},
        r"jwt token",
        "The key is not one of the user's. Register its public key (ALTER USER ... SET "
        "RSA_PUBLIC_KEY = '...'), and check SF_ACNT, SF_USR and this machine's clock",
    ),
    (
        {390100},
        r"incorrect username or password",
        "The user or the secret is wrong. Correct SF_USR, and SF_PWD or SF_TOKEN",
    ),
    ({390303, 390318}, r"oauth access token", "The token of SF_TOKEN is wrong or has expired"),
    (
        {290404},
        r"404 not found|verify the account name",
        "There is no such account. Correct SF_ACNT: " + SECRETS["SF_ACNT"],
    ),
    (
        {251011},
        r"could not connect|service is unavailable",
        f"It cannot be reached, or does not answer within {LOGIN_SECONDS} s. Check SF_ACNT and "
        "this machine's network",
    ),
)


def connector_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of ``snowflake.connector.connect`` that the secrets select.

    The ways to sign in, in this order: ``SF_AUTHENTICATOR``, a private key, a token, a password.

    Raises:
        SettingsError: a secret is missing or cannot be right; the message names the setting and
            what was expected, never a value.
    """
    account, user, warehouse = settings.secrets("SF_ACNT", "SF_USR", "SF_WH")
    database, schema, _ = atomic_table(settings)
    credentials = _credentials(settings)
    by_browser = credentials.get("authenticator") == "externalbrowser"
    role = {"role": settings.secret("SF_ROLE")} if "SF_ROLE" in settings.values else {}
    return {
        "account": snowflake_account(account),
        "user": user,
        "warehouse": warehouse,
        "database": database,
        "schema": schema,
        **role,
        **credentials,
        "login_timeout": BROWSER_SECONDS if by_browser else LOGIN_SECONDS,
        # the connector would ask this machine's cloud who runs it, and tell Snowflake
        "platform_detection_timeout_seconds": 0.0,
        "session_parameters": dict(SESSION_PARAMETERS),
    }


def atomic_table(settings: Settings) -> tuple[str, str, str]:
    """Return database, schema and name of the events table.

    ``SF_DB`` and ``SF_SCHEMA`` complete an ``ATOMIC_TABLE`` that does not name them.

    Raises:
        SettingsError: a part is missing, or cannot be right.
    """
    parts = name_parts(settings.secret("ATOMIC_TABLE"))
    outer = ("SF_DB", "SF_SCHEMA")[: 3 - len(parts)]
    if any(name not in settings.values for name in outer):
        raise SettingsError(
            "ATOMIC_TABLE: expected database.schema.table, such as snowplow_db.atomic.events. "
            f"Complete it, or set {' and '.join(outer)}."
        )
    full = [*settings.secrets(*outer), *parts]
    return full[0], full[1], full[2]


def scratch_schema(settings: Settings) -> str:
    """Return the schema for temporary tables, ``database.schema``: ``SF_SCRATCH``, or the events'.

    Raises:
        SettingsError: ``SF_SCRATCH`` cannot be right; as :func:`atomic_table`.
    """
    database, schema, _ = atomic_table(settings)
    if "SF_SCRATCH" not in settings.values:
        return f"{database}.{schema}"
    scratch = settings.secret("SF_SCRATCH")
    return scratch if "." in re.sub(r'"[^"]*"', "", scratch) else f"{database}.{scratch}"


def open_connection(arguments: Mapping[str, Any]) -> Any:
    """Sign in.

    Raises:
        SettingsError: the connector is not installed.
        ServiceError: Snowflake refused, or cannot be reached; the message has no value of any
            setting, and no text of the connector.
    """
    try:
        import snowflake.connector  # half a second, only for those who use Snowflake
    except ModuleNotFoundError:
        raise SettingsError(
            "the Snowflake connector is not installed. pip install snowflake-connector-python"
        ) from None
    try:
        return snowflake.connector.connect(**arguments)
    except snowflake.connector.errors.Error as error:
        advice = _advice(error.errno, str(error.msg))
    except Exception as error:  # noqa: BLE001 - its text can contain what the connector was given
        advice = f"The connector failed ({type(error).__name__}). Check SF_ACNT and your sign-in"
    # outside the handler: the connector's error is not even the context of this one
    raise ServiceError(f"Snowflake did not sign you in. {advice}.")


def _advice(number: int, text: str) -> str:
    for numbers, _, advice in _ADVICE:
        if number in numbers:
            return advice
    for _, words, advice in _ADVICE:  # many refusals come with the same number
        if re.search(words, text, re.IGNORECASE):
            return advice
    return f"Its error is {number}. Check SF_ACNT, SF_USR and the secret you sign in with"


def _credentials(settings: Settings) -> dict[str, Any]:
    values = settings.values
    if not any(name in values for name in SNOWFLAKE_SIGN_IN):
        raise SettingsError(
            "no way to sign in to Snowflake is set. Set one of SF_PRIVATE_KEY, "
            "SF_PRIVATE_KEY_PATH, SF_TOKEN, SF_PWD, or SF_AUTHENTICATOR=externalbrowser."
        )
    if "SF_AUTHENTICATOR" in values:
        way = AUTHENTICATORS[settings.secret("SF_AUTHENTICATOR").lower()]
    elif "SF_PRIVATE_KEY" in values or "SF_PRIVATE_KEY_PATH" in values:
        way = "SNOWFLAKE_JWT"
    else:
        way = "PROGRAMMATIC_ACCESS_TOKEN" if "SF_TOKEN" in values else "snowflake"
    if way == "externalbrowser":
        if "google.colab" in sys.modules:
            raise SettingsError(
                "SF_AUTHENTICATOR=externalbrowser needs a browser on the same machine, and Colab "
                "has none. Unset it and set SF_PRIVATE_KEY or SF_TOKEN."
            )
        return {"authenticator": way}
    if way == "SNOWFLAKE_JWT":
        return {"authenticator": way, "private_key": private_key(settings)}
    if way in ("oauth", "PROGRAMMATIC_ACCESS_TOKEN"):
        return {"authenticator": way, "token": settings.secret("SF_TOKEN")}
    code = {"passcode": settings.secret("SF_PASSCODE")} if "SF_PASSCODE" in values else {}
    return {"authenticator": way, "password": settings.secret("SF_PWD"), **code}


def private_key(settings: Settings) -> bytes:
    """Return the private key of ``SF_PRIVATE_KEY``, or of the file ``SF_PRIVATE_KEY_PATH``.

    Newlines may be missing or written as ``\\n``, as in Colab's panel. The text may also be the
    base64 of the DER bytes, or of the whole PEM file.

    Returns:
        Unencrypted PKCS#8 in DER, as the connector takes it.
    Raises:
        SettingsError: there is no such file, the text is no private PKCS#8 key, or its passphrase
            is missing or wrong; the message contains nothing of them.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    name = "SF_PRIVATE_KEY" if "SF_PRIVATE_KEY" in settings.values else "SF_PRIVATE_KEY_PATH"
    value = settings.secret(name)
    content = value.encode() if name == "SF_PRIVATE_KEY" else _content(value)
    key = _loaded(name, _der(name, content), settings)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{name}: expected an RSA or ECDSA key, but it is of another kind.")
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _content(path: str) -> bytes:
    with suppress(OSError, ValueError, RuntimeError):
        return Path(path).expanduser().read_bytes()
    raise SettingsError(
        "SF_PRIVATE_KEY_PATH: expected the path of a key file, but no file can be read there. "
        "Correct the path, or put the text of the key into SF_PRIVATE_KEY."
    )


def _der(name: str, content: bytes) -> bytes:
    """Return the DER bytes in a PEM text, its base64, or DER itself.

    Raises:
        SettingsError: it is another kind of PEM text, or none of these.
    """
    if content[:2] in (b"\x30\x81", b"\x30\x82"):
        return content
    text = (
        content.decode("utf-8", "replace").replace("\\n", "\n").replace("\\r", "").strip(" \n\"'")
    )
    armour = re.search(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END", text, re.DOTALL)
    label, body = armour.groups() if armour else ("", text)
    if "PUBLIC KEY" in label or text.startswith("ssh-"):
        raise SettingsError(f"{name}: expected a private key, but it is a public key.")
    if label not in ("", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        raise SettingsError(f"{name}: expected a PKCS#8 key, but it is of another form. {_CONVERT}")
    der = b""
    with suppress(ValueError):  # binascii.Error, or characters that are not ASCII
        der = base64.b64decode(re.sub(r"\s", "", body), validate=True)
    if not armour and der.lstrip().startswith(b"-----BEGIN"):
        return _der(name, der)
    if der[:1] != b"\x30":  # a sequence
        raise SettingsError(
            f"{name}: expected a PKCS#8 private key, PEM or base64, but its text is not one. Copy "
            "the whole file, with its first and last line."
        )
    return der


def _loaded(name: str, der: bytes, settings: Settings) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_der_private_key,
        load_der_public_key,
    )

    unreadable = (ValueError, UnsupportedAlgorithm)
    encrypted = False
    try:
        return load_der_private_key(der, None)
    except TypeError:
        encrypted = True
    except unreadable:
        pass
    if encrypted and "SF_PRIVATE_KEY_PWD" not in settings.values:
        raise SettingsError(
            f"{name}: the key has a passphrase, but SF_PRIVATE_KEY_PWD is not set. Set it."
        )
    if encrypted:
        with suppress(TypeError, *unreadable):
            return load_der_private_key(der, settings.secret("SF_PRIVATE_KEY_PWD").encode())
        raise SettingsError(
            f"SF_PRIVATE_KEY_PWD: expected the passphrase of the key in {name}, but it does not "
            "open the key. Correct it."
        )
    with suppress(*unreadable):
        load_der_public_key(der)
        encrypted = True
    kind = "a public key" if encrypted else "damaged, or of another form"
    raise SettingsError(f"{name}: expected a PKCS#8 private key, but it is {kind}. {_CONVERT}")
