"""``python -m prospect_lib publish``: publish a problem's attributes and service to Signals."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import httpx
from snowplow_signals import (
    AttributeGroup,
    AttributeKey,
    Signals,
    SignalsAPIError,
    SignalsSandbox,
)

from prospect_lib import signals
from prospect_lib.aggregation.fold import group_hash
from prospect_lib.errors import ServiceError
from prospect_lib.problem import ScoringProblem
from prospect_lib.settings import Settings

#: Keys that every Signals has already
#: (https://docs.snowplow.io/docs/signals/attributes/attribute-keys/).
BUILT_IN_KEYS = ("domain_userid", "domain_sessionid", "network_userid", "user_id")


def published_group(
    client: Signals | SignalsSandbox, group: AttributeGroup
) -> AttributeGroup | None:
    """Return a group as Signals has it published now; ``None`` if it does not.

    Raises:
        SignalsAPIError, httpx.HTTPError: Signals cannot be reached, or refuses the request.
    """
    try:
        published = client.get_attribute_group(group.name, group.version)
    except SignalsAPIError as error:
        if error.status_code == HTTPStatus.NOT_FOUND:
            return None
        raise
    if not published.is_published:
        return None
    key = published.attribute_key.model_dump(include=set(AttributeKey.model_fields))
    return group.model_copy(
        update={
            "attributes": published.attributes or [],
            "attribute_key": AttributeKey(**key),
            "ttl": published.ttl,
            "backfill_since_tstamp": getattr(published, "backfill_since_tstamp", None),
        }
    )


def _refuse_another(published: AttributeGroup | None, group: AttributeGroup) -> None:
    if published is not None and group_hash(published) != group_hash(group):
        raise ServiceError(
            f"Signals has another definition of {group.name} v{group.version}, and a published "
            f"version never changes. Write version={(group.version or 1) + 1} in the group, or "
            "overwrite it with --replace (replace=True in Python)."
        )


def publish(
    settings: Settings,
    problem: ScoringProblem,
    *,
    since: datetime | None = None,
    replace: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Publish the attribute group, its service, and its attribute key if that is one's own.

    Args:
        settings: which Signals, and its secrets.
        problem: names the group and the service.
        since: from when past events count too (aware); by default, Signals counts from now on.
        replace: overwrite another definition that is published under the same name and version.
        say: takes the line for people.
    Raises:
        SettingsError: a secret is missing, or the local sandbox has never been started.
        ServiceError: Signals cannot be reached or refuses a definition, or it has another one
            of the same name and version.
    """
    group, key = problem.group, problem.group.attribute_key
    if since is not None:
        group = group.model_copy(update={"backfill_since_tstamp": since})
    own_key = [key] if isinstance(key, AttributeKey) and key.name not in BUILT_IN_KEYS else []
    client, reason = signals.connect(settings), ""
    try:
        if not replace:
            _refuse_another(published_group(client, group), group)
        client.publish([*own_key, group, problem.service])
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
