"""The commands publish, unpublish and status: a problem's attributes and service in Signals.

A published version never changes in Signals: another definition needs another version. Every
function therefore looks first, and sends only what is not there yet.

Example: ``publish(settings, problem).is_current`` -> ``True``
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pandas as pd
from snowplow_signals import (
    AttributeGroup,
    AttributeKey,
    Service,
    Signals,
    SignalsAPIError,
    SignalsSandbox,
)

from prospect_lib import signals
from prospect_lib.aggregation.fold import group_hash
from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.errors import ServiceError, SettingsError, one_line
from prospect_lib.files import write_whole
from prospect_lib.monitoring.audit import changed_attributes
from prospect_lib.problem import ScoringProblem
from prospect_lib.settings import Settings

#: Keys that every Signals has already
#: (https://docs.snowplow.io/docs/signals/attributes/attribute-keys/).
BUILT_IN_KEYS = ("domain_userid", "domain_sessionid", "network_userid", "user_id")
#: The file in PROSPECT_HOME with the backfill date of every version published in an account.
BACKFILL_FILE = "published.json"
NO_WAREHOUSE = "Signals has no warehouse connection, or refuses to use it"
_SHOWN = 5  # names of attributes that differ
_ABOUT_ACCESS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)

Client = Signals | SignalsSandbox
Say = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Publication:
    """What Signals has under the names of a scoring problem.

    Attributes:
        problem: with its definition here.
        group: the group of this name and version in Signals, published or not; ``None`` without.
        service: the service of this name in Signals; ``None`` without.
    """

    problem: ScoringProblem
    group: AttributeGroup | None
    service: Service | None

    @property
    def name(self) -> str:
        """Return the group's name and version, such as ``prospect_lib_visitor v1``."""
        return f"{self.problem.group.name} v{self.problem.group.version}"

    @property
    def is_same(self) -> bool:
        """Return whether Signals has the group as it is defined here.

        The ttl of the attribute key, which Signals may choose itself, is left out.
        """
        here, there = self.problem.group, self.group
        if there is None or _key_of(there) != _key_of(here):
            return False
        with_key = there.model_copy(update={"attribute_key": here.attribute_key})
        return group_hash(with_key) == group_hash(here)

    @property
    def is_served(self) -> bool:
        """Return whether the service serves exactly the groups that it is defined with here."""
        return (
            self.service is not None
            and bool(self.service.is_published)
            and _links(self.service) == _links(self.problem.service)
        )

    @property
    def is_current(self) -> bool:
        """Return whether the group is published as it is defined here, and served."""
        published = self.group is not None and bool(self.group.is_published)
        return published and self.is_same and self.is_served

    @property
    def since(self) -> str:
        """Return from when Signals counts, as part of a sentence."""
        date = self.group.backfill_since_tstamp if self.group else None
        return f"events since {date:%Y-%m-%d %H:%M}" if date else "events since its publishing"

    def lines(self) -> list[str]:
        """Return what is published, and what differs, for people."""
        group, service = self.group, self.problem.service.name
        if group is None:
            lines = [f"{self.name}: Signals does not have it."]
        else:
            state = "published" if group.is_published else "not published"
            lines = [
                f"{self.name}: {state}, {len(group.attributes or [])} attributes, owner "
                f"{group.owner}, counts {self.since}.",
                "  Its definition is the same as here."
                if self.is_same
                else f"  Its definition differs from the one here: {self._differing()}.",
                "  An attribute is None until an event or the backfill brings a value.",
            ]
        links = ", ".join(_links(self.service)) if self.service else ""
        lines.append(f"{service}: {f'serves {links}' if links else 'Signals does not have it'}.")
        return lines

    def _differing(self) -> str:
        assert self.group is not None
        here, there = self.problem.group, self.group
        names = dict.fromkeys(changed_attributes(here, there) + changed_attributes(there, here))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(list(names)[:_SHOWN]) + more


def status(settings: Settings, problem: ScoringProblem, *, say: Say = print) -> Publication:
    """Return what Signals has of a problem, and say it in some lines.

    Raises:
        SettingsError: a secret is missing, or the local sandbox has never been started.
        ServiceError: Signals cannot be reached.
    """
    with _in_one_line("did not answer about", problem):
        publication = _look(signals.connect(settings), problem)
    for line in publication.lines():
        say(line)
    return publication


