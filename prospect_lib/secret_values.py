"""What the value of each secret looks like. A message names the setting, never its value.

Values end up in the wrong setting: a key's text where a path belongs, a token instead of an
address. Libraries repeat such values in their errors, so each is checked before it is used.

Example: ``refusal("SP_API_URL", "signals.example.com", "SP_API_URL", "the console")`` ->
``"SP_API_URL: expected an address that starts with https:// (the console), but its value …"``
"""

import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

#: How to sign in to Snowflake with ``SF_AUTHENTICATOR``, and the connector's names.
AUTHENTICATORS = {
    "externalbrowser": "externalbrowser",
    "oauth": "oauth",
    "programmatic_access_token": "PROGRAMMATIC_ACCESS_TOKEN",
    "snowflake_jwt": "SNOWFLAKE_JWT",
    "snowflake": "snowflake",
    "username_password_mfa": "username_password_mfa",
}
_HOST = ".snowflakecomputing.com"
_LABEL = r"[a-z][a-z0-9_-]{0,62}"
_REGION = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+"
_ACCOUNT = re.compile(
    rf"{_LABEL}(?:\.{_REGION}(?:\.(?:aws|azure|gcp))?)?(?:\.(?:privatelink|global))?"
)
_IDENTIFIER = r'(?:[A-Za-z_][\w$]{0,254}|"[^"\s][^"\n]{0,253}"|`[^`\s][^`\n]{0,253}`)'
#: What a value in the wrong place usually is; the first pattern that matches.
_KINDS = {
    "a private key": (
        r"-----BEGIN [A-Z ]*PRIVATE KEY|^[\"']?MI[IGH][\w+/=\s-]{100,}[\"']?$|^LS0tLS1CRUdJTi"
    ),
    "a public key": r"-----BEGIN [A-Z ]*PUBLIC KEY|^ssh-\w+ ",
    "a certificate": r"-----BEGIN ",
    "an address": r"^\w+://",
    "a JSON web token": r"^eyJ[\w-]{8,}\.[\w-]+\.",
    "several lines of text": r"\n",
    "the path of a file": r"^(~|\.{1,2})?[/\\][\w./\\ -]+$|^[A-Za-z]:\\|\.(p8|pem|key|der)$",
}
#: Kinds that are never right; the others are for some settings.
_KEYS = ("a private key", "a public key", "a certificate", "several lines of text")
#: Where a value of a kind belongs.
_BELONGS = {
    "a private key": "SF_PRIVATE_KEY",
    "the path of a file": "SF_PRIVATE_KEY_PATH",
    "a JSON web token": "SF_TOKEN",
}


def kind_of(value: str) -> str:
    """Return what a value is, such as ``"a private key"``; empty if it could be anything."""
    matching = (kind for kind, pattern in _KINDS.items() if re.search(pattern, value))
    return next(matching, "")


def refusal(setting: str, value: str, name: str, place: str) -> str:
    """Return one sentence about a value that cannot be right; empty if it may be.

    Args:
        setting: the setting's name in ``SECRETS``.
        value: never part of the sentence.
        name: the name under which the setting was read, for the sentence.
        place: where a user finds the right value.

    Example:
        >>> refusal("SF_PASSCODE", "hush", "SF_PASSCODE", "your app")
        'SF_PASSCODE: expected six digits (your app), but its value is something else.'
    """
    expected, is_right = _RULES.get(setting, _TEXT)
    if is_right(value):
        return ""
    kind = kind_of(value)
    home = _BELONGS.get(kind, "") if setting.startswith("SF_") else ""
    hint = f", which belongs in {home}" if home not in ("", setting) else ""
    kind = kind or "something else"
    if kind in expected:
        kind += " of another form"
    return f"{name}: expected {expected} ({place}), but its value is {kind}{hint}."


def snowflake_account(text: str) -> str | None:
    """Return a Snowflake account's name as the connector takes it; ``None`` if it is no account.

    Takes ``ORG-ACCT``, ``org.acct``, a locator with its region, and the addresses of both
    (https://docs.snowflake.com/en/user-guide/admin-account-identifier).

    Example:
        >>> snowflake_account("https://app.snowflake.com/MyOrg/my_account/#/homepage")
        'myorg-my_account'
        >>> snowflake_account("ab12345.eu-central-1.aws")
        'ab12345.eu-central-1.aws'
    """
    name = text.strip().lower()
    if "/" in name or name.endswith(_HOST):
        address = _split(name if "://" in name else f"https://{name}")
        host = (address and address.hostname) or ""
        steps = [step for step in (address.path.split("/") if address else []) if step]
        if host == "app.snowflake.com" and len(steps) >= 2:
            region_first = "-" in steps[0]
            name = f"{steps[1]}.{steps[0]}" if region_first else f"{steps[0]}-{steps[1]}"
        else:
            name = host.removesuffix(_HOST) if host.endswith(_HOST) else ""
    organisation, dot, account = name.partition(".")
    account, _, network = account.partition(".")
    if dot and re.fullmatch(r"[a-z]\w*", account) and account not in ("privatelink", "global"):
        name = f"{organisation}-{account}" + (f".{network}" if network else "")
    return name if _ACCOUNT.fullmatch(name) else None


def name_parts(name: str) -> list[str]:
    """Return the parts of a table's name; a quoted one may contain dots.

    >>> name_parts('main.`my.schema`.events')
    ['main', '`my.schema`', 'events']
    """
    return re.findall(r'"[^"]+"|`[^`]+`|[^."`]+', name)


