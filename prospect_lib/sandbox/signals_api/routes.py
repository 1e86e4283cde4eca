"""The part of the Signals API that the SDK 0.4.10 calls, answered locally."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel
from snowplow_signals import AttributeGroup, AttributeKey, RuleIntervention, Service
from snowplow_signals.models import InterventionInstance, TestAttributeGroupRequest

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import event_time
from prospect_lib.errors import DefinitionError
from prospect_lib.sandbox.answers import Refusal, json_object, parsed
from prospect_lib.sandbox.credentials import authorised
from prospect_lib.sandbox.signals_api.online_attributes import span
from prospect_lib.sandbox.signals_api.registry import KINDS, InUseError, Stored
from prospect_lib.sandbox.state import current

api = Blueprint("signals_api", __name__)
MODELS: dict[str, type[BaseModel]] = {
    "attribute_keys": AttributeKey,
    "attribute_groups": AttributeGroup,
    "services": Service,
    "interventions": RuleIntervention,
}
KEPT = ("published_at", "frozen_at")  # with an object, for the sandbox alone
MAX_IDENTIFIERS = 100
MAX_WINDOW = timedelta(days=3660)


@api.before_request
def _authorise() -> Response | None:
    listening = request.method == "GET" and request.path.endswith("/interventions")
    if listening or authorised():
        return None
    return _detail(401, "The bearer token is missing or wrong: it is in PROSPECT_HOME/token.")


@api.errorhandler(DefinitionError)
def _incomputable(error: DefinitionError) -> Response:
    return _detail(422, [{"loc": ["attribute_group"], "msg": str(error)}])


@api.errorhandler(OverflowError)
def _overflowing(error: OverflowError) -> Response:
    return _detail(422, [{"loc": ["body"], "msg": f"a number or a period is too large: {error}"}])


@api.errorhandler(Refusal)
def _refuse(error: Refusal) -> Response:
    return _detail(error.status, error.detail)


def _detail(status: int, detail: Any) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    return response


def _valid(kind: str) -> Stored:
    found = parsed(MODELS[kind], json_object()).model_dump(
        mode="json", exclude_none=True, by_alias=True
    )
    if not found.get("name"):
        raise Refusal(422, [{"loc": ["body", "name"], "msg": "a name is required"}])
    if found.get("version", 1) < 1:
        raise Refusal(422, [{"loc": ["body", "version"], "msg": "versions count from 1"}])
    return found


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise Refusal(404, f"{kind} are not kept by the local sandbox")
    return kind


def _found(kind: str, name: str, version: int | None = None) -> Stored:
    found = current().registry.get(_kind(kind), name, version)
    if found is None:
        raise Refusal(
            404, f"{kind}: {name!r} is not known" + (f" in version {version}" if version else "")
        )
    return found


# --- registry ----------------------------------------------------------------------------------


@api.get("/registry/<kind>/")
def listing(kind: str) -> Response:
    """All objects of a kind."""
    return jsonify([_shown(kind, found) for found in current().registry.every(_kind(kind))])


@api.post("/registry/<kind>/")
def create(kind: str) -> Response:
    """Store a new object; 400 where it exists, upon which the SDK sends PUT."""
    found = _valid(_kind(kind))
    if current().registry.get(kind, found["name"], found.get("version")):
        raise Refusal(400, f"{kind}: {found['name']} exists already")
    return _put(kind, found)


@api.put("/registry/<kind>/<name>")
@api.put("/registry/<kind>/<name>/versions/<int:version>")
def update(kind: str, name: str, version: int | None = None) -> Response:
    """Replace an object."""
    before, sent = _found(kind, name, version), _valid(kind)
    if any(sent.get(part) != before.get(part) for part in ("name", "version")):
        raise Refusal(422, [{"loc": ["body", "name"], "msg": "not the object of the address"}])
    return _put(kind, sent)


def _put(kind: str, found: Stored) -> Response:
    for link in found.get("attribute_groups") or []:
        _found("attribute_groups", link["name"], link["version"])
    return jsonify(_shown(kind, current().registry.put(kind, found)))


@api.get("/registry/<kind>/<name>")
@api.get("/registry/<kind>/<name>/versions/<int:version>")
def get(kind: str, name: str, version: int | None = None) -> Response:
    """One object, the latest version where none is named."""
    return jsonify(_shown(kind, _found(kind, name, version)))


@api.delete("/registry/<kind>/<name>")
@api.delete("/registry/<kind>/<name>/versions/<int:version>")
def delete(kind: str, name: str, version: int | None = None) -> Response:
    """Remove an object that nothing else needs."""
    try:
        current().registry.delete(kind, _found(kind, name, version))
    except InUseError as error:
        raise Refusal(400, str(error)) from None
    return jsonify(status="success")


def _shown(kind: str, found: Stored) -> Stored:
    shown = {name: value for name, value in found.items() if name not in KEPT}
    if kind != "attribute_groups":
        return shown
    full = f"{found['name']}_v{found['version']}"
    key = found["attribute_key"]
    return {
        **shown,
        "attribute_key": {**key, "blobl_path": f"this.{key['name']}"},
        "attribute_key_or_name": key["name"],
        "full_name": full,
        "feast_name": full,
        "stream_source_name": f"{full}_stream",
    }


# --- values ------------------------------------------------------------------------------------


@api.post("/get-online-attributes")
def online_attributes() -> Response:
    """Live values of a service or of named attributes, one entry per identifier."""
    body = json_object()
    keys = body.get("attribute_keys")
    if (
        not isinstance(keys, dict)
        or len(keys) != 1
        or not isinstance(next(iter(keys.values())), list)
    ):
        raise Refusal(
            422, [{"loc": ["attribute_keys"], "msg": "one key with a list of identifiers"}]
        )
    key, identifiers = next(iter(keys.items()))
    if len(identifiers) > MAX_IDENTIFIERS or not all(isinstance(i, str) for i in identifiers):
        raise Refusal(422, [{"loc": ["attribute_keys", key], "msg": "at most 100 texts"}])
    wanted = _of_service(body) if "service" in body else _of_attributes(body)
    found: dict[str, list[Any]] = {key: identifiers}
    now = datetime.now(UTC)
    for identifier in identifiers:
        for stored, names in wanted:
            values = _values(stored, identifier, now)
            for name in names:
                found.setdefault(name, []).append(values[name])
    return jsonify(found)


def _of_service(body: Stored) -> list[tuple[Stored, list[str]]]:
    service = _found("services", str(body["service"]))
    links = service.get("attribute_groups") or []
    groups = [_found("attribute_groups", link["name"], link["version"]) for link in links]
    return [(group, _names(group)) for group in groups]


def _names(group: Stored) -> list[str]:
    return [attribute["name"] for attribute in group.get("attributes") or []]


def _of_attributes(body: Stored) -> list[tuple[Stored, list[str]]]:
    wanted: dict[str, list[str]] = defaultdict(list)
    qualifieds = body.get("attributes")
    if not isinstance(qualifieds, list) or not qualifieds:
        raise Refusal(422, [{"loc": ["attributes"], "msg": "a service, or a list of attributes"}])
    for qualified in qualifieds:
        full, _, name = str(qualified).partition(":")
        wanted[full].append(name)
    found = []
    for full, names in wanted.items():
        name, _, version = full.rpartition("_v")
        group = _found("attribute_groups", name, int(version) if version.isdecimal() else -1)
        absent = set(names) - set(_names(group))
        if absent:
            raise Refusal(404, f"{full} has no attribute {', '.join(sorted(absent))}")
        found.append((group, names))
    return found


def _values(stored: Stored, identifier: str, at: datetime) -> dict[str, Any]:
    group = AttributeGroup.model_validate(stored)
    since, until = span(stored, at)
    return current().attributes.values(group, identifier, until, since)


@api.post("/testing/attribute_groups/")
def test() -> Response:
    """A group's values for some visitors over the latest window of events, unpublished or not."""
    wanted = parsed(TestAttributeGroupRequest, json_object())
    group = parsed(AttributeGroup, json_object()["attribute_group"])
    now, window = datetime.now(UTC), _window(wanted)
    apps = {app.root for app in wanted.app_ids or []}
    named = [identifier.root for identifier in wanted.attribute_key_ids or []]
    rows = []
    attributes = current().attributes
    for identifier in named or attributes.busiest(now, window):
        recent = [e for e in attributes.events(identifier) if now - window <= event_time(e) <= now]
        kept = [e for e in recent if not apps or e.get("app_id") in apps]
        values = attribute_values(group, kept, now)
        rows.append({str(group.attribute_key.name): identifier, **values})
    return jsonify(rows)


