"""Sources of settings, the backends they select, and the errors for missing or broken ones."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.secret_values import databricks_host
from prospect_lib.settings import SECRET_NAMES, Settings


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECRET_NAMES, "PROSPECT_HOME", "PROSPECT_PORT", "PREDICT_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_without_secrets_everything_is_local(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path / ".env")
    assert (settings.signals_backend, settings.warehouse_backend) == ("local", "duckdb")
    assert settings.sandbox_url == "http://127.0.0.1:9090"
    assert "none of SF_ACNT" in settings.describe()


def test_the_environment_comes_before_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "# mine\nexport SF_USR='file'\nSF_WH=\"w\"\nPROSPECT_PORT=9999\n\n"
    )
    monkeypatch.setenv("SF_USR", "environment")
    settings = Settings.load(tmp_path / ".env")
    assert settings.secrets("SF_USR", "SF_WH") == ("environment", "w")
    assert settings.sandbox_port == 9999 and settings.warehouse_backend == "snowflake"
    assert "SF_USR, SF_WH set" in settings.describe()


def test_dotenv_values_are_literal_and_stay_out_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "SF_USR=me # the analyst\nSF_PWD=a#b${SF_USR}\nSF_WH='x # y'\nSF_ROLE=\nOTHER=1\n"
    )
    values = Settings.load(tmp_path / ".env").values
    assert values == {"SF_USR": "me", "SF_PWD": "a#b${SF_USR}", "SF_WH": "x # y"}
    assert not {"SF_USR", "SF_PWD", "OTHER"} & os.environ.keys()


@pytest.mark.parametrize(
    ("name", "backend"),
    [("SP_API_KEY", "signals"), ("SP_SANDBOX_TOKEN", "signals-sandbox"), ("NGROK_TOKEN", "local")],
)
def test_a_secret_selects_its_backend(
    monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert Settings.load("nowhere").signals_backend == backend


def test_the_error_names_the_missing_secrets_and_where_to_find_them() -> None:
    with pytest.raises(SettingsError, match=r"SP_ORG_ID.*Snowplow Console") as caught:
        Settings(Path(), values={"SP_API_KEY": "hush"}).secrets("SP_API_KEY", "SP_ORG_ID")
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    settings = Settings(Path(), values={"SF_PWD": "hush"})
    assert "hush" not in repr(settings) + settings.describe()


@pytest.mark.parametrize(
    "line", ["hush", "=hush", "not a name=hush", "1NAME=hush", "SF_PWD='hush", "\n \nhush"]
)
def test_a_broken_dotenv_names_the_line_but_not_its_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    (tmp_path / ".env").write_text(f"SF_WH=w\n{line}\n")
    number = 2 + line.count("\n")
    with pytest.raises(SettingsError, match=rf"line {number}: expected NAME=value") as caught:
        Settings.load(tmp_path / ".env")
    assert "hush" not in str(caught.value) + caplog.text


def test_a_dotenv_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        Settings.load(tmp_path / ".env")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_port_must_be_a_port_number(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PROSPECT_PORT", port)
    with pytest.raises(SettingsError, match=rf"PROSPECT_PORT='{port}'"):
        Settings.load("nowhere")


class _Userdata:
    """Raises the errors of Colab's panel: absent, refused, timed out."""

    def get(self, name: str) -> str:
        if name == "SF_USR":
            return "from colab"
        raise {"SF_WH": ValueError, "SF_PWD": TimeoutError}.get(name, Exception)(name)


def test_colabs_secrets_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    colab = ModuleType("google.colab")
    colab.userdata = _Userdata()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("SF_USR", "environment")
    monkeypatch.setenv("SF_WH", "environment")
    settings = Settings.load("nowhere")
    assert settings.secrets("SF_USR", "SF_WH") == ("from colab", "environment")


@pytest.mark.parametrize(
    ("names", "backend"),
    [
        (["DATABRICKS_HTTP_PATH"], "databricks"),
        (["DATABRICKS_HTTP_PATH", "ATOMIC_TABLE"], "databricks"),
        (["DATABRICKS_TOKEN", "ATOMIC_TABLE"], "databricks"),
        (["DATABRICKS_TOKEN"], "duckdb"),
        (["DATABRICKS_HTTP_PATH", "SF_USR"], "snowflake"),
        (["DATABRICKS_HOST", "DATABRICKS_TOKEN"], "duckdb"),  # as other programs need them
        (["ATOMIC_TABLE"], "snowflake"),
    ],
)
def test_the_http_path_selects_databricks_unless_snowflake_is_set(
    monkeypatch: pytest.MonkeyPatch, names: list[str], backend: str
) -> None:
    for name in names:
        monkeypatch.setenv(name, "x")
    assert Settings.load("nowhere").warehouse_backend == backend


def test_the_sdks_name_of_the_host_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "https://adb-1.2.azuredatabricks.net/")
    settings = Settings.load("nowhere")
    assert databricks_host(settings.secret("DATABRICKS_SERVER_HOSTNAME")) == (
        "adb-1.2.azuredatabricks.net"
    )
    monkeypatch.setenv("DATABRICKS_SERVER_HOSTNAME", "adb-1.2.azuredatabricks.net")
    assert Settings.load("nowhere").differing == {}
    monkeypatch.setenv("DATABRICKS_SERVER_HOSTNAME", "adb-3.4.azuredatabricks.net")
    assert "DATABRICKS_SERVER_HOSTNAME" in Settings.load("nowhere").differing


def test_snowplows_own_names_are_read_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALS_API_URL", "signals.example")
    monkeypatch.setenv("SIGNALS_API_KEY", "theirs")
    monkeypatch.setenv("SP_API_KEY", "ours")
    (tmp_path / ".env").write_text("SIGNALS_ORG_ID=org\nSP_API_URL=https://signals.example\n")
    settings = Settings.load(tmp_path / ".env")
    assert settings.values == {
        "SP_API_URL": "signals.example",  # the environment comes before the file
        "SP_API_KEY": "ours",
        "SP_ORG_ID": "org",
    }
    assert settings.signals_backend == "signals"
    assert "(SIGNALS_API_URL, SP_API_KEY, SIGNALS_ORG_ID set)" in settings.describe()
    with pytest.raises(SettingsError, match=r"^SIGNALS_API_URL: expected an address"):
        settings.secret("SP_API_URL")
    with pytest.raises(SettingsError, match=r"SP_API_KEY_ID \(or SIGNALS_API_KEY_ID\): Snowplow"):
        settings.secret("SP_API_KEY_ID")