def databricks_host(text: str) -> str | None:
    """Return the host of a Databricks workspace, also from its address; ``None`` if it is none.

    Example:
        >>> databricks_host("https://adb-12.7.azuredatabricks.net/?o=12")
        'adb-12.7.azuredatabricks.net'
        >>> databricks_host("/sql/1.0/warehouses/a1b2c3")
    """
    address = text.strip().lower()
    parts = _split(address if "://" in address else f"https://{address}")
    host = (parts and parts.scheme == "https" and "@" not in parts.netloc and parts.hostname) or ""
    if kind_of(text) not in ("", "an address"):  # a token has dots, too
        return None
    return host if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host) else None


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_address(value: str) -> bool:
    """Return whether a value is an https address without user, query and fragment.

    ``http`` is for this machine and its network only: tokens are sent to the address.
    """
    parts = _split(value)
    host = (parts and parts.hostname) or ""
    nearby = re.fullmatch(r"[\d.]+|[^.]+|.+\.(local|localhost|internal)", host)
    return (
        parts is not None
        and parts.scheme in (("http", "https") if nearby else ("https",))
        and bool(host and re.fullmatch(r"[\w.:\[\]-]+", parts.netloc))
        and not (parts.query or parts.fragment or re.search(r"\s", value))
    )


def _is_word(value: str) -> bool:
    kind = kind_of(value)
    return kind not in (*_KEYS, "an address") and not re.search(r"\s", value)


def _is_key(value: str) -> bool:
    return _is_word(value) and kind_of(value) not in ("a JSON web token", "the path of a file")


def _is_token(value: str) -> bool:
    return _is_word(value) and kind_of(value) != "the path of a file"


def _is_line(value: str) -> bool:
    return kind_of(value) not in _KEYS


def _is_user(value: str) -> bool:
    return kind_of(value) not in (*_KEYS, "an address", "a JSON web token")


def _is_email(value: str) -> bool:
    return bool(re.fullmatch(r"[^@\s/:]+@[^@\s/:.]+(\.[^@\s/:.]+)+", value))


def _names(least: int, most: int) -> Callable[[str], bool]:
    pattern = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER}){{{least - 1},{most - 1}}}")
    return lambda v: bool(pattern.fullmatch(v)) and kind_of(v) != "a JSON web token"


_TEXT = ("one line of text", _is_line)
_WORD = ("the token alone, without spaces", _is_word)
_KEY = ("a key or an id, without spaces", _is_key)
_NAME = ("a name, in double quotes if it has characters other than A-Z, 0-9 and _", _names(1, 1))
_ADDRESS = ("an address that starts with https://, without user and query", _is_address)
_RULES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "SP_API_URL": _ADDRESS,
    "SP_SANDBOX_URL": _ADDRESS,
    "SP_API_KEY": _KEY,
    "SP_API_KEY_ID": _KEY,
    "SP_ORG_ID": _KEY,
    "SP_SANDBOX_TOKEN": _WORD,
    "NGROK_TOKEN": _WORD,
    "SP_OWNER": ("an e-mail address", _is_email),
    "SF_ACNT": ("an account such as myorg-account123", lambda v: snowflake_account(v) is not None),
    "SF_USR": ("a user name", _is_user),
    "SF_PWD": ("a password", _is_line),
    "SF_PASSCODE": ("six digits", lambda v: bool(re.fullmatch(r"[0-9]{6,8}", v))),
    "SF_TOKEN": ("a token, without spaces", _is_token),
    "SF_AUTHENTICATOR": (
        f"one of {', '.join(AUTHENTICATORS)}",
        lambda v: v.lower() in AUTHENTICATORS,
    ),
    "SF_PRIVATE_KEY": (
        "the text of a PKCS#8 private key, PEM or base64",
        lambda v: kind_of(v) in ("a private key", ""),
    ),
    "SF_PRIVATE_KEY_PATH": (
        "the path of a file",
        lambda v: kind_of(v) in ("the path of a file", ""),
    ),
    "SF_PRIVATE_KEY_PWD": ("a passphrase", _is_line),
    "SF_WH": _NAME,
    "SF_ROLE": _NAME,
    "SF_DB": _NAME,
    "SF_SCHEMA": _NAME,
    "SF_SCRATCH": ("schema or database.schema", _names(1, 2)),
    "SF_PARTITION": ("the name of a column, such as load_tstamp", _names(1, 1)),
    "DATABRICKS_SERVER_HOSTNAME": (
        "a host such as dbc-a1b2345c-d6e7.cloud.databricks.com",
        lambda v: databricks_host(v) is not None,
    ),
    "DATABRICKS_HTTP_PATH": (
        "a path such as /sql/1.0/warehouses/a1b2c3d4e5f6",
        lambda v: bool(re.fullmatch(r"/?sql/[\w./-]+(\?o=\d+)?", v)),
    ),
    "DATABRICKS_TOKEN": ("a token, without spaces", _is_token),
    "DATABRICKS_PARTITION": ("the name of a column, such as load_tstamp", _names(1, 1)),
    "ATOMIC_TABLE": (
        "database.schema.table, with quotes around a part such as my-db: double ones in Snowflake, "
        "backticks in Databricks",
        _names(1, 3),
    ),
}
