"""Objects published to the sandbox, kept in ``registry.json``."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prospect_lib.errors import SettingsError

Stored = dict[str, Any]
KINDS = ("attribute_keys", "attribute_groups", "services", "interventions")
VERSIONED = ("attribute_groups", "interventions")


class InUseError(ValueError):
    """An object cannot be deleted while others need it."""


class Registry:
    """Keys, groups, services and interventions by kind and name, groups by version too.

    Raises:
        SettingsError: ``registry.json`` cannot be read.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "registry.json"
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS}
        if self._path.is_file():
            self._objects |= _read(self._path)

    def get(self, kind: str, name: str, version: int | None = None) -> Stored | None:
        """An object; the latest version where none is asked for."""
        if kind not in VERSIONED:
            return self._objects[kind].get(name)
        found = [o for o in list(self._objects[kind].values()) if o["name"] == name]
        wanted = [o for o in found if version is None or o["version"] == version]
        return max(wanted, key=lambda o: int(o["version"]), default=None)

    def every(self, kind: str) -> list[Stored]:
        """All objects of a kind, by name."""
        return [self._objects[kind][key] for key in sorted(self._objects[kind])]

    def put(self, kind: str, found: Stored) -> Stored:
        """Store an object, with the moments at which it was published and unpublished."""
        with self._lock:
            key = _key(kind, found)
            before = self._objects[kind].get(key, {})
            now = datetime.now(UTC).isoformat()
            if found.get("is_published"):
                published = before.get("published_at") if before.get("is_published") else None
                found["published_at"] = published or now
            elif "published_at" in before:  # values stay as they were when it was unpublished
                found["published_at"] = before["published_at"]
                found["frozen_at"] = before.get("frozen_at", now)
            self._objects[kind][key] = found
            self._save()
        return found

    def delete(self, kind: str, found: Stored) -> None:
        """Remove an object.

        Raises:
            InUseError: others still have it; the message names them.
        """
        if users := self._users(kind, found):
            raise InUseError(
                f"{found['name']} is still used by {', '.join(users)}; delete it first."
            )
        with self._lock:
            self._objects[kind].pop(_key(kind, found), None)
            self._save()

    def _users(self, kind: str, found: Stored) -> list[str]:
        """Who would be broken without the object."""
        needs = {"attribute_groups": _groups_of, "attribute_keys": _keys_of}.get(kind)
        others = [other for each in KINDS for other in self.every(each)]
        return [o["name"] for o in others if needs and _key(kind, found) in needs(o)]

    def _save(self) -> None:
        draft = self._path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._objects, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _key(kind: str, found: Stored) -> str:
    return f"{found['name']}_v{found['version']}" if kind in VERSIONED else str(found["name"])


def _groups_of(other: Stored) -> set[str]:
    """The groups that a service reads, or whose values an intervention carries or tests."""
    links = [
        *(other.get("attribute_groups") or []),
        *(other.get("payload_attribute_groups") or []),
    ]
    tested = _attributes_in(other.get("criteria")) if "criteria" in other else set()
    return {_key("attribute_groups", link) for link in links} | {
        name.partition(":")[0] for name in tested
    }


def _attributes_in(criteria: Any) -> set[str]:
    """The ``group_v1:attribute`` names in an intervention's criteria, however nested."""
    if isinstance(criteria, list):
        return {name for each in criteria for name in _attributes_in(each)}
    if not isinstance(criteria, dict):
        return set()
    own = {criteria["attribute"]} if isinstance(criteria.get("attribute"), str) else set()
    return own | _attributes_in(list(criteria.values()))


def _keys_of(other: Stored) -> set[str]:
    """The attribute keys of a group, or at which an intervention aims."""
    links = [other.get("attribute_key") or {}, *(other.get("target_attribute_keys") or [])]
    return {link["name"] for link in links if "name" in link}


def _read(path: Path) -> dict[str, dict[str, Stored]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it is not a JSON object")
        return {kind: _objects_of(kind, found[kind]) for kind in KINDS if kind in found}
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}). Move it away and publish again."
        ) from error


def _objects_of(kind: str, found: Any) -> dict[str, Stored]:
    needed = {"name", "version"} if kind in VERSIONED else {"name"}
    if not isinstance(found, dict):
        raise TypeError(f"{kind!r} is not an object")
    for key, one in found.items():
        if not isinstance(one, dict) or not needed <= set(one):
            raise ValueError(f"{kind!r}: {key!r} lacks {' and '.join(sorted(needed))}")
    return found
