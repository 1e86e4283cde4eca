"""Sign-in to Snowflake: which secret is used, keys in every form, and errors without secrets."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector import errors

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from prospect_lib.warehouse.snowflake_sign_in import (
    SESSION_PARAMETERS,
    atomic_table,
    connector_arguments,
    open_connection,
    private_key,
)
from tests.support import keys, snow

ACCOUNT = {
    "SF_ACNT": "MyOrg-Account9",
    "SF_USR": "analyst-of-tests",
    "SF_WH": "wh_of_tests",
    "ATOMIC_TABLE": "DB.PUBLIC.EVENTS",
}
PASSWORD = "correct-horse-battery"
TOKEN = "eyJraWQiOiJ0ZXN0cyJ9.eyJzdWIiOiJhbmFseXN0In0.c2lnbmF0dXJlLW9mLXRlc3Rz"
RSA = keys.rsa_key()
DER = keys.der(RSA)
ENCRYPTED = keys.pem(RSA, keys.PASSPHRASE)
PLAIN = keys.pem(RSA)


def settings_of(folder: Path, **secrets: str) -> Settings:
    return Settings(folder, values={**ACCOUNT, **secrets})


# --- which secret is used -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secrets", "arguments"),
    [
        ({"SF_PWD": PASSWORD}, {"authenticator": "snowflake", "password": PASSWORD}),
        (
            {"SF_PWD": PASSWORD, "SF_PASSCODE": "123456"},
            {"authenticator": "snowflake", "password": PASSWORD, "passcode": "123456"},
        ),
        (
            {"SF_PWD": PASSWORD, "SF_TOKEN": TOKEN},
            {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": TOKEN},
        ),
        (
            {"SF_PRIVATE_KEY": PLAIN, "SF_TOKEN": TOKEN},
            {"authenticator": "SNOWFLAKE_JWT", "private_key": DER},
        ),
        (
            {"SF_PRIVATE_KEY": PLAIN, "SF_TOKEN": TOKEN, "SF_AUTHENTICATOR": "OAuth"},
            {"authenticator": "oauth", "token": TOKEN},
        ),
        ({"SF_AUTHENTICATOR": "externalbrowser"}, {"authenticator": "externalbrowser"}),
    ],
)
def test_the_secrets_select_how_to_sign_in(
    tmp_path: Path, secrets: dict[str, str], arguments: dict[str, Any]
) -> None:
    passed = connector_arguments(settings_of(tmp_path, **secrets))
    assert passed["login_timeout"] == (120 if "externalbrowser" in arguments.values() else 30)
    assert passed.pop("session_parameters")["TIMEZONE"] == "UTC" and passed.pop("login_timeout")
    assert passed.pop("platform_detection_timeout_seconds") == 0.0
    assert passed == {
        "account": "myorg-account9",
        "user": "analyst-of-tests",
        "warehouse": "wh_of_tests",
        "database": "DB",
        "schema": "PUBLIC",
        **arguments,
    }


def test_the_role_is_passed_on(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, SF_PWD=PASSWORD, SF_ROLE="ANALYST")
    assert connector_arguments(settings)["role"] == "ANALYST"


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ({}, r"no way to sign in to Snowflake is set\. Set one of SF_PRIVATE_KEY, "),
        ({"SF_AUTHENTICATOR": "oauth"}, "not set: SF_TOKEN"),
        ({"SF_AUTHENTICATOR": "snowflake"}, "not set: SF_PWD"),
        ({"SF_AUTHENTICATOR": "snowflake_jwt"}, "not set: SF_PRIVATE_KEY_PATH"),
        ({"SF_PWD": PASSWORD, "SF_PASSCODE": "12"}, "SF_PASSCODE: expected six digits"),
    ],
)
def test_a_missing_secret_of_the_way_to_sign_in_is_named(
    tmp_path: Path, secrets: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        connector_arguments(settings_of(tmp_path, **secrets))


def test_single_sign_on_by_browser_is_not_for_colab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    with pytest.raises(SettingsError, match=r"Colab has none\. Unset it and set SF_PRIVATE_KEY"):
        connector_arguments(settings_of(tmp_path, SF_AUTHENTICATOR="externalbrowser"))


@pytest.mark.parametrize(
    ("table", "secrets", "parts"),
    [
        ("a.b.c", {"SF_DB": "other"}, ("a", "b", "c")),
        ("b.c", {"SF_DB": "a"}, ("a", "b", "c")),
        ("c", {"SF_DB": "a", "SF_SCHEMA": "b"}, ("a", "b", "c")),
        ('"my.db".b."C 1"', {}, ('"my.db"', "b", '"C 1"')),
    ],
)
def test_the_name_of_the_events_table_is_completed(
    tmp_path: Path, table: str, secrets: dict[str, str], parts: tuple[str, ...]
) -> None:
    assert atomic_table(Settings(tmp_path, values={"ATOMIC_TABLE": table, **secrets})) == parts


def test_an_unqualified_events_table_is_refused(tmp_path: Path) -> None:
    for table, missing in (("events", "SF_DB and SF_SCHEMA"), ("atomic.events", "SF_DB")):
        with pytest.raises(SettingsError, match=rf"database\.schema\.table.*set {missing}\.$"):
            atomic_table(Settings(tmp_path, values={"ATOMIC_TABLE": table}))


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", " "),  # as Colab's panel keeps a pasted key
        PLAIN.replace("\n", ""),
        PLAIN.replace("\n", "\\n"),
        f'"{PLAIN}"',
        f"comment\n{PLAIN}",
        keys.base64_of(DER),
        keys.base64_of(PLAIN),
        ENCRYPTED,
        ENCRYPTED.replace("\n", " "),
        keys.base64_of(ENCRYPTED),
    ],
    ids=[
        "lines", "CRLF", "spaces", "one line", "escaped", "quoted", "commented", "DER base64",
        "PEM base64", "encrypted", "encrypted in one line", "encrypted base64",
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_file", [False, True], ids=["text", "file"])
def test_a_key_is_read_in_every_form(tmp_path: Path, text: str, in_file: bool) -> None:
    (tmp_path / "rsa_key").write_text(text)
    key = (
        {"SF_PRIVATE_KEY_PATH": str(tmp_path / "rsa_key")} if in_file else {"SF_PRIVATE_KEY": text}
    )
    # a passphrase that is not needed is ignored
    assert private_key(settings_of(tmp_path, SF_PRIVATE_KEY_PWD=keys.PASSPHRASE, **key)) == DER


def test_keys_in_binary_files_and_elliptic_keys_are_read(tmp_path: Path) -> None:
    elliptic = keys.elliptic_key()
    for key in (RSA, elliptic):
        (tmp_path / "key.der").write_bytes(keys.der(key))
        path = str(tmp_path / "key.der")
        assert private_key(settings_of(tmp_path, SF_PRIVATE_KEY_PATH=path)) == keys.der(key)
    assert private_key(settings_of(tmp_path, SF_PRIVATE_KEY=keys.pem(elliptic))) == keys.der(
        elliptic
    )


#: Text of a key, what the message says, the setting that the message is about.
WRONG_KEYS = {
    "a public key": (keys.public_pem(RSA), "a public key", "{name}"),
    "a public key in base64": (
        keys.public_pem(RSA).replace("\n", "").replace("-----", "").replace("BEGIN PUBLIC KEY", "")
        .replace("END PUBLIC KEY", ""),
        "is a public key",
        "{name}",
    ),
    "an ssh key": ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ hush@hush", "a public key", "{name}"),
    "PKCS#1": (keys.pem(RSA, form=keys.PKCS1), "openssl pkcs8 -topk8", "{name}"),
    "SEC1": (keys.pem(keys.elliptic_key(), form=keys.PKCS1), "openssl pkcs8 -topk8", "{name}"),
    "Ed25519": (keys.pem(keys.edwards_key()), "RSA or ECDSA", "{name}"),
    "cut off": (PLAIN[:800], "first and last line", "{name}"),
    "damaged": (PLAIN.replace("MII", "MIJ", 1), "of another form", "{name}"),
    "not base64": (PLAIN.replace("MII", "M?I", 1), "first and last line", "{name}"),
    "no key": ("bm8ga2V5IGF0IGFsbCwgaHVzaCBodXNo", "first and last line", "{name}"),
    "without its passphrase": (ENCRYPTED, "SF_PRIVATE_KEY_PWD is not set", "{name}"),
    "with a wrong passphrase": (ENCRYPTED, "does not open the key", "SF_PRIVATE_KEY_PWD"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_KEYS)
@pytest.mark.parametrize("name", ["SF_PRIVATE_KEY", "SF_PRIVATE_KEY_PATH"])
def test_a_wrong_key_is_refused_in_one_sentence_without_a_piece_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, case: str
) -> None:
    text, reason, about = WRONG_KEYS[case]
    path = tmp_path / "folder-of-ada" / "key-of-ada"
    path.parent.mkdir()
    path.write_text(text)
    secrets = {name: text if name == "SF_PRIVATE_KEY" else str(path)}
    if "wrong" in case:
        secrets["SF_PRIVATE_KEY_PWD"] = "not-those-words"
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError) as refused:
        SnowflakeWarehouse.connect(settings_of(tmp_path, **secrets))
    message = str(refused.value)
    assert message.startswith(about.format(name=name)) and reason in message
    assert "\n" not in message
    texts = keys.everything_in(refused.value) + caplog.text
    for secret in (text, "folder-of-ada/key-of-ada", "not-those-words"):
        assert keys.pieces_in(texts, secret) == set()


@pytest.mark.parametrize("path", ["/no-such-folder/key-of-ada", ".", "~nobody-here/x", "x" * 5000])
def test_a_path_without_a_readable_file_is_not_repeated(tmp_path: Path, path: str) -> None:
    with pytest.raises(SettingsError, match="SF_PRIVATE_KEY_PATH: expected the path") as refused:
        private_key(settings_of(tmp_path, SF_PRIVATE_KEY_PATH=path))
    if len(path) > 8:
        assert keys.pieces_in(keys.everything_in(refused.value), path) == set()


# --- what Snowflake or the connector answers ----------------------------------------------------


def echo(kind: type[Exception], number: int, words: str) -> Any:
    """A ``connect`` whose error repeats everything it was given, as the connector's can."""

    def connect(**arguments: Any) -> None:
        text = f"{words} {arguments}"
        if issubclass(kind, errors.Error):
            raise kind(msg=text, errno=number)
        raise kind(text)

    return connect


