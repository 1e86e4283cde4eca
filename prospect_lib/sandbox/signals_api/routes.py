"""The part of the Signals API that the SDK 0.4.10 calls, answered locally."""

from collections import defaultdict
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from pydantic import BaseModel
from snowplow_signals import AttributeGroup, AttributeKey, RuleIntervention, Service
from snowplow_signals.models import InterventionInstance, TestAttributeGroupRequest

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import event_time
from prospect_lib.errors import DefinitionError
from prospect_lib.sandbox.answers import Refusal, json_object, parsed, refused
from prospect_lib.sandbox.credentials import authorised
from prospect_lib.sandbox.signals_api.online_attributes import span
from prospect_lib.sandbox.signals_api.registry import (
    OBJECT_KINDS,
    ConflictError,
    Stored,
    group_of,
    name_and_version,
    with_key,
)
from prospect_lib.sandbox.state import current

api = Blueprint("signals_api", __name__)
MODELS: dict[str, type[BaseModel]] = {
    "attribute_keys": AttributeKey,
    "attribute_groups": AttributeGroup,
    "services": Service,
    "interventions": RuleIntervention,
}
INTERNAL_FIELDS = ("published_at", "frozen_at")  # of stored objects, not part of the API
MAX_IDENTIFIERS = 100
MAX_WINDOW = timedelta(days=3660)


@api.before_request
def _authorise() -> None:
    listens = request.method == "GET" and request.path.endswith("/interventions")
    if not listens and not authorised():
        raise Refusal(401, "The bearer token is missing or wrong: it is in PROSPECT_HOME/token.")


@api.errorhandler(DefinitionError)
def _not_computable(error: DefinitionError) -> Response:
    return refused(Refusal(422, [{"loc": ["attribute_group"], "msg": str(error)}]))


@api.errorhandler(ConflictError)
def _conflict(error: ConflictError) -> Response:
    return refused(Refusal(409, str(error)))


@api.errorhandler(OverflowError)
def _overflow(error: OverflowError) -> Response:
    message = f"a number or a period is too large: {error}"
    return refused(Refusal(422, [{"loc": ["body"], "msg": message}]))


# --- registry ----------------------------------------------------------------------------------


@api.get("/registry/<kind>/")
def list_objects(kind: str) -> Response:
    """Return all objects of a kind."""
    return jsonify([_shown(kind, stored) for stored in current().registry.every(_kind(kind))])


@api.post("/registry/<kind>/")
def create(kind: str) -> Response:
    """Store a new object; 400 if it exists; the SDK then sends PUT."""
    new = _valid(_kind(kind))
    if current().registry.get(kind, new["name"], new.get("version")):
        raise Refusal(400, f"{kind}: {new['name']} exists already")
    return _put(kind, new)


@api.put("/registry/<kind>/<name>")
@api.put("/registry/<kind>/<name>/versions/<version>")
def update(kind: str, name: str, version: str | None = None) -> Response:
    """Replace an object; 409 if it is another definition of a published version."""
    old, new = _stored(kind, name, _number(version)), _valid(kind)
    if any(new.get(part) != old.get(part) for part in ("name", "version")):
        raise Refusal(422, [{"loc": ["body", "name"], "msg": "not the object of the address"}])
    return _put(kind, new)


@api.get("/registry/<kind>/<name>")
@api.get("/registry/<kind>/<name>/versions/<version>")
def get(kind: str, name: str, version: str | None = None) -> Response:
    """Return one object, the latest version if none is named."""
    return jsonify(_shown(kind, _stored(kind, name, _number(version))))


@api.delete("/registry/<kind>/<name>")
@api.delete("/registry/<kind>/<name>/versions/<version>")
def delete(kind: str, name: str, version: str | None = None) -> Response:
    """Remove an object that no other object needs."""
    current().registry.delete(kind, _stored(kind, name, _number(version)))
    return jsonify(status="success")


