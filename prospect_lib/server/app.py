"""The prediction server: ``POST /predict`` and what a website needs around it.

Example::

    app = create_app(ProspectModel.load(path), signals.reader(settings), settings)
    with Server(app, port=9091) as server:
        requests.post(f"{server.url}/predict", json={"domain_userid": visitor}).json()["score"]
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from snowplow_signals import AttributeGroup
from werkzeug.exceptions import UnsupportedMediaType

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.server.access import Guard, with_headers
from prospect_lib.server.attribute_cache import LiveProfiles, Profiles
from prospect_lib.server.errors import answer_errors
from prospect_lib.server.interventions import Background, Board, Inviter, Push, pusher
from prospect_lib.server.invitations import Invitations
from prospect_lib.server.lane import Answer, Lane
from prospect_lib.server.metrics import Monitor
from prospect_lib.server.model_watcher import Promoted
from prospect_lib.server.predictor import Loaded, Predictor, Readiness, Scorer, check_fits
from prospect_lib.server.runner import Server
from prospect_lib.server.schemas import MAX_BODY, PredictResponse, openapi, parse_request
from prospect_lib.server.served_log import ServedLog
from prospect_lib.settings import SANDBOX_PORT, Settings

__all__ = ["Options", "Server", "create_app"]

_SCRIPT = Path(__file__).parent / "prospect.js"
_FOR_THE_PUBLIC = {"signals": None, "scoring_attributes": None, "explanations": None}
#: Told the visitor, the answer, and both as one JSON object.
Follower = Callable[[str, PredictResponse, bytes], None]


@dataclass(frozen=True)
class Options:
    """What the owner of a server chooses.

    Attributes:
        origins: web origins whose pages may call; the demo website always may.
        threshold: score from which to act; by default the model's own.
        decision: name of what is decided, and of the intervention that is pushed.
        public_scores: callers without the token may see score and decision.
        fresh_seconds: attributes this young are used again; 0 asks Signals every time.
        stale_seconds: last known attributes this young serve while Signals fails.
        caller_limit, visitor_limit: for callers from outside this machine.
        explain: give reasons with each score; without them a model takes half the time.
        interventions: push one through Signals when the decision is to act.
        shared_invitations: sessions that were invited are noted in PROSPECT_HOME, for other
            processes that serve the same visitors; otherwise in memory.
        served_days: served scores are logged and kept this long; 0 logs none.
    """

    origins: tuple[str, ...] = ()
    threshold: float | None = None
    decision: str = "invite"
    public_scores: bool = False
    fresh_seconds: float = 0.0
    stale_seconds: float = 60.0
    caller_limit: str = "120 per minute"
    visitor_limit: str = "30 per minute"
    explain: bool = True
    interventions: bool = True
    shared_invitations: bool = False
    served_days: int = 30


def create_app(
    model: Scorer | Path,
    profiles: Profiles,
    settings: Settings | None = None,
    *,
    options: Options | None = None,
    group: AttributeGroup = prospect_group,
    push: Push | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """The prediction server as a Flask application.

    Args:
        model: any object with ``score(attributes, at)``; or the folder of models, whose
            promoted one is served and followed while it changes.
        profiles: any object with ``read(identifier) -> dict``.
        settings: where the demo website is, and where served scores are kept. Without
            them nothing is written to disk and nothing is pushed.
        group: the attributes that ``profiles`` reads, to check the model against.
        push: delivers interventions; by default through the Signals in ``settings``.
        clock: gives the scoring moment, an aware datetime.
    Raises:
        ModelError: the model needs attributes that the service does not serve.
        SettingsError: served scores cannot be kept.
    """
    options = options or Options()
    monitor = Monitor()
    current = _current(model, options.threshold, group)
    live = LiveProfiles(
        profiles,
        fresh_seconds=options.fresh_seconds,
        stale_seconds=options.stale_seconds,
        observe=monitor.called,
    )
    predictor = Predictor(current, live, decision=options.decision, explain=options.explain)
    guard = Guard((*_site(settings), *options.origins), public_scores=options.public_scores)
    app = Flask(__name__, static_folder=None)
    closers = app.extensions["prospect_closers"] = list[Callable[[], None]]()
    followers = [monitor.scored, *_followers(settings, options, group, push, closers)]
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions["prospect_guard"] = guard
    monitor.watch(app)
    guard.protect(app, options.caller_limit, options.visitor_limit)
    answer_errors(app)
    answer = _answer(predictor, followers, clock, group)
    _add_predict(app, guard, answer)
    _add_pages(app, guard, monitor, Readiness(predictor, current, clock))
    app.wsgi_app = with_headers(  # type: ignore[method-assign, assignment]
        Lane(app.wsgi_app, guard, monitor, answer)
    )
    return app


def _answer(
    predictor: Predictor,
    followers: list[Follower],
    clock: Callable[[], datetime],
    group: AttributeGroup,
) -> Answer:
    """What scores a visitor and does what follows from it."""
    head = b'"group_hash":"%s",' % group_hash(group).encode()

    def answer(visitor: str) -> tuple[PredictResponse, bytes]:
        found = predictor.predict(visitor, clock())
        body = found.model_dump_json().encode()
        record = b'{"domain_userid":"%s",%s%s' % (visitor.encode(), head, body[1:])
        for follow in followers:
            follow(visitor, found, record)
        return found, body

    return answer


def _add_predict(app: Flask, guard: Guard, answer: Answer) -> None:
    @app.post("/predict")
    def predict() -> Response:
        guard.admit(request, score_only=True)
        if not request.is_json:
            raise UnsupportedMediaType("Send JSON as 'Content-Type: application/json'.")
        visitor = parse_request(request.get_data(cache=False)).domain_userid
        guard.admit_visitor(visitor)
        g.answer, body = answer(visitor)
        return _json(body if g.caller.trusted else g.answer.model_copy(update=_FOR_THE_PUBLIC))


def _add_pages(app: Flask, guard: Guard, monitor: Monitor, readiness: Readiness) -> None:
    document, script = json.dumps(openapi()), _SCRIPT.read_bytes()

    @app.get("/health")
    def health() -> Response:
        found = readiness.check()
        if not g.caller.trusted:
            found = found.for_the_public()
        return _json(found, 200 if found.ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        guard.admit(request)
        return Response(monitor.exposition(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return Response(document, mimetype="application/json")

    @app.get("/prospect.js")
    def prospect_js() -> Response:
        return Response(
            script, mimetype="text/javascript", headers={"Cache-Control": "max-age=300"}
        )


def _json(body: bytes | BaseModel, status: int = 200) -> Response:
    text = body if isinstance(body, bytes) else body.model_dump_json()
    return Response(text, status, mimetype="application/json")


def _current(
    model: Scorer | Path, threshold: float | None, group: AttributeGroup
) -> Callable[[], Loaded]:
    """What gives the scorer in use: always the same one, or the promoted one."""

    def accept(scorer: Scorer) -> Loaded:
        loaded = Loaded.of(scorer, threshold)
        check_fits(loaded, group)
        return loaded

    if isinstance(model, Path):
        return Promoted(model, accept)
    loaded = accept(model)
    return lambda: loaded


def _followers(
    settings: Settings | None,
    options: Options,
    group: AttributeGroup,
    push: Push | None,
    closers: list[Callable[[], None]],
) -> list[Follower]:
    """What is done with each answer, beside sending it; ``closers`` gets what ends it."""
    background, found = Background(), list[Follower]()
    closers.append(background.close)
    if settings is not None and options.served_days:
        served = ServedLog(settings.home / "served", keep_days=options.served_days)
        found.append(lambda _visitor, answer, record: served.append(record, answer.scored_at))
        closers.append(served.close)
    if push is None and settings is not None:
        push = pusher(settings, options.decision)
    if push is not None and options.interventions:
        inviter = Inviter(push, background, group, shared=_shared(settings, options))
        found.append(lambda visitor, answer, _record: inviter.consider(visitor, answer))
    if settings is not None and settings.signals_backend == "local":
        board = Board(settings, background)
        found.append(lambda _visitor, _answer, record: board.report(record))
    return found


def _shared(settings: Settings | None, options: Options) -> Invitations | None:
    """Where processes note who was invited, if they shall."""
    if settings is None or not options.shared_invitations:
        return None
    return Invitations(settings.home / "invited.sqlite")


def _site(settings: Settings | None) -> tuple[str, str]:
    """Origins of the demo website: the same pages under both names of this machine."""
    port = settings.sandbox_port if settings else SANDBOX_PORT
    return f"http://127.0.0.1:{port}", f"http://localhost:{port}"
