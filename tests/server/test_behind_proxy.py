"""A server behind a real nginx: its default configuration, and the documented ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from prospect_lib.server.app import Options, Server
from tests.support.nginx import documented, nginx
from tests.support.serving import SHOP, VISITOR, app_of

BY_DEFAULT = "server { listen 1; ssl_certificate x; ssl_certificate_key x; location / { %s } }"
LINES, BELOW_A_PATH = documented()


class From(HTTPAdapter):
    """Connects from an address of this machine."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self.address, 0))


class Client(requests.Session):
    """A client of this machine with an address of its own, which trusts the test's certificate."""

    def __init__(self, url: str, folder: Path, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.url, self.verify, self.trust_env = url, str(folder / "certificate.pem"), False
        self.mount("https://", From(address))

    def ask(self, token: str = "", **headers: str) -> requests.Response:
        """Ask for a score."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return self.post(
            f"{self.url}/predict",
            json={"domain_userid": VISITOR},
            headers=bearer | headers,
            timeout=10,
        )


@contextmanager
def served(folder: Path, lines: str, **options: Any) -> Iterator[Client]:
    """A server with these options behind nginx with these lines; yields a client of nginx."""
    app = app_of(options=Options(origins=(SHOP,), **options))
    with Server(app, port=0) as server:
        upstream = server.url.removeprefix("http://")
        with nginx(folder / "nginx", lines, upstream) as url:
            yield Client(url, folder / "nginx")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


def test_behind_nginx_as_it_is_by_default_nobody_is_trusted_without_a_token(
    tmp_path: Path, file: Path
) -> None:
    lines = BY_DEFAULT % "proxy_pass http://127.0.0.1:9091;"
    with served(tmp_path, lines) as client:
        assert client.ask().status_code == 401
        assert "no token. Its owner" in client.ask().json()["detail"]
    (tmp_path / "nginx").rename(tmp_path / "before")
    # even a configuration that leaves no trace of itself
    lines = BY_DEFAULT % "proxy_pass http://127.0.0.1:9091; proxy_http_version 1.1;"
    with served(tmp_path, lines, behind_proxy=True, token_file=file) as client:
        assert [client.ask(token).status_code for token in ("", "wrong")] == [401, 401]
        assert client.ask(file.read_text()).json()["signals"]


def test_with_the_documented_lines_the_token_of_the_file_works_and_addresses_are_counted(
    tmp_path: Path, file: Path
) -> None:
    options = {"behind_proxy": True, "token_file": file, "caller_limit": "4 per minute"}
    with served(tmp_path, LINES, **options) as client:
        token = file.read_text()
        assert client.ask().status_code == 401
        answer = client.ask(token, Origin=SHOP)
        assert answer.json()["score"] == 0.6
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert client.ask(token, Origin="https://other.example").status_code == 403
        assert client.ask(token, **{"X-Forwarded-For": "1.1.1.1"}).status_code == 200
        assert client.ask(token, **{"X-Forwarded-For": "2.2.2.2"}).status_code == 429
        other = Client(client.url, tmp_path / "nginx", "127.0.0.2")
        assert other.ask(token).status_code == 200
        operator = {"Authorization": f"Bearer {file.with_name('token.operator').read_text()}"}
        for headers, status in (({}, 401), (operator, 200)):
            assert other.get(f"{client.url}/metrics", headers=headers).status_code == status


def test_below_a_path_of_the_websites_own_domain_the_client_and_scores_are_found(
    tmp_path: Path, file: Path
) -> None:
    lines = f"server {{ listen 1; ssl_certificate x; ssl_certificate_key x; {BELOW_A_PATH} }}"
    with served(tmp_path, lines, behind_proxy=True, token_file=file) as client:
        client.url += "/scores"
        assert client.get(f"{client.url}/prospect.js").text.startswith("/* prospect.js")
        assert client.ask(file.read_text(), Origin=SHOP).json()["score"] == 0.6