def _number(version: str | None) -> int | None:
    return None if version is None else name_and_version(f"_v{version}")[1]


def _kind(kind: str) -> str:
    if kind not in OBJECT_KINDS:
        raise Refusal(404, f"the local sandbox does not store {kind}")
    return kind


def _valid(kind: str) -> Stored:
    """Return the object in the body, checked by the SDK's model."""
    model = parsed(MODELS[kind], json_object())
    checked: Stored = model.model_dump(mode="json", exclude_none=True, by_alias=True)
    if not checked.get("name"):
        raise Refusal(422, [{"loc": ["body", "name"], "msg": "a name is required"}])
    if checked.get("version", 1) < 1:
        raise Refusal(422, [{"loc": ["body", "version"], "msg": "versions count from 1"}])
    return checked


def _stored(kind: str, name: str, version: int | None = None) -> Stored:
    stored = current().registry.get(_kind(kind), name, version)
    if stored is None:
        suffix = f" in version {version}" if version else ""
        raise Refusal(404, f"{kind}: {name!r} is not known{suffix}")
    return stored


def _put(kind: str, new: Stored) -> Response:
    if new.get("backfill_since_tstamp"):
        _need_warehouse("to backfill attributes")
    for link in new.get("attribute_groups") or []:
        _stored("attribute_groups", link["name"], link["version"])  # 404 if there is none
    return jsonify(_shown(kind, current().registry.put(kind, new)))


def _shown(kind: str, stored: Stored) -> Stored:
    """Return an object as the API returns it, with the names that Signals derives."""
    shown = {name: value for name, value in stored.items() if name not in INTERNAL_FIELDS}
    if kind != "attribute_groups":
        return shown
    full_name = f"{stored['name']}_v{stored['version']}"
    key = stored["attribute_key"]
    return {
        **shown,
        "attribute_key": {**key, "blobl_path": f"this.{key['name']}"},
        "attribute_key_or_name": key["name"],
        "full_name": full_name,
        "feast_name": full_name,
        "stream_source_name": f"{full_name}_stream",
    }


# --- values ------------------------------------------------------------------------------------


@api.post("/get-online-attributes")
def online_attributes() -> Response:
    """Return values of a service or of named attributes: lists with one entry per identifier."""
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
    requested = _of_service(body) if "service" in body else _of_attributes(body)
    groups = [(stored, group_of(stored, current().registry), names) for stored, names in requested]
    if other := [group.name for _, group, _ in groups if group.attribute_key.name != key]:
        msg = f"{', '.join(other)}: the attributes are by another key than this one"
        raise Refusal(422, [{"loc": ["attribute_keys", key], "msg": msg}])
    columns: dict[str, list[Any]] = {key: identifiers}
    now = current().clock()
    for identifier in identifiers:
        for stored, group, names in groups:
            since, until = span(stored, now)
            values = current().attributes.values(group, identifier, until, since)
            for name in names:
                columns.setdefault(name, []).append(values[name])
    return jsonify(columns)


def _of_service(body: Stored) -> list[tuple[Stored, list[str]]]:
    """Return the groups of a service, each with the names of its attributes."""
    service = _stored("services", str(body["service"]))
    links = service.get("attribute_groups") or []
    groups = [_stored("attribute_groups", link["name"], link["version"]) for link in links]
    return [(group, _names(group)) for group in groups]


def _of_attributes(body: Stored) -> list[tuple[Stored, list[str]]]:
    """Return the groups of ``group_v1:attribute`` names, each with its names in the list."""
    qualified_names = body.get("attributes")
    if not isinstance(qualified_names, list) or not qualified_names:
        raise Refusal(422, [{"loc": ["attributes"], "msg": "a service, or a list of attributes"}])
    by_group: dict[str, list[str]] = defaultdict(list)
    for qualified_name in qualified_names:
        full_name, _, name = str(qualified_name).partition(":")
        by_group[full_name].append(name)
    requested = []
    for full_name, names in by_group.items():
        group = _stored("attribute_groups", *name_and_version(full_name))
        if unknown := set(names) - set(_names(group)):
            raise Refusal(404, f"{full_name} has no attribute {', '.join(sorted(unknown))}")
        requested.append((group, names))
    return requested