def publish(
    settings: Settings,
    problem: ScoringProblem,
    *,
    since: datetime | None = None,
    replace: bool = False,
    say: Say = print,
) -> Publication:
    """Publish the attribute group, its service, and its attribute key if that is one's own.

    What Signals has already is not sent again. The owner is ``SP_OWNER`` where it is set.

    Args:
        settings: which Signals, and its secrets.
        problem: names the group and the service.
        since: from when past events count too (aware); by default, Signals counts from now on.
            The first publishing of a version fixes it.
        replace: in the local sandbox only: delete another definition of the same name and version
            first, with its values.
        say: takes the lines for people.
    Returns:
        What Signals has afterwards.
    Raises:
        SettingsError: a secret or an owner is missing, the local sandbox has never been started,
            or an argument is not possible with this Signals.
        ServiceError: Signals cannot be reached or refuses a definition, or it has another one
            of the same name.
    """
    local = settings.signals_backend == "local"
    if replace and not local:
        raise SettingsError(
            "--replace (replace=True in Python) is for the local sandbox only: a version that is "
            "published in Signals never changes. Write another version in the group."
        )
    if since is not None and (since.tzinfo is None or since > datetime.now(UTC)):
        raise SettingsError(
            f"--since {since:%Y-%m-%d %H:%M} (since in Python): expected a time in the past, with "
            "its zone."
        )
    problem = owned(settings, problem)
    with _in_one_line("did not publish", problem):
        client = signals.connect(settings)
        before = _look(client, problem)
        if replace and before.group is not None and not before.is_same:
            _delete(client, before)
            before = _look(client, problem)
        _refuse_another(client, before, local=local)
        if before.is_current:
            say(
                f"Published already: {before.name} ({len(problem.group.attributes)} attributes, "
                f"{before.since}) and {problem.service.name}; nothing changes."
            )
            _say_fixed_date(before, since, say)
            return before
        if before.group is None:
            dates = None if local else _Dates(settings.home / BACKFILL_FILE, client)
            _send_new(client, problem, since, dates, say)
        elif not before.group.is_published:
            client.publish([before.group])
        if not before.is_served:
            client.publish([problem.service])
            if before.service is not None:
                links = (", ".join(_links(each)) for each in (problem.service, before.service))
                say("{} now serves {} instead of {}.".format(problem.service.name, *links))
                say(
                    "What it served before stays published, and Signals goes on computing it. To "
                    "end that, unpublish it with its own version in the group."
                )
        after = _look(client, problem)
    if not after.is_current:  # Signals shows something else than it was sent
        for line in after.lines():
            say(line)
        return after
    _say_fixed_date(after, since, say)
    say(
        f"Published: {after.name} ({len(problem.group.attributes)} attributes) and "
        f"{problem.service.name}."
    )
    if not local and after.group is not None and after.group.backfill_since_tstamp:
        say(f"It counts {after.since} once the backfill has run; until then values are None.")
    return after


def unpublish(settings: Settings, problem: ScoringProblem, *, say: Say = print) -> None:
    """Delete the service of a problem, then unpublish its group.

    The group's definition and values stay in Signals, so that it can be published again. The
    service goes first: Signals unpublishes no group that a service uses.

    Raises:
        SettingsError: as ``publish``.
        ServiceError: Signals cannot be reached, or another service uses the group.
    """
    with _in_one_line("did not unpublish", problem):
        client = signals.connect(settings)
        before = _look(client, problem)
        service, links = before.service, _links(before.service)
        if service is None:
            say(f"There is no service {problem.service.name}.")
        elif before.name not in links:
            say(f"Left as it is: service {service.name}, which serves {', '.join(links)}.")
        elif len(links) > 1:
            raise ServiceError(
                f"service {service.name} serves {', '.join(links)}. Take {before.name} out of it "
                "first, in the Snowplow Console or with the SDK."
            )
        else:
            _delete_service(client, service)
            say(f"Deleted: service {service.name}.")
        if before.group is None or not before.group.is_published:
            say(f"{before.name} is not published.")
        else:
            client.unpublish([before.group])
            say(f"Unpublished: {before.name}. Its definition and its values stay in Signals.")


