"""Inspection in Snowplow Micro's manner: counters, good and bad events, filters, reset.

https://docs.snowplow.io/docs/api-reference/snowplow-micro/api/. What a tracker sent is not
kept, so ``rawEvent`` is missing, and ``contexts`` names the columns of the entities.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from prospect_lib.sandbox.answers import Refusal, json_object
from prospect_lib.sandbox.collector.enrichment import KINDS, SCHEMA, column_name
from prospect_lib.sandbox.credentials import authorised, from_this_machine
from prospect_lib.sandbox.events import Row
from prospect_lib.sandbox.state import current

micro = Blueprint("micro", __name__, url_prefix="/micro")
CODES = {event: code for code, (event, _, _) in KINDS.items()}
GOOD = {"event_type", "schema", "contexts", "app_id", "limit"}
BAD = {"reason", "limit"}
BOTH = ["GET", "POST"]
MOST = 10_000  # events in one answer


@micro.errorhandler(Refusal)
def _refused(error: Refusal) -> Response:
    return _detail(error.status, error.detail)


def _detail(status: int, detail: object) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    return response


@micro.before_request
def _private() -> Response | None:
    """Events are nobody else's business: neither the network's nor another website's."""
    if from_this_machine() or authorised():
        return None
    return _detail(401, "Only from this machine, or with the sandbox's bearer token.")


@micro.route("/all", methods=BOTH)
def every() -> Response:
    """How many events came, were good, were bad."""
    counts = current().events.counts
    return jsonify(total=sum(counts.values()), **counts)


@micro.route("/good", methods=BOTH)
def good() -> Response:
    """Accepted events, newest first, that pass the filters of the query or the JSON body."""
    wanted = _filters(GOOD)
    return jsonify(
        [_good_event(row) for row in current().events.latest(_limit(wanted), _keeps(wanted))]
    )


@micro.route("/bad", methods=BOTH)
def bad() -> Response:
    """Rejected payloads, newest first; ``reason`` is a part of what is wrong with them."""
    wanted = _filters(BAD)
    said = _text(wanted, "reason") or ""
    kept = [record for record in current().events.latest_rejected(MOST) if said in record["reason"]]
    return jsonify([{**one, "errors": [one["reason"]]} for one in kept[: _limit(wanted)]])


@micro.route("/reset", methods=BOTH)
def reset() -> Response:
    """Forget the live events; the counters then are zero."""
    current().events.reset()
    current().board.clear()
    return every()


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
    found = {**query, **body}
    if unknown := set(found) - known:
        expected = ", ".join(sorted(known))
        raise Refusal(422, f"no such filter: {min(unknown)[:80]!r}; expected some of {expected}")
    return {name: value for name, value in found.items() if value is not None}


def _limit(wanted: dict[str, Any]) -> int:
    text = str(wanted.get("limit", MOST))
    if not text.isdecimal() or len(text) > 9:
        raise Refusal(422, f"limit is {text[:80]!r}, expected a whole number of events")
    return min(int(text), MOST)


def _text(wanted: dict[str, Any], name: str) -> str | None:
    value = wanted.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(422, f"{name} is {str(value)[:80]}, expected text")
    return value


def _keeps(wanted: dict[str, Any]) -> Callable[[Row], bool]:
    kind, schema, app = (_text(wanted, name) for name in ("event_type", "schema", "app_id"))
    contexts = wanted.get("contexts", [])
    if not isinstance(contexts, list) or not all(isinstance(one, str) for one in contexts):
        raise Refusal(422, "contexts: expected a list of schemas, such as iglu:com.acme/user/…")
    columns = {_column(one) for one in contexts}

    def keeps(row: Row) -> bool:
        return (
            kind in (None, row["event"], row["event_name"], CODES[row["event"]])
            and schema in (None, _schema(row))
            and app in (None, row.get("app_id"))
            and columns <= row.keys()
        )

    return keeps


def _column(context: str) -> str:
    """The column of an entity's schema; a column's name stays as it is."""
    parts = SCHEMA.fullmatch(context)
    if parts is None:
        return context
    return column_name("contexts", parts[1], parts[2], parts[3])
