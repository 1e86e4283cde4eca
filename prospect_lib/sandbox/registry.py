"""Objects published to the sandbox, kept in ``registry.json``."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Stored = dict[str, Any]
KINDS = ("attribute_keys", "attribute_groups", "services", "interventions")
VERSIONED = ("attribute_groups", "interventions")


class InUseError(ValueError):
    """An object cannot be deleted while others need it."""


class Registry:
    """Keys, groups, services and interventions by kind and name, groups by version too."""

    def __init__(self, home: Path) -> None:
        self._path = home / "registry.json"
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Stored]] = {kind: {} for kind in KINDS}
        if self._path.is_file():
            self._objects |= json.loads(self._path.read_text(encoding="utf-8"))

    def get(self, kind: str, name: str, version: int | None = None) -> Stored | None:
        """An object; the latest version where none is asked for."""
        if kind not in VERSIONED:
            return self._objects[kind].get(name)
        found = [o for o in self._objects[kind].values() if o["name"] == name]
        wanted = [o for o in found if version is None or o["version"] == version]
        return max(wanted, key=lambda o: int(o["version"]), default=None)

    def every(self, kind: str) -> list[Stored]:
        """All objects of a kind, by name."""
        return [self._objects[kind][key] for key in sorted(self._objects[kind])]

    def put(self, kind: str, found: Stored) -> Stored:
        """Store an object; publishing notes the moment, which values start from."""
        with self._lock:
            key = _key(kind, found)
            before = self._objects[kind].get(key, {})
            published = before.get("published_at") if before.get("is_published") else None
            if found.get("is_published"):
                found["published_at"] = published or datetime.now(UTC).isoformat()
            self._objects[kind][key] = found
            self._save()
        return found

    def delete(self, kind: str, found: Stored) -> None:
        """Remove an object.

        Raises:
            InUseError: a service still has the group; the message names it.
        """
        users = [
            service["name"]
            for service in self.every("services")
            for link in service.get("attribute_groups") or []
            if kind == "attribute_groups"
            and (link["name"], link["version"]) == (found["name"], found["version"])
        ]
        if users:
            raise InUseError(
                f"{found['name']} is still used by {', '.join(users)}; delete it first."
            )
        with self._lock:
            self._objects[kind].pop(_key(kind, found), None)
            self._save()

    def _save(self) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(self._objects, indent=1), encoding="utf-8")
        draft.replace(self._path)


def _key(kind: str, found: Stored) -> str:
    return f"{found['name']}_v{found['version']}" if kind in VERSIONED else str(found["name"])
