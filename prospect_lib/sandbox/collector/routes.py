"""The collector: trackers' POST and GET, in both encodings, one event or many."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from prospect_lib import __version__
from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.collector.payloads import MAX_BODY, BadPayloadError, excerpt, payloads_of
from prospect_lib.sandbox.home import MARKER
from prospect_lib.sandbox.signals_api.rules import Rules
from prospect_lib.sandbox.storage import Storage
from prospect_lib.sandbox.website.board import Board

collector = Blueprint("collector", __name__)
COOKIE, LASTING = "sp", "Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax"
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


def storage() -> Storage:
    """The storage of the running application."""
    found: Storage = current_app.extensions["storage"]
    return found


@collector.get("/health")
def health() -> Response:
    """Says that this is a sandbox, of which home, and how many events it has."""
    home = current_app.config["PROSPECT_HOME"]
    return jsonify(
        service=MARKER, version=__version__, home=home, status="ok", events=storage().counts
    )


@collector.route("/<path:vendor>/tp2", methods=["POST", "OPTIONS"])
def post(vendor: str) -> Response:
    """A tracker's batch; answered when every good event of it is on disk."""
    del vendor  # any path of the form vendor/version is a collector's
    if request.method == "OPTIONS":
        return _cors(Response(status=200))
    who = _network_userid()
    _receive(_payloads(), who)
    return _cors(_known(Response("ok", mimetype="text/plain"), who))


@collector.get("/i")
def pixel() -> Response:
    """A tracker's single event in the query."""
    who = _network_userid()
    _receive([request.args.to_dict()], who)
    return _cors(_known(Response(PIXEL, mimetype="image/gif"), who))


@collector.errorhandler(ServiceError)
def _not_kept(error: ServiceError) -> Response:
    """The disk failed, not the payload: trackers keep the events and send them again."""
    return _cors(Response(str(error), status=503, mimetype="text/plain"))


def _network_userid() -> str | None:
    """The browser as the collector's own cookie knows it; none where it wants to be nobody."""
    if "HTTP_SP_ANONYMOUS" in request.environ:
        return None
    try:
        return str(UUID(request.cookies[COOKIE])) if "HTTP_COOKIE" in request.environ else _new()
    except (KeyError, ValueError):
        return _new()


def _new() -> str:
    return str(uuid4())


def _known(response: Response, network_userid: str | None) -> Response:
    if network_userid:  # SameSite=None would have to be Secure, and this is http
        response.headers["Set-Cookie"] = f"{COOKIE}={network_userid}; {LASTING}"
    return response


def _receive(payloads: list[Any], network_userid: str | None) -> None:
    """Good events are kept; bad ones go to the bad log and harm no neighbour."""
    now, agent = datetime.now(UTC), request.headers.get("User-Agent", "")
    rows, bad = [], []
    for payload in payloads:
        try:
            rows.append(enrich(payload, at=now, user_agent=agent, network_userid=network_userid))
        except BadPayloadError as error:
            bad.append((str(error), excerpt(payload)))
    storage().reject(bad, now)
    rules: Rules = current_app.extensions["rules"]
    with rules.watching({row["domain_userid"] for row in rows if "domain_userid" in row}):
        storage().accept(rows)
    board: Board = current_app.extensions["board"]
    board.saw(rows, now)


def _payloads() -> list[Any]:
    body = request.get_data()
    try:
        return payloads_of(body, request.headers.get("Content-Encoding", ""))
    except BadPayloadError as error:
        payload = body[:2000].decode("utf-8", "replace")
        storage().reject([(str(error), payload)], datetime.now(UTC))
        return []


@collector.errorhandler(RequestEntityTooLarge)
def _too_large(_error: RequestEntityTooLarge) -> Response:
    """Not read, so not kept; the bad log says that it came."""
    reason = f"body is larger than {MAX_BODY} bytes"
    storage().reject([(reason, None)], datetime.now(UTC))
    return _cors(Response(reason, status=413, mimetype="text/plain"))


def _cors(response: Response) -> Response:
    """Browsers of any site may send events, as to a real collector."""
    response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type, SP-Anonymous"
    response.headers["Access-Control-Max-Age"] = "5"
    response.headers["Vary"] = "Origin"
    return response