def _need_warehouse(purpose: str) -> None:
    if not current_app.config["WAREHOUSE"]:
        raise Refusal(400, f"A warehouse connection is required {purpose}.")


def _names(group: Stored) -> list[str]:
    return [attribute["name"] for attribute in group.get("attributes") or []]


@api.post("/testing/attribute_groups/")
def test() -> Response:
    """Return values of a group, published or not, for some visitors over the latest window."""
    _need_warehouse("to test attributes")
    test_request = parsed(TestAttributeGroupRequest, json_object())
    group = with_key(parsed(AttributeGroup, json_object()["attribute_group"]), current().registry)
    now, window = current().clock(), _window(test_request)
    app_ids = {app_id.root for app_id in test_request.app_ids or []}
    identifiers = [identifier.root for identifier in test_request.attribute_key_ids or []]
    attributes, rows = current().attributes, []
    for identifier in identifiers or attributes.busiest(group, now, window):
        events = [
            event
            for event in attributes.events(group, identifier)
            if now - window <= event_time(event) <= now
            and (not app_ids or event.get("app_id") in app_ids)
        ]
        values = attribute_values(group, events, now)
        rows.append({str(group.attribute_key.name): identifier, **values})
    return jsonify(rows)


def _window(test_request: TestAttributeGroupRequest) -> timedelta:
    """Return the window of the request; the SDK's model has its default as text: one hour."""
    window = test_request.window
    window = window if isinstance(window, timedelta) else timedelta(hours=1)
    if not timedelta() < window <= MAX_WINDOW:
        raise Refusal(422, [{"loc": ["body", "window"], "msg": f"more than 0, up to {MAX_WINDOW}"}])
    return window


# --- interventions -----------------------------------------------------------------------------


@api.post("/interventions")
def push() -> Response:
    """Deliver an intervention to those who listen for these visitors now."""
    message = parsed(InterventionInstance, json_object()).model_dump_json(exclude_none=True)
    reached = sum(current().subscribers.push(target, message) for target in _targets())
    return jsonify(status="success" if reached else "undelivered")


@api.get("/interventions")
def pull() -> Response:
    """Stream interventions for these visitors as server-sent events."""
    targets, subscribers = _targets(), current().subscribers
    if not targets:
        raise Refusal(422, "nobody is named: expected an attribute key, as in ?domain_userid=…")
    has_left = request.environ.get("waitress.client_disconnected", lambda: False)
    listener = subscribers.enter(targets, has_left)
    if listener is None:
        raise Refusal(429, "too many listeners; close a page that waits for interventions")
    response = Response(subscribers.messages(listener), mimetype="text/event-stream")
    response.call_on_close(lambda: subscribers.leave(listener))
    response.headers["Cache-Control"] = "no-store"
    response.headers["Access-Control-Allow-Origin"] = "*"  # public, as the real one
    return response


def _targets() -> list[str]:
    return [f"{key}={value}" for key in request.args for value in request.args.getlist(key)]


# --- calls that the sandbox does not answer ----------------------------------------------------


@api.route("/datasets/<path:call>", methods=["GET", "POST"])
def datasets(call: str) -> Response:
    """Refuse to build training sets, and name the function that builds them."""
    raise Refusal(
        501,
        f"the local sandbox builds no data sets ({request.method} datasets/{call[:200]}): use "
        "prospect_lib.training_set.extract",
    )


@api.route("/<path:call>", methods=["GET", "POST", "PUT", "DELETE"])
def unknown(call: str) -> Response:
    """Refuse all other calls, such as those about event logs."""
    raise Refusal(404, f"the local sandbox has no {request.method} {call[:200]}")
