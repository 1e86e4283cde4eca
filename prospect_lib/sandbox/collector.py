"""The collector: trackers' POST and GET, and inspection in Snowplow Micro's manner."""

import gzip
import json
import zlib
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from prospect_lib.sandbox.enrichment import BadPayloadError, enrich
from prospect_lib.sandbox.storage import Storage

collector = Blueprint("collector", __name__)
MARKER = "prospect-sandbox"
MAX_BODY = 10 << 20
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


def storage() -> Storage:
    """The storage of the running application."""
    found: Storage = current_app.extensions["storage"]
    return found


@collector.get("/health")
def health() -> Response:
    """Says that this is a sandbox, and how many events it has."""
    return jsonify(service=MARKER, status="ok", events=storage().counts)


@collector.route("/<path:vendor>/tp2", methods=["POST", "OPTIONS"])
def post(vendor: str) -> Response:
    """A tracker's batch; answered when every good event of it is on disk."""
    del vendor  # any path of the form vendor/version is a collector's
    if request.method == "OPTIONS":
        return _cors(Response(status=200))
    for payload in _payloads():
        _receive(payload)
    storage().accept(_accepted())
    return _cors(Response("ok", mimetype="text/plain"))


@collector.get("/i")
def pixel() -> Response:
    """A tracker's single event in the query."""
    _receive(request.args.to_dict())
    storage().accept(_accepted())
    return _cors(Response(PIXEL, mimetype="image/gif"))


def _accepted() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = getattr(request, "accepted_rows", [])
    return rows


def _receive(payload: Any) -> None:
    """A good event joins the batch; a bad one goes to the bad log and harms no neighbour."""
    now = datetime.now(UTC)
    try:
        if not isinstance(payload, dict):
            raise BadPayloadError(
                f"expected an object of tracker fields, got {type(payload).__name__}"
            )
        row = enrich(payload, at=now, user_agent=request.headers.get("User-Agent", ""))
    except BadPayloadError as error:
        storage().reject(str(error), payload, now)
        return
    rows = _accepted()
    rows.append(row)
    request.accepted_rows = rows  # type: ignore[attr-defined]


def _payloads() -> list[Any]:
    body = request.get_data()
    try:
        if request.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompressobj(31).decompress(body, MAX_BODY)
        found = json.loads(body)
        data = found["data"]
        if not isinstance(data, list):
            raise TypeError("'data' is not a list")
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"body is not a payload_data object: {type(error).__name__}: {error}"[:300]
        storage().reject(reason, body[:2000].decode("utf-8", "replace"), datetime.now(UTC))
        return []
    return data


def _cors(response: Response) -> Response:
    """Browsers of any site may send events, as to a real collector."""
    response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type, SP-Anonymous"
    response.headers["Access-Control-Max-Age"] = "5"
    response.headers["Vary"] = "Origin"
    return response


@collector.get("/micro/all")
def micro_all() -> Response:
    """Counters, as Snowplow Micro gives them."""
    counts = storage().counts
    return jsonify(total=sum(counts.values()), **counts)


@collector.get("/micro/good")
def micro_good() -> Response:
    """Accepted events, newest first."""
    return jsonify(storage().good()[::-1])


@collector.get("/micro/bad")
def micro_bad() -> Response:
    """Rejected payloads with their reasons, newest first."""
    return jsonify(storage().bad()[::-1])


@collector.route("/micro/reset", methods=["GET", "POST"])
def micro_reset() -> Response:
    """Forget the live events."""
    storage().reset()
    return micro_all()
