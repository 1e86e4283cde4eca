"""What tests of the sandbox share: a tracker's payload and published attributes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import httpx
import jwt
import pytest
from snowplow_signals import SignalsSandbox

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.server import Server
from prospect_lib.settings import Settings
from tests.support.fake_signals import FakeConsole


def page_view(**fields: str) -> dict[str, str]:
    """A page view as a tracker sends it, with a new event id."""
    return {"e": "pv", "eid": str(uuid4()), "duid": "u1", "aid": "website", **fields}


def publish(settings: Settings) -> SignalsSandbox:
    """Publish the demo's attributes and service; return the SDK's client."""
    client = signals.connect(settings)
    client.publish([prospect_group, prospect_service])
    assert isinstance(client, SignalsSandbox)
    return client


@contextmanager
def without_warehouse(settings: Settings) -> Iterator[Settings]:
    """Run a sandbox whose Signals has no warehouse connection, in this process."""
    app = create_sandbox(settings, warehouse=False)
    try:
        with Server(app, port=settings.sandbox_port):
            yield settings
    finally:
        app.extensions["sandbox"].events.close()


@contextmanager
def account(settings: Settings) -> Iterator[tuple[Settings, FakeConsole]]:
    """Reach a running sandbox as an account of Signals, with an API key and a console."""
    key = str(uuid4())
    issued = jwt.encode({"exp": int(time.time()) + 3600}, sandbox.token(settings.home))
    values = {
        "SP_API_URL": settings.sandbox_url,
        "SP_API_KEY": key,
        "SP_API_KEY_ID": str(uuid4()),
        "SP_ORG_ID": str(uuid4()),
        "SP_OWNER": "ada@lovelace.org",
    }
    with FakeConsole(key=key, token=issued) as console, pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "CONSOLE_URL", console.url)
        yield replace(settings, values=values), console


@contextmanager
def recorded_calls() -> Iterator[list[str]]:
    """Record method and path of every call of the SDK in the block."""
    calls, request = list[str](), httpx.request

    def record(method: str, url: str, **options: object) -> httpx.Response:
        calls.append(f"{method} {url.partition('/api/v1/')[2]}")
        return request(method, url, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "request", record)
        yield calls