def preview(
    settings: Settings,
    problem: ScoringProblem,
    *,
    window: timedelta = timedelta(hours=1),
    say: Say = print,
) -> pd.DataFrame:
    """Return attributes of some visitors that Signals computes without publishing anything.

    This is the SDK's ``test``. It needs a warehouse connection of Signals; where Signals
    refuses, ``say`` tells its reason and the frame has no rows.

    Args:
        window: how far back to compute, from now; Signals reads its warehouse for it.
    Raises:
        SettingsError, ServiceError: as ``status``.
    """
    columns = [problem.key, *(attribute.name for attribute in problem.group.attributes)]
    with _in_one_line("did not test", problem):
        try:
            tested = signals.connect(settings).test(problem.group, window=window)
            return tested.reindex(columns=columns)  # without events it has none
        except SignalsAPIError as error:
            if error.status_code in _ABOUT_ACCESS:
                raise
            reason = _reason(error)
    say(f"Not tested: {NO_WAREHOUSE} ({reason}).")
    return pd.DataFrame(columns=columns)


def published_group(client: Client, group: AttributeGroup) -> AttributeGroup | None:
    """Return a group as Signals has it published now; ``None`` if it does not.

    Raises:
        SignalsAPIError, httpx.HTTPError: Signals cannot be reached, or refuses the request.
    """
    stored = _stored_group(client, group)
    return stored if stored is not None and stored.is_published else None


def _look(client: Client, problem: ScoringProblem) -> Publication:
    name = problem.service.name
    service = _if_there(lambda: client.registry.get_service(name))
    return Publication(problem, _stored_group(client, problem.group), service)


def _stored_group(client: Client, group: AttributeGroup) -> AttributeGroup | None:
    stored = _if_there(lambda: client.get_attribute_group(group.name, group.version))
    if stored is None:
        return None
    fields = stored.model_dump(mode="json", by_alias=True, exclude_none=True)
    return AttributeGroup.model_validate({"owner": group.owner, **fields})


def _if_there(get: Callable[[], _T]) -> _T | None:
    try:
        return get()
    except SignalsAPIError as error:
        if error.status_code == HTTPStatus.NOT_FOUND:
            return None
        raise


def _links(service: Service | None) -> list[str]:
    links = (service.attribute_groups or []) if service else []
    return sorted(f"{link.name} v{link.version}" for link in links)


def owned(settings: Settings, problem: ScoringProblem) -> ScoringProblem:
    """Return a problem as it is published: with the owner of the settings, if they name one.

    Raises:
        SettingsError: an account would record a placeholder as the owner.
    """
    if "SP_OWNER" in settings.values:
        update = {"owner": settings.secret("SP_OWNER")}
        group, key = problem.group, problem.group.attribute_key
        if _own_key(group) is not None:
            group = group.model_copy(update={"attribute_key": key.model_copy(update=update)})
        return replace(
            problem,
            group=group.model_copy(update=update),
            service=problem.service.model_copy(update=update),
        )
    for owner in (problem.owner, str(problem.service.owner)):
        if settings.signals_backend == "signals" and owner.endswith("@example.com"):
            raise SettingsError(
                f"{owner}, the owner of {problem.group.name} and its service, is a placeholder. "
                "Set SP_OWNER to your e-mail address, or write it as owner in both."
            )
    return problem


def _key_of(group: AttributeGroup) -> tuple[str, dict[str, Any]]:
    return key_name(group), key_property(group).model_dump(mode="json", exclude_none=True)


def _own_key(group: AttributeGroup) -> AttributeKey | None:
    key = group.attribute_key
    return key if isinstance(key, AttributeKey) and key.name not in BUILT_IN_KEYS else None


def _say_fixed_date(publication: Publication, since: datetime | None, say: Say) -> None:
    """Say that a version keeps its first backfill date, if an earlier one is asked for."""
    fixed = publication.group and publication.group.backfill_since_tstamp
    if since is not None and fixed and since < fixed:  # the later dates of a demo say nothing
        say(
            f"{since:%Y-%m-%d %H:%M} has no effect: {publication.name} counts {publication.since}, "
            "and a version keeps its first date. Another version can have another one."
        )


def _refuse_another(client: Client, before: Publication, *, local: bool) -> None:
    group, service = before.problem.group, before.problem.service
    if before.group is not None and not before.is_same:
        latest = client.get_attribute_group(group.name).version or 1
        remedy = f"Write version={max(latest, group.version or 1) + 1} in the group"
        if local:
            remedy += ", or delete it and its values first: --replace (replace=True in Python)"
        raise ServiceError(
            f"Signals has another definition of {before.name}, and a version never changes. "
            f"{remedy}."
        )
    names = {link.rpartition(" ")[0] for link in _links(service)}
    other = [link for link in _links(before.service) if link.rpartition(" ")[0] not in names]
    if other:
        raise ServiceError(
            f"Signals has a service {service.name} that serves {', '.join(other)}. Write another "
            "name in the service."
        )


