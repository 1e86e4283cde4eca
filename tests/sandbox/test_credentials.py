"""API keys: the unmodified SDK signs in, publishes and reads; other keys and old tokens fail."""

import time
from typing import Any

import httpx
import jwt
import pytest
import requests
from snowplow_signals import Signals

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.errors import ServiceError
from prospect_lib.server.interventions import pusher
from prospect_lib.settings import Settings
from prospect_lib.signals import console_token
from tests.support.sandbox import account

CONSOLE = "https://console.snowplowanalytics.com"
ORGANIZATIONS = "api/msc/v1/organizations"


@pytest.fixture
def to_the_console(running: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The console's address, built into the SDK, leads to the sandbox; what was asked there."""
    asked: list[str] = []
    real = httpx.get

    def get(url: str, **options: Any) -> httpx.Response:
        assert url.startswith(f"{CONSOLE}/")
        asked.append(url)
        return real(url.replace(CONSOLE, running.sandbox_url), **options)

    monkeypatch.setattr(httpx, "get", get)
    return asked


def client(settings: Settings, key: str | None = None) -> Signals:
    return Signals(
        api_url=settings.sandbox_url,
        api_key=key or sandbox.token(settings.home),
        api_key_id="key-1",
        org_id="org-1",
    )


def test_the_sdk_with_an_api_key(running: Settings, to_the_console: list[str]) -> None:
    sdk = client(running)
    sdk.publish([prospect_group, prospect_service])
    values = sdk.get_service_attributes(prospect_service.name, "domain_userid", "nobody")
    assert values["num_page_views_l7d"] is None
    assert sdk.get_attribute_group(prospect_group.name).is_published
    assert to_the_console == [f"{CONSOLE}/{ORGANIZATIONS}/org-1/credentials/v3/token"]  # once


def test_a_wrong_key_is_refused(running: Settings, to_the_console: list[str]) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        client(running, key="wrong").get_attribute_group("g")
    assert len(to_the_console) == 1


def test_the_exchange_without_the_sdk_works_too(running: Settings) -> None:
    console, key = f"{running.sandbox_url}/{ORGANIZATIONS}", sandbox.token(running.home)
    issued = console_token("org-1", "key-1", key, console=console)
    claims = jwt.decode(issued, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 24 * 3600 and claims["org"] == "org-1"
    assert answered(running, issued) == 200
    with pytest.raises(ServiceError, match="401"):
        console_token("org-1", "key-1", "wrong", console=console)


def test_a_process_fetches_one_token_for_whatever_it_sends(running: Settings) -> None:
    with account(running) as (settings, console):
        signals.connect(settings).publish([prospect_group, prospect_service])
        push = pusher(settings, "invite")
        assert [push("v", {"score": "0.5"}) for _ in range(3)] == ["undelivered"] * 3
        for _ in range(2):
            assert signals.reader(settings).read("v")["num_page_views_l7d"] is None
            assert signals.connect(settings).get_attribute_group(prospect_group.name).is_published
    assert len(console.fetched) == 1


def answered(settings: Settings, issued: str) -> int:
    headers = {"Authorization": f"Bearer {issued}".encode()}
    url = f"{settings.sandbox_url}/api/v1/registry/services/"
    return requests.get(url, headers=headers, timeout=5).status_code


@pytest.mark.parametrize("kind", ["old", "of another", "endless", "none", "text", "letters"])
def test_tokens_that_are_refused(running: Settings, kind: str) -> None:
    key, now = sandbox.token(running.home), int(time.time())
    issued = {
        "old": jwt.encode({"exp": now - 5}, key, algorithm="HS256"),
        "of another": jwt.encode({"exp": now + 500}, "x" * 32, algorithm="HS256"),
        "endless": jwt.encode({"sub": "me"}, key, algorithm="HS256"),
        "none": jwt.encode({"exp": now + 500}, None, algorithm="none"),
        "text": "é.é.é",
        "letters": "a.b.c",
    }[kind]
    assert answered(running, issued) == 401