@pytest.mark.parametrize(
    ("kind", "number", "words", "advice"),
    [
        (errors.DatabaseError, 390100, "Incorrect username or password", "SF_USR"),
        (errors.DatabaseError, 390144, "JWT token is invalid. [0ce9]", "RSA_PUBLIC_KEY"),
        (errors.DatabaseError, 390422, "IP 10.1.2.3 is not allowed to access", "network policy"),
        (errors.DatabaseError, 250001, "Fail : Network policy is required.", "SF_PRIVATE_KEY"),
        (errors.DatabaseError, 390189, "Role 'X' specified does not exist", "SF_ROLE"),
        (errors.DatabaseError, 250001, "MFA authentication is required", "SF_PASSCODE"),
        (errors.DatabaseError, 399999, "Anything", "error is 399999"),
        (errors.HttpError, 290404, "404 Not Found", "Correct SF_ACNT"),
        (errors.ForbiddenError, 250001, "Verify the account name is correct", "Correct SF_ACNT"),
        (errors.OperationalError, 250001, "Could not connect to Snowflake backend", "within 30 s"),
        (ValueError, 0, "Could not deserialize key data", "(ValueError)"),
        (TypeError, 0, "Password was not given", "(TypeError)"),
        (FileNotFoundError, 0, "No such file", "(FileNotFoundError)"),
    ],
)
def test_a_refused_sign_in_says_what_to_do_and_repeats_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
    number: int,
    words: str,
    advice: str,
) -> None:
    monkeypatch.setattr(snowflake.connector, "connect", echo(kind, number, words))
    for secrets in ({"SF_PWD": PASSWORD}, {"SF_TOKEN": TOKEN}, {"SF_PRIVATE_KEY": PLAIN}):
        with caplog.at_level(logging.DEBUG), pytest.raises(ServiceError) as refused:
            SnowflakeWarehouse.connect(settings_of(tmp_path, **secrets))
        message = str(refused.value)
        assert message.startswith("Snowflake did not sign you in. ") and advice in message
        assert "\n" not in message
        texts = keys.everything_in(refused.value)
        for secret in (*secrets.values(), *ACCOUNT.values()):
            assert keys.pieces_in(texts, secret) == set()