def _send_new(
    client: Client,
    problem: ScoringProblem,
    since: datetime | None,
    dates: "_Dates | None",
    say: Say,
) -> None:
    """Publish a version that Signals does not have; without backfill where it refuses that."""
    group = problem.group
    keys: list[Any] = [key] if (key := _own_key(group)) and not _has_key(client, group) else []
    since = (dates.of(group) if dates else None) or since
    dated = group.model_copy(update={"backfill_since_tstamp": since})
    try:
        client.publish([*keys, dated])
    except SignalsAPIError as error:
        if since is None or not _may_be_about_backfill(error):
            raise
        client.publish([*keys, group.model_copy(update={"backfill_since_tstamp": None})])
        say(f"Past events do not count: {NO_WAREHOUSE}. Values begin with new events.")
    else:
        if since is not None and dates is not None:
            dates.keep(group, since)


def _may_be_about_backfill(error: SignalsAPIError) -> bool:
    """Return whether a group may be refused because of its backfill.

    The SDK takes 400 for "it exists" and sends PUT, so that a group which is refused with 400
    ends with 404.
    """
    text = str(error).lower()
    if error.status_code in _ABOUT_ACCESS:
        return False
    return error.status_code == HTTPStatus.NOT_FOUND or "backfill" in text or "warehouse" in text


def _has_key(client: Client, group: AttributeGroup) -> bool:
    """Return whether Signals has the group's attribute key.

    Raises:
        ServiceError: it has another one of the same name.
    """
    name = group.attribute_key.name
    stored = _if_there(
        lambda: client.api_client.make_request("GET", f"registry/attribute_keys/{name}")
    )
    if stored is None:
        return False
    other = group.model_copy(update={"attribute_key": AttributeKey.model_validate(stored)})
    if _key_of(other) != _key_of(group):
        raise ServiceError(
            f"Signals has another attribute key {name}, of another property. Give yours another "
            "name."
        )
    return True


def _delete(client: Client, before: Publication) -> None:
    if before.service is not None:
        _delete_service(client, before.service)
    assert before.group is not None
    client.unpublish([before.group])
    client.delete([before.group])


def _delete_service(client: Client, service: Service) -> None:
    client.unpublish([service])
    client.delete([service])


class _Dates:
    """The backfill dates of one Signals, by version; a version keeps its first one."""

    def __init__(self, path: Path, client: Client) -> None:
        self._path, self._address = path, client.api_client.api_url

    def of(self, group: AttributeGroup) -> datetime | None:
        date = self._all().get(self._key(group))
        return datetime.fromisoformat(date) if date else None

    def keep(self, group: AttributeGroup, since: datetime) -> None:
        dates = {self._key(group): since.isoformat(), **self._all()}
        write_whole(self._path, json.dumps(dates, indent=1))

    def _key(self, group: AttributeGroup) -> str:
        return f"{self._address} {group.name} v{group.version}"

    def _all(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{self._path} cannot be read ({type(error).__name__}). Move it away, and name "
                "the date with --since (since in Python)."
            ) from None


@contextmanager
def _in_one_line(action: str, problem: ScoringProblem) -> Iterator[None]:
    """Turn an error of the SDK into one line.

    Raises:
        ServiceError: Signals cannot be reached, or refuses.
    """
    try:
        yield
    except SignalsAPIError as error:
        server = error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        advice = "Try again shortly." if server else "Check the definition."
        if error.status_code in _ABOUT_ACCESS:
            advice = "Check the secrets of the Signals in use: python -m prospect_lib doctor."
        raise ServiceError(
            f"Signals {action} {problem.group.name}: {_reason(error)}. {advice}"
        ) from None
    except (httpx.HTTPError, OSError) as error:
        raise ServiceError(
            f"Signals {action} {problem.group.name}: {one_line(error) or type(error).__name__}. "
            "Check that it runs (locally: python -m prospect_lib sandbox) and its address."
        ) from None


def _reason(error: SignalsAPIError) -> str:
    """Return the status and the words of a refusal, which comes as text or as JSON."""
    message = error.message
    if isinstance(message, Mapping):
        message = message.get("detail") or message.get("message") or message.get("title") or ""
    return f"it answered {error.status_code} {one_line(message)}".strip().rstrip(".")
