"""The collector: trackers' POST and GET, in both encodings, one event or many."""

from typing import Any
from uuid import UUID, uuid4

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.answers import Refusal, refused
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.collector.fields import MAX_BATCH
from prospect_lib.sandbox.collector.masking import excerpt, masked_body
from prospect_lib.sandbox.collector.payloads import MAX_PAYLOAD, BadPayloadError, payloads_of
from prospect_lib.sandbox.events import MAX_NESTED_COLUMNS
from prospect_lib.sandbox.home import MARKER
from prospect_lib.sandbox.state import current
from prospect_lib.version import __version__

collector = Blueprint("collector", __name__)
COOKIE, COOKIE_OPTIONS = "sp", "Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax"
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


@collector.get("/health")
def health() -> Response:
    """Return that this is a sandbox, of which home, and how many events it holds."""
    return jsonify(
        service=MARKER,
        version=__version__,
        home=current_app.config["PROSPECT_HOME"],
        status="ok",
        events=current().events.counts,
    )


@collector.route("/<vendor>/<version>", methods=["OPTIONS"])
@collector.route("/i", methods=["OPTIONS"])
def preflight(**_path: str) -> Response:
    """Let a browser send what it asks for first: JSON, or the header ``SP-Anonymous``."""
    return _cors(Response(status=200))


@collector.post("/<vendor>/<version>")
def post(vendor: str, version: str) -> Response:
    """Take a tracker's batch; the answer comes when every good event of it is on disk."""
    del vendor, version  # a tracker's postPath may be any of this form
    browser, body = _network_userid(), request.get_data()
    try:
        payloads = payloads_of(body, request.headers.get("Content-Encoding", ""))
    except BadPayloadError as error:
        _reject(str(error), masked_body(body[:2000].decode("utf-8", "replace")))
    else:
        _receive(payloads, browser)
    return _cors(_remember(browser, Response("ok", mimetype="text/plain")))


@collector.get("/i")
def pixel() -> Response:
    """Take a tracker's single event from the query."""
    browser = _network_userid()
    _receive([request.args.to_dict()], browser)
    return _cors(_remember(browser, Response(PIXEL, mimetype="image/gif")))


@collector.errorhandler(ServiceError)
def _unavailable(error: ServiceError) -> Response:
    """The disk failed, not the payload: trackers keep the events and send them again."""
    return _cors(refused(Refusal(503, str(error))))


@collector.errorhandler(RequestEntityTooLarge)
def _too_large(_error: RequestEntityTooLarge) -> Response:
    """Record the body as a rejected event; it was not read."""
    reason = f"body is larger than {MAX_PAYLOAD} bytes"
    _reject(reason, None)
    return _cors(refused(Refusal(413, reason)))


def _network_userid() -> str | None:
    """Return the browser's id in the collector's cookie, or a new one; none if it opts out."""
    if "HTTP_SP_ANONYMOUS" in request.environ:
        return None
    try:
        return str(UUID(request.cookies[COOKIE]))
    except (KeyError, ValueError):
        return str(uuid4())


def _remember(network_userid: str | None, response: Response) -> Response:
    if network_userid:  # SameSite=None would have to be Secure, and this is http
        response.headers["Set-Cookie"] = f"{COOKIE}={network_userid}; {COOKIE_OPTIONS}"
    return response


def _receive(payloads: list[Any], network_userid: str | None) -> None:
    """Store the good events, and the bad ones with their reasons."""
    sandbox = current()
    now, agent = sandbox.clock(), request.headers.get("User-Agent", "")
    rows, rejected = [], list[tuple[str, Any]]()
    for payload in payloads[:MAX_BATCH]:
        try:
            row = enrich(payload, at=now, user_agent=agent, network_userid=network_userid)
            if not sandbox.events.admits(row):
                raise BadPayloadError(
                    f"a schema of this event is new, and {MAX_NESTED_COLUMNS} others are stored "
                    "already: python -m prospect_lib sandbox reset"
                )
            rows.append(row)
        except BadPayloadError as error:
            rejected.append((str(error), excerpt(payload)))
    if len(payloads) > MAX_BATCH:
        reason = f"{len(payloads):,} events in one request, expected at most {MAX_BATCH:,}"
        rejected.append((f"{reason}; the later ones are lost", None))
    with sandbox.rules.watching(rows):
        sandbox.events.add(rows, rejected, now)
    sandbox.board.add_events(rows, now)


def _reject(reason: str, payload: Any) -> None:
    current().events.add([], [(reason, payload)], current().clock())


def _cors(response: Response) -> Response:
    """Let browsers of any site send events, as a real collector does."""
    response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type, SP-Anonymous"
    response.headers["Access-Control-Max-Age"] = "5"
    response.headers["Vary"] = "Origin"
    return response
