"""``python -m prospect_lib publish``: publish a problem's attributes and service to Signals."""

from collections.abc import Callable
from datetime import datetime

import httpx
from snowplow_signals import AttributeKey, SignalsAPIError

from prospect_lib import signals
from prospect_lib.errors import ServiceError
from prospect_lib.problem import ScoringProblem
from prospect_lib.settings import Settings

#: Keys that every Signals has already
#: (https://docs.snowplow.io/docs/signals/attributes/attribute-keys/).
BUILT_IN_KEYS = ("domain_userid", "domain_sessionid", "network_userid", "user_id")


def publish(
    settings: Settings,
    problem: ScoringProblem,
    *,
    since: datetime | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Publish the attribute group, its service, and its attribute key if that is one's own.

    Args:
        settings: which Signals, and its secrets.
        problem: names the group and the service.
        since: from when past events count too (aware); by default, Signals counts from now on.
        say: takes the line for people.
    Raises:
        SettingsError: a secret is missing, or the local sandbox has never been started.
        ServiceError: Signals cannot be reached or refuses a definition.
    """
    group, key = problem.group, problem.group.attribute_key
    if since is not None:
        group = group.model_copy(update={"backfill_since_tstamp": since})
    own_key = [key] if isinstance(key, AttributeKey) and key.name not in BUILT_IN_KEYS else []
    client, reason = signals.connect(settings), ""
    try:
        client.publish([*own_key, group, problem.service])
    except httpx.HTTPStatusError as error:  # its text has the address, which has SP_ORG_ID
        reason = f"Snowplow's console answered {error.response.status_code} to the API key"
    except (SignalsAPIError, httpx.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    if reason:
        raise ServiceError(
            f"Signals did not publish {group.name}: {reason}. Check that it runs (locally: "
            "python -m prospect_lib sandbox), its secrets, and the definition."
        )
    say(
        f"Published: {group.name} v{group.version} ({len(group.attributes)} attributes) and "
        f"{problem.service.name}."
    )
