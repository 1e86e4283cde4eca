"""What tests of the sandbox share: a tracker's payload and published attributes."""

from uuid import uuid4

from snowplow_signals import SignalsSandbox

from prospect_lib import signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.settings import Settings


def page_view(**fields: str) -> dict[str, str]:
    """A page view as a tracker sends it, with a new event id."""
    return {"e": "pv", "eid": str(uuid4()), "duid": "u1", "aid": "website", **fields}


def publish(settings: Settings) -> SignalsSandbox:
    """Publish the demo's attributes and service; return the SDK's client."""
    client = signals.connect(settings)
    client.publish([prospect_group, prospect_service])
    assert isinstance(client, SignalsSandbox)
    return client
