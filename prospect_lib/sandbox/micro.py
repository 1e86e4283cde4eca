"""Inspect events as with Snowplow Micro: counters, good and bad events, filters, reset.

https://docs.snowplow.io/docs/api-reference/snowplow-micro/api/. The tracker's own payload is not
stored, so ``rawEvent`` is missing, and ``contexts`` lists the columns of the entities.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from prospect_lib.aggregation.properties import schema_column
from prospect_lib.sandbox.answers import Refusal, json_object
from prospect_lib.sandbox.collector.enrichment import EVENT_TYPES, SCHEMA
from prospect_lib.sandbox.credentials import authorised, from_this_machine
from prospect_lib.sandbox.events import Row
from prospect_lib.sandbox.state import current

micro = Blueprint("micro", __name__, url_prefix="/micro")
CODES = {event: code for code, (event, _, _) in EVENT_TYPES.items()}
GOOD_FILTERS = {"event_type", "schema", "contexts", "app_id", "limit"}
BAD_FILTERS = {"reason", "limit"}
METHODS = ["GET", "POST"]
MAX_LISTED = 10_000  # in one answer


@micro.before_request
def _private() -> None:
    """Refuse other machines and pages of other websites: events are personal data."""
    if not from_this_machine() and not authorised():
        raise Refusal(401, "Only from this machine, or with the sandbox's bearer token.")


@micro.route("/all", methods=METHODS)
def counters() -> Response:
    """Return how many events were received, accepted and rejected."""
    counts = current().events.counts
    return jsonify(total=sum(counts.values()), **counts)


@micro.route("/good", methods=METHODS)
def good() -> Response:
    """Return accepted events, newest first, that pass the filters of the query or JSON body."""
    filters = _filters(GOOD_FILTERS)
    rows = current().events.latest(_limit(filters), _predicate(filters))
    return jsonify([_good_event(row) for row in rows])


@micro.route("/bad", methods=METHODS)
def bad() -> Response:
    """Return rejected payloads, newest first; the filter ``reason`` is a part of the reason."""
    filters = _filters(BAD_FILTERS)
    part, limit = _text(filters, "reason") or "", _limit(filters)
    records = [
        {**record, "errors": [record["reason"]]}
        for record in current().events.latest_rejected(MAX_LISTED)
        if part in record["reason"]
    ]
    return jsonify(records[:limit])


@micro.route("/reset", methods=METHODS)
def delete_events() -> Response:
    """Delete the live events, and return the counters, which are zero then."""
    current().events.reset()
    current().board.clear()
    return counters()


def _good_event(row: Row) -> dict[str, Any]:
    contexts = [name for name in row if name.startswith("contexts_")]
    return {"eventType": row["event"], "schema": _schema(row), "contexts": contexts, "event": row}


def _schema(row: Row) -> str:
    vendor, name, version = (row[f"event_{part}"] for part in ("vendor", "name", "version"))
    return f"iglu:{vendor}/{name}/{row['event_format']}/{version}"


def _filters(known: set[str]) -> dict[str, Any]:
    body = json_object() if request.method == "POST" and request.get_data() else {}
    query: dict[str, Any] = request.args.to_dict()
    if "contexts" in query:
        query["contexts"] = request.args.getlist("contexts")
    filters = {**query, **body}
    if unknown := set(filters) - known:
        expected = ", ".join(sorted(known))
        raise Refusal(422, f"unknown filter {min(unknown)[:80]!r}; expected some of {expected}")
    return {name: value for name, value in filters.items() if value is not None}


def _limit(filters: dict[str, Any]) -> int:
    text = str(filters.get("limit", MAX_LISTED))
    if not text.isdecimal() or len(text) > 9:
        raise Refusal(422, f"limit is {text[:80]!r}, expected a whole number of events")
    return min(int(text), MAX_LISTED)


def _text(filters: dict[str, Any], name: str) -> str | None:
    value = filters.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(422, f"{name} is {str(value)[:80]}, expected text")
    return value


def _predicate(filters: dict[str, Any]) -> Callable[[Row], bool]:
    event_type, schema, app_id = (
        _text(filters, name) for name in ("event_type", "schema", "app_id")
    )
    contexts = filters.get("contexts", [])
    if not isinstance(contexts, list) or not all(isinstance(one, str) for one in contexts):
        raise Refusal(422, "contexts: expected a list of schemas, such as iglu:com.acme/user/…")
    columns = {_column(context) for context in contexts}

    def passes(row: Row) -> bool:
        return (
            event_type in (None, row["event"], row["event_name"], CODES[row["event"]])
            and schema in (None, _schema(row))
            and app_id in (None, row.get("app_id"))
            and columns <= row.keys()
        )

    return passes


def _column(context: str) -> str:
    """Return the column of an entity's schema; the name of a column stays as it is."""
    parts = SCHEMA.fullmatch(context)
    if parts is None:
        return context
    return schema_column("contexts", parts[1], parts[2], parts[3])
