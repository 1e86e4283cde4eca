"""Published objects, stored in ``registry.json``."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snowplow_signals import AttributeGroup, AttributeKey

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.files import write_whole
from prospect_lib.sandbox.home import Clock, utc_now

Stored = dict[str, Any]
OBJECT_KINDS = ("attribute_keys", "attribute_groups", "services", "interventions")
VERSIONED = ("attribute_groups", "interventions")
#: What may change in a published version, besides what the registry writes itself.
CHANGEABLE = ("is_published", "owner", "description", "published_at", "frozen_at")


class ConflictError(ValueError):
    """An object cannot change, be unpublished or be deleted as things are."""


class Registry:
    """Keys, groups, services and interventions by kind and name; some of them by version too.

    Raises:
        SettingsError: ``registry.json`` cannot be read.
    """

    def __init__(self, home: Path, clock: Clock = utc_now) -> None:
        self._path, self._clock = home / "registry.json", clock
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Stored]] = {kind: {} for kind in OBJECT_KINDS}
        if self._path.is_file():
            self._objects |= _read(self._path)

    def get(self, kind: str, name: str, version: int | None = None) -> Stored | None:
        """Return an object, by default its latest version; ``None`` if there is none."""
        if kind not in VERSIONED:
            return self._objects[kind].get(name)
        versions = [
            stored
            for stored in self._objects[kind].values()
            if stored["name"] == name and version in (None, stored["version"])
        ]
        return max(versions, key=lambda stored: int(stored["version"]), default=None)

    def every(self, kind: str) -> list[Stored]:
        """Return all objects of a kind, sorted by name."""
        return [self._objects[kind][key] for key in sorted(self._objects[kind])]

    def put(self, kind: str, new: Stored) -> Stored:
        """Store an object, with the times at which it was published and unpublished.

        Raises:
            ConflictError: it is another definition of a version that has been published, or
                unpublishes a group that a service uses.
            ServiceError: ``registry.json`` cannot be written; the registry is as before.
        """
        with self._lock:
            key = _key(kind, new)
            old = self._objects[kind].get(key, {})
            if kind in VERSIONED and "published_at" in old and _meaning(old) != _meaning(new):
                raise ConflictError(
                    f"{key} has been published with another definition; increment the version."
                )
            if kind == "attribute_groups" and old.get("is_published") and not new["is_published"]:
                self._refuse_in_use(new["name"], self._users(kind, new, among=("services",)))
            now = self._clock().isoformat()
            if new.get("is_published"):
                published_at = old.get("published_at") if old.get("is_published") else None
                new["published_at"] = published_at or now
            elif "published_at" in old:  # values stay as they were when it was unpublished
                new["published_at"] = old["published_at"]
                new["frozen_at"] = old.get("frozen_at", now)
            self._save(kind, self._objects[kind] | {key: new})
        return new

    def delete(self, kind: str, stored: Stored) -> None:
        """Remove an object.

        Raises:
            ConflictError: it is published, or other objects need it; the message names them.
            ServiceError: ``registry.json`` cannot be written; the registry is as before.
        """
        with self._lock:
            self._refuse_in_use(stored["name"], self._users(kind, stored))
            key = _key(kind, stored)
            if stored.get("is_published"):
                raise ConflictError(f"{key} is published; unpublish it first.")
            others = {name: each for name, each in self._objects[kind].items() if name != key}
            self._save(kind, others)

    def _refuse_in_use(self, name: str, users: list[str]) -> None:
        if users:
            raise ConflictError(f"{name} is still used by {', '.join(users)}; delete it first.")

    def _users(self, kind: str, stored: Stored, among: Iterable[str] = OBJECT_KINDS) -> list[str]:
        """Return the names of the objects that need this one."""
        needs = {"attribute_groups": _groups_of, "attribute_keys": _keys_of}.get(kind)
        others = [other for each in among for other in self.every(each)]
        return [o["name"] for o in others if needs and _key(kind, stored) in needs(o)]

    def _save(self, kind: str, objects: dict[str, Stored]) -> None:
        """Write the file first, so that a full disk leaves the registry as it is."""
        everything = self._objects | {kind: objects}
        try:
            write_whole(self._path, json.dumps(everything, indent=1), mode=0o600)
        except OSError as error:
            raise ServiceError(
                f"{self._path} cannot be written ({error.strerror}): is the disk full? Send again."
            ) from error
        self._objects = everything


def group_of(stored: Stored, registry: Registry) -> AttributeGroup:
    """Return a stored group as the SDK's object, with its attribute key as it is published."""
    return with_key(AttributeGroup.model_validate(stored), registry)


def with_key(group: AttributeGroup, registry: Registry) -> AttributeGroup:
    """Return a group that only names its attribute key with the published key of that name."""
    key = group.attribute_key
    names_only = getattr(key, "property", None) is None and not key.__dict__.get("key")
    published = registry.get("attribute_keys", str(key.name)) if names_only else None
    if published is None:
        return group
    return group.model_copy(update={"attribute_key": AttributeKey.model_validate(published)})


def name_and_version(full_name: str) -> tuple[str, int]:
    """Return the parts of ``group_v1``; the version is -1, which none has, if it is no version."""
    name, _, version = full_name.rpartition("_v")
    is_number = version.isascii() and version.isdecimal() and len(version) < 10
    return name, int(version) if is_number else -1


def _key(kind: str, stored: Stored) -> str:
    if kind in VERSIONED:
        return f"{stored['name']}_v{stored['version']}"
    return str(stored["name"])


def _meaning(stored: Stored) -> Stored:
    """Return what must not change in a version; of its attribute key, the name."""
    meaning = {name: value for name, value in stored.items() if name not in CHANGEABLE}
    if "attribute_key" in meaning:
        meaning["attribute_key"] = meaning["attribute_key"]["name"]
    return meaning


def _groups_of(other: Stored) -> set[str]:
    """Return the groups that a service reads, or that an intervention carries or tests."""
    links = [
        *(other.get("attribute_groups") or []),
        *(other.get("payload_attribute_groups") or []),
    ]
    tested = _attributes_in(other.get("criteria")) if "criteria" in other else set()
    return {_key("attribute_groups", link) for link in links} | {
        name.partition(":")[0] for name in tested
    }


def _attributes_in(criteria: Any) -> set[str]:
    """Return the ``group_v1:attribute`` names in an intervention's nested criteria."""
    if isinstance(criteria, list):
        return {name for each in criteria for name in _attributes_in(each)}
    if not isinstance(criteria, dict):
        return set()
    own = {criteria["attribute"]} if isinstance(criteria.get("attribute"), str) else set()
    return own | _attributes_in(list(criteria.values()))


def _keys_of(other: Stored) -> set[str]:
    """Return the attribute keys of a group, or at which an intervention aims."""
    links = [other.get("attribute_key") or {}, *(other.get("target_attribute_keys") or [])]
    return {link["name"] for link in links if "name" in link}


def _read(path: Path) -> dict[str, dict[str, Stored]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it is not a JSON object")
        return {kind: _objects_of(kind, content[kind]) for kind in OBJECT_KINDS if kind in content}
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}). Move it away and publish again."
        ) from error


def _objects_of(kind: str, objects: Any) -> dict[str, Stored]:
    needed = {"name", "version"} if kind in VERSIONED else {"name"}
    if not isinstance(objects, dict):
        raise TypeError(f"{kind!r} is not an object")
    for key, stored in objects.items():
        if not isinstance(stored, dict) or not needed <= set(stored):
            raise ValueError(f"{kind!r}: {key!r} lacks {' and '.join(sorted(needed))}")
    return objects
