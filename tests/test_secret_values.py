"""What a secret's value looks like: wrong ones are named, never shown; names of accounts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prospect_lib import signals
from prospect_lib.errors import SettingsError
from prospect_lib.secret_values import kind_of, snowflake_account
from prospect_lib.settings import SECRETS, Settings
from tests.support import keys

TOKEN = "eyJraWQiOiJ0ZXN0cyJ9.eyJzdWIiOiJhbmFseXN0In0.c2lnbmF0dXJlLW9mLXRlc3Rz"
PRIVATE_KEY = keys.pem(keys.rsa_key())
KEY_IN_ONE_LINE = " ".join(PRIVATE_KEY.split("\n"))
KEY_AS_BASE64 = keys.base64_of(keys.der(keys.rsa_key()))
PATH = "/home/ada/secrets/snow.p8"

#: Setting, a value that cannot be right, what the value is called.
WRONG = [
    *((name, PRIVATE_KEY, "a private key") for name in SECRETS if name != "SF_PRIVATE_KEY"),
    *((name, KEY_AS_BASE64, "a private key") for name in SECRETS if name != "SF_PRIVATE_KEY"),
    *((name, KEY_IN_ONE_LINE, "a private key") for name in ("SF_PWD", "SF_ACNT", "NGROK_TOKEN")),
    *((name, TOKEN, "a JSON web token") for name in ("SP_API_URL", "SP_SANDBOX_URL", "SF_USR")),
    *((name, TOKEN, "a JSON web token") for name in ("SP_API_KEY", "SP_API_KEY_ID", "SP_ORG_ID")),
    *((name, TOKEN, "a JSON web token") for name in ("SF_ACNT", "ATOMIC_TABLE", "SP_OWNER")),
    *((name, TOKEN, "a JSON web token") for name in ("SF_PRIVATE_KEY", "SF_PRIVATE_KEY_PATH")),
    *((name, "https://hush.invalid/x", "an address") for name in ("SP_API_KEY", "SF_TOKEN")),
    *((name, "https://hush.invalid/x", "an address") for name in ("SP_ORG_ID", "SF_WH", "SF_USR")),
    *((name, PATH, "the path of a file") for name in ("SF_PRIVATE_KEY", "SF_TOKEN", "SF_ACNT")),
    ("SP_API_URL", "0d9f7a52-2c1b-4b50-8c11-d2f4a6b1c001", "something else"),  # the API key
    ("SP_API_URL", "hush-signals.invalid/api", "something else"),  # no scheme
    ("SP_API_URL", "http://signals.hush.invalid", "an address of another form"),
    ("SP_API_URL", "https://ada:hushhush@signals.invalid", "an address"),
    ("SP_API_URL", "https://signals.invalid/?token=hushhush", "an address"),
    ("SP_API_URL", "https://signals invalid", "an address"),
    ("SP_API_URL", "https://[hushhush", "an address"),
    ("SP_API_URL", "https://hushhush:port", "an address"),
    ("SP_SANDBOX_TOKEN", "hush and hush again", "something else"),
    ("NGROK_TOKEN", "config hush-hush", "something else"),
    ("SF_PASSCODE", "correct-horse", "something else"),
    ("SF_AUTHENTICATOR", "correct-horse", "something else"),
    ("SF_AUTHENTICATOR", "https://hush.invalid/x", "an address"),
    ("SF_ACNT", "hush and hush again", "something else"),
    ("SF_ACNT", "https://console.invalid/hushhush", "an address"),
    ("ATOMIC_TABLE", "hush.hush; DROP TABLE x", "something else"),
    ("ATOMIC_TABLE", "a.b.c.d", "something else"),
    ("SF_SCRATCH", "my-schema", "something else"),
    ("SF_WH", "hush-hush-hush", "something else"),
    ("SP_OWNER", "Ada Lovelace", "something else"),
    ("DATABRICKS_SERVER_HOSTNAME", TOKEN, "a JSON web token"),
    ("DATABRICKS_SERVER_HOSTNAME", "dapi0123hushhush", "something else"),
    ("DATABRICKS_SERVER_HOSTNAME", "http://hush.invalid", "an address"),
    ("DATABRICKS_SERVER_HOSTNAME", "https://ada:hushhush@dbc.invalid", "an address"),
    ("DATABRICKS_HTTP_PATH", "dapi0123hushhush", "something else"),
    ("DATABRICKS_HTTP_PATH", "https://hush.invalid/x", "an address"),
    ("DATABRICKS_TOKEN", "https://hush.invalid", "an address"),
    ("DATABRICKS_TOKEN", PATH, "the path of a file"),
]


@pytest.mark.parametrize(("name", "value", "kind"), WRONG)
def test_a_wrong_value_is_named_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str, kind: str
) -> None:
    settings = Settings(tmp_path, values={name: value})
    with pytest.raises(SettingsError) as refused:
        settings.secrets(name)
    message = str(refused.value)
    assert message.startswith(f"{name}: expected ") and f"its value is {kind}" in message
    assert "\n" not in message and SECRETS[name] in message
    texts = keys.everything_in(refused.value) + caplog.text + repr(settings) + settings.describe()
    assert keys.pieces_in(texts, value) <= {"https://"}


def test_a_key_in_another_setting_is_told_where_it_belongs(tmp_path: Path) -> None:
    for name, value, home in (
        ("SF_PWD", PRIVATE_KEY, "SF_PRIVATE_KEY"),
        ("SF_PRIVATE_KEY", PATH, "SF_PRIVATE_KEY_PATH"),
        ("SF_PRIVATE_KEY_PATH", PRIVATE_KEY, "SF_PRIVATE_KEY"),
        ("SF_USR", TOKEN, "SF_TOKEN"),
    ):
        with pytest.raises(SettingsError, match=f"which belongs in {home}\\.$"):
            Settings(tmp_path, values={name: value}).secret(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SP_API_URL", "https://0d9f7a52.svc.snplow.net"),
        ("SP_SANDBOX_URL", "http://127.0.0.1:9090/"),
        ("SP_SANDBOX_URL", "http://[::1]:9090"),
        ("SP_SANDBOX_URL", "http://sandbox:9090"),
        ("SP_API_KEY", "0d9f7a52-2c1b-4b50-8c11-d2f4a6b1c001"),
        ("SP_OWNER", "ada.lovelace@example.co.uk"),
        ("SF_USR", "Ada Lovelace"),
        ("SF_USR", "ada@example.com"),
        ("SF_PWD", "https:// is no address/~ here.key"),
        ("SF_PWD", TOKEN),  # a token may be used as a password
        ("SF_TOKEN", TOKEN),
        ("SF_PRIVATE_KEY_PATH", "rsa_key"),
        ("SF_PRIVATE_KEY_PATH", r"C:\Users\Ada Lovelace\rsa_key.p8"),
        ("SF_AUTHENTICATOR", "ExternalBrowser"),
        ("SF_WH", '"my-warehouse"'),
        ("SF_SCRATCH", "MY_DB.SCRATCH"),
        ("ATOMIC_TABLE", '"my-db".atomic."Events.2"'),
        ("ATOMIC_TABLE", "db.atomic.key"),
        ("ATOMIC_TABLE", "main.`my-schema`.events"),
        ("DATABRICKS_SERVER_HOSTNAME", "https://dbc-a1b2345c-d6e7.cloud.databricks.com/?o=12"),
        ("DATABRICKS_HTTP_PATH", "/sql/1.0/warehouses/a1b2c3d4e5f6"),
        ("DATABRICKS_HTTP_PATH", "sql/protocolv1/o/123/0708-200540-abcde?o=123"),
        ("DATABRICKS_TOKEN", TOKEN),
    ],
)
def test_a_right_value_is_returned_as_it_is(tmp_path: Path, name: str, value: str) -> None:
    assert Settings(tmp_path, values={name: value}).secret(name) == value


def test_values_of_signals_are_checked_before_they_are_used(tmp_path: Path) -> None:
    right = {"SP_API_KEY": "key", "SP_API_KEY_ID": "id", "SP_ORG_ID": "org"}
    settings = Settings(tmp_path, values={**right, "SP_API_URL": TOKEN})
    for use in (signals.connect, signals.reader):
        with pytest.raises(SettingsError, match="SP_API_URL: expected an address"):
            use(settings)


def test_kinds_of_keys_are_known_in_each_form() -> None:
    for text in (
        keys.pem(keys.rsa_key(), keys.PASSPHRASE),
        keys.pem(keys.rsa_key(), form=keys.PKCS1),
        keys.base64_of(PRIVATE_KEY),
        keys.base64_of(keys.der(keys.elliptic_key())),
    ):
        assert kind_of(text) == "a private key"
    assert kind_of(keys.public_pem(keys.rsa_key())) == "a public key"
    assert kind_of("correct horse battery staple") == ""


# --- accounts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("MYORG-ACCOUNT123", "myorg-account123"),
        ("myorg.account123", "myorg-account123"),
        ("myorg-my_account", "myorg-my_account"),
        ("myorg-account123.privatelink", "myorg-account123.privatelink"),
        ("https://myorg-account123.snowflakecomputing.com/", "myorg-account123"),
        ("myorg-account123.snowflakecomputing.com", "myorg-account123"),
        ("https://MyOrg-Account123.snowflakecomputing.com:443/console#/x", "myorg-account123"),
        ("https://app.snowflake.com/myorg/account123/#/homepage", "myorg-account123"),
        ("app.snowflake.com/myorg/account123", "myorg-account123"),
        ("https://app.snowflake.com/us-east4.gcp/ab12345/w", "ab12345.us-east4.gcp"),
        ("ab12345", "ab12345"),
        ("ab12345.eu-central-1", "ab12345.eu-central-1"),
        ("AB12345.eu-central-1.aws", "ab12345.eu-central-1.aws"),
        ("https://ab12345.eu-central-1.aws.snowflakecomputing.com", "ab12345.eu-central-1.aws"),
        ("ab12345.eu-central-1.privatelink", "ab12345.eu-central-1.privatelink"),
        *((text, None) for text in ("", ".", "a b", "12345", "https://example.com/org/acct")),
        *((text, None) for text in ("https://[org", "https://app.snowflake.com/", "a.b.c", "ü-x")),
    ],
)
def test_every_form_of_an_account_becomes_the_connectors(text: str, account: str | None) -> None:
    assert snowflake_account(text) == account


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)
ACCOUNTS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("privatelink", "global")
)


@given(NAMES, ACCOUNTS, st.booleans())
def test_all_forms_of_one_account_are_one_name(org: str, account: str, upper: bool) -> None:
    name = f"{org}-{account}"
    forms = (
        name,
        f"{org}.{account}",
        f"https://{name}.snowflakecomputing.com",
        f"{name}.snowflakecomputing.com/",
        f"https://app.snowflake.com/{org}/{account}/worksheets",
    )
    assert {snowflake_account(form.upper() if upper else form) for form in forms} == {name}


@given(st.one_of(st.text(), st.from_regex(r"[a-z0-9_.:/-]{1,40}", fullmatch=True)))
def test_a_normalised_account_stays_as_it_is(text: str) -> None:
    account = snowflake_account(text)
    assert account is None or snowflake_account(account) == account