@pytest.fixture
def refusing() -> Iterator[dict[str, Any]]:
    """A server that refuses every sign-in and repeats it; the arguments to reach it."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode("latin-1")
            answer = {"success": False, "code": "390144", "message": sent, "data": None}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield {"host": "127.0.0.1", "port": server.server_port, "protocol": "http"}
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "secrets",
    [
        {"SF_PWD": PASSWORD, "SF_PASSCODE": "31415926"},
        {"SF_PWD": PASSWORD, "SF_AUTHENTICATOR": "username_password_mfa"},
        {"SF_TOKEN": TOKEN},
        {"SF_TOKEN": TOKEN, "SF_AUTHENTICATOR": "oauth"},
        {"SF_PRIVATE_KEY": keys.base64_of(DER)},
    ],
    ids=" ".join,
)
def test_a_real_refusal_repeats_no_secret_in_errors_and_logs(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refusing: dict[str, Any],
    secrets: dict[str, str],
) -> None:
    arguments = {**connector_arguments(settings_of(tmp_path, **secrets)), **refusing}
    with caplog.at_level(logging.DEBUG), pytest.raises(ServiceError, match="RSA_PUBLIC") as refused:
        open_connection(arguments)
    assert "login-request" in caplog.text
    texts = keys.everything_in(refused.value) + caplog.text
    for name in secrets.keys() - {"SF_AUTHENTICATOR"}:
        assert keys.pieces_in(texts, secrets[name]) == set()


# --- the session, through the connector ---------------------------------------------------------


def test_a_key_pair_signs_in_and_no_log_has_a_piece_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, SF_PRIVATE_KEY=ENCRYPTED, SF_PRIVATE_KEY_PWD=keys.PASSPHRASE)
    with snow.server(), caplog.at_level(logging.DEBUG):
        warehouse = SnowflakeWarehouse.connect(settings)
        row = warehouse.query("SELECT CURRENT_DATABASE() AS db, CURRENT_SCHEMA() AS s").to_pylist()
        warehouse.close()
    assert row == [{"db": "DB", "s": "PUBLIC"}]
    body = "".join(line for line in ENCRYPTED.splitlines() if not line.startswith("-----"))
    for secret in (body, keys.base64_of(DER), keys.PASSPHRASE):
        assert keys.pieces_in(caplog.text, secret) == set()


def test_every_session_starts_with_the_parameters_that_change_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[dict[str, Any]] = []

    def connect(**arguments: Any) -> Any:
        sessions.append(arguments["session_parameters"])
        return ModuleType("connection")

    monkeypatch.setattr(snowflake.connector, "connect", connect)
    warehouse = SnowflakeWarehouse.connect(settings_of(tmp_path, SF_PWD=PASSWORD))
    warehouse._session._reconnect()  # as after a dropped connection
    assert sessions == [SESSION_PARAMETERS, SESSION_PARAMETERS]
    assert {
        "TIMEZONE", "WEEK_START", "DATE_OUTPUT_FORMAT", "TIMESTAMP_NTZ_OUTPUT_FORMAT",
        "TIMESTAMP_INPUT_FORMAT", "QUOTED_IDENTIFIERS_IGNORE_CASE", "DEFAULT_NULL_ORDERING",
    } <= SESSION_PARAMETERS.keys()  # fmt: skip