def _window(wanted: TestAttributeGroupRequest) -> timedelta:
    """The request's window; where it has none, the SDK's model holds its default as text."""
    window = wanted.window if isinstance(wanted.window, timedelta) else timedelta(hours=1)
    if not timedelta() < window <= MAX_WINDOW:
        raise Refusal(422, [{"loc": ["body", "window"], "msg": f"more than 0, up to {MAX_WINDOW}"}])
    return window


# --- interventions -----------------------------------------------------------------------------


@api.post("/interventions")
def push() -> Response:
    """Deliver an intervention to whoever listens for these visitors now."""
    message = parsed(InterventionInstance, json_object()).model_dump_json(exclude_none=True)
    targets = [f"{key}={value}" for key in request.args for value in request.args.getlist(key)]
    reached = sum(current().subscribers.push(target, message) for target in targets)
    return jsonify(status="success" if reached else "undelivered")


@api.get("/interventions")
def pull() -> Response:
    """Interventions for these visitors, as server-sent events."""
    targets = [f"{key}={value}" for key in request.args for value in request.args.getlist(key)]
    if current().subscribers.full:
        raise Refusal(429, "too many listeners; close a page that waits for interventions")
    gone = request.environ.get("waitress.client_disconnected", lambda: False)
    response = Response(current().subscribers.listen(targets, gone), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    return response


@api.route("/datasets/<path:call>", methods=["GET", "POST"])
def datasets(call: str) -> Response:
    """Refuse to build training sets: :mod:`prospect_lib.training_set` does."""
    raise Refusal(
        501,
        f"the local sandbox builds no data sets ({request.method} datasets/{call[:200]}): use "
        "prospect_lib.training_set.extract",
    )


@api.route("/<path:call>", methods=["GET", "POST", "PUT", "DELETE"])
def unknown(call: str) -> Response:
    """Calls that the local sandbox does not have, such as those about event logs."""
    raise Refusal(404, f"the local sandbox has no {request.method} {call[:200]}")
