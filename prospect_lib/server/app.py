"""The prediction server as a Flask application: ``POST /predict`` and its companions.

Example::

    app = create_app(settings.home / "models", signals.reader(settings), settings)
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
from prospect_lib.errors import SettingsError
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.server.access import Guard, Tokens
from prospect_lib.server.attribute_cache import AttributeCache, AttributeSource
from prospect_lib.server.background import job_runner
from prospect_lib.server.errors import answer_errors
from prospect_lib.server.interventions import (
    BoardReporter,
    Holdout,
    Invitations,
    Inviter,
    Push,
    pusher,
)
from prospect_lib.server.metrics import Monitor
from prospect_lib.server.model_watcher import PromotedModel
from prospect_lib.server.predictor import Loaded, Predictor, Readiness, Scorer, check_fits
from prospect_lib.server.runner import Server
from prospect_lib.server.schemas import (
    MAX_BODY,
    RECORDED,
    PredictResponse,
    openapi,
    parse_request,
    request_model,
)
from prospect_lib.server.served_log import ServedLog
from prospect_lib.server.snippet import CLIENT
from prospect_lib.settings import SANDBOX_PORT, Settings

__all__ = ["Options", "Server", "create_app"]

_HIDDEN_FROM_THE_PUBLIC = {
    "signals": None,
    "scoring_attributes": None,
    "explanations": None,
    "base_value": None,
}
#: Called after each score with the visitor, the answer, and both as one JSON object.
Follower = Callable[[str, PredictResponse, bytes], None]


@dataclass(frozen=True)
class Options:
    """Choices of a server's owner.

    Attributes:
        origins: web origins whose pages may call; those of the demo website always may.
        token_file: holds the token of pages, with which installed snippets go on after a
            restart; ``<token_file>.operator`` holds the operator's. Missing ones are created.
            Every caller then needs one of them, this machine's too.
        behind_proxy: a proxy of your own forwards the requests, so nobody is trusted for
            calling from this machine; needs ``token_file`` or ``public_scores``.
        threshold: score from which to act; by default the model's own.
        decision: name of the decision, and of the intervention that is pushed; by default
            the scoring problem's.
        public_scores: callers without a token may see score and decision.
        fresh_seconds: age up to which attributes are reused; 0 calls Signals for every score.
        stale_seconds: age up to which the last attributes serve while Signals fails.
        caller_limit, visitor_limit: for callers from other machines, such as
            ``"120 per minute"``.
        explain: add reasons to each score; without them a model takes half the time.
        interventions: push one through Signals when the decision is to act.
        holdout: share of sessions, 0 to 1, that are not acted on though the decision says so.
        served_days: days for which the log of served scores is kept; 0 turns it off.
    """

    origins: tuple[str, ...] = ()
    token_file: Path | None = None
    behind_proxy: bool = False
    threshold: float | None = None
    decision: str | None = None
    public_scores: bool = False
    fresh_seconds: float = 0.0
    stale_seconds: float = 60.0
    caller_limit: str = "120 per minute"
    visitor_limit: str = "30 per minute"
    explain: bool = True
    interventions: bool = True
    holdout: float = 0.0
    served_days: int = 30


def create_app(
    model: Scorer | Path | str,
    source: AttributeSource,
    settings: Settings | None = None,
    *,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    options: Options | None = None,
    push: Push | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """Return the prediction server as a Flask application.

    Args:
        model: any object with ``score(attributes, at)``; or the folder of models, whose
            promoted model is served, and replaced when another one is promoted.
        source: of attributes: any object with ``read(identifier) -> dict``.
        settings: address of the demo website, and the home for served scores. Without
            them nothing is written to disk and nothing is pushed.
        problem: the scoring problem, or its attribute group. The model is checked against
            it, and requests have its attribute key.
        options: choices of the server's owner.
        push: delivers interventions; by default through the Signals in ``settings``.
        clock: returns the time of a score, an aware datetime.
    Raises:
        ModelError: the model needs attributes that the service does not serve.
        SettingsError: served scores cannot be kept, an argument has another type, an origin is
            none, the holdout is no share, or the token file cannot be used.
        DefinitionError: ``problem`` is neither a scoring problem nor a group.
    """
    problem = problem_of(problem)
    options = Options() if options is None else options
    _check_types(source, settings, options)
    guard = Guard(
        (*_site(settings), *options.origins),
        tokens=Tokens.of(options.token_file) if options.token_file else None,
        behind_proxy=options.behind_proxy,
        public_scores=options.public_scores,
    )
    decision = options.decision or problem.decision
    monitor = Monitor()
    closers = list[Callable[[], None]]()
    followers = _followers(settings, options, problem, push, closers)
    current = _current(model, options.threshold, problem)
    attributes = AttributeCache(
        source,
        fresh_seconds=options.fresh_seconds,
        stale_seconds=options.stale_seconds,
        observe=monitor.count_call,
    )
    predictor = Predictor(
        current,
        attributes,
        key=problem.key,
        features=problem.features,
        decision=decision,
        suppressed_by=problem.suppressed_by,
        holdout=Holdout(options.holdout, decision, problem.group),
        explain=options.explain,
    )
    app = Flask(__name__, static_folder=None)
    app.extensions["prospect_closers"] = closers
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions["prospect_guard"] = guard
    app.extensions["prospect_key"] = problem.key
    monitor.watch(app)
    guard.protect(app, options.caller_limit, options.visitor_limit)
    answer_errors(app)
    _add_predict(app, guard, monitor, predictor, followers, clock, problem)
    _add_pages(app, guard, monitor, Readiness(predictor, current, clock), problem.key)
    return app


def _add_predict(
    app: Flask,
    guard: Guard,
    monitor: Monitor,
    predictor: Predictor,
    followers: list[Follower],
    clock: Callable[[], datetime],
    problem: ScoringProblem,
) -> None:
    model, digest = request_model(problem.key), group_hash(problem.group)
    values = (problem.key, problem.group.name, digest)
    head = json.dumps(dict(zip(RECORDED, values, strict=True)))

    @app.post("/predict")
    def predict() -> Response:
        guard.admit()
        if not request.is_json:
            raise UnsupportedMediaType("Send JSON as 'Content-Type: application/json'.")
        visitor = parse_request(model, request.get_data(cache=False))
        guard.admit_visitor(visitor)
        g.answer = answer = predictor.predict(visitor, clock())
        body = answer.model_dump_json().encode()
        about = json.dumps({problem.key: visitor})
        record = b"%s,%s,%s" % (about[:-1].encode(), head[1:-1].encode(), body[1:])
        monitor.count_score(answer)
        for follow in followers:
            follow(visitor, answer, record)
        if not g.caller.trusted:
            return _json(answer.model_copy(update=_HIDDEN_FROM_THE_PUBLIC))
        return _json(body)


def _add_pages(app: Flask, guard: Guard, monitor: Monitor, readiness: Readiness, key: str) -> None:
    document, script = json.dumps(openapi(request_model(key))), CLIENT.read_bytes()

    @app.get("/health")
    def health() -> Response:
        state = readiness.check()
        if not g.caller.operator:
            state = state.for_the_public()
        return _json(state, 200 if state.ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        guard.admit(operators_only=True)
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


def _check_types(source: object, settings: object, options: object) -> None:
    """Refuse arguments of ``create_app`` that a later request would fail on."""
    for name, value, fits, expected in (
        (
            "source",
            source,
            callable(getattr(source, "read", None)),
            "an object with read(identifier), such as signals.reader(settings)",
        ),
        ("settings", settings, settings is None or isinstance(settings, Settings), "Settings"),
        ("options", options, isinstance(options, Options), "Options"),
    ):
        if not fits:
            raise SettingsError(
                f"{name} of create_app is a {type(value).__name__}, expected {expected}."
            )


def _current(
    model: Scorer | Path | str, threshold: float | None, problem: ScoringProblem
) -> Callable[[], Loaded]:
    """Return a function that gives the scorer in use: a fixed one, or the promoted one."""

    def accept(scorer: Scorer) -> Loaded:
        loaded = Loaded.of(scorer, threshold)
        check_fits(loaded, problem.group)
        return loaded

    if isinstance(model, Path | str):
        return PromotedModel(Path(model), accept, problem)
    loaded = accept(model)
    return lambda: loaded


def _followers(
    settings: Settings | None,
    options: Options,
    problem: ScoringProblem,
    push: Push | None,
    closers: list[Callable[[], None]],
) -> list[Follower]:
    """Return the actions that follow each score; add to ``closers`` the functions to end them."""
    jobs, followers = job_runner(), list[Follower]()
    closers.append(jobs.close)
    if settings is not None and options.served_days:
        folder = problem.folder(settings.home, "served")
        served = ServedLog(folder, keep_days=options.served_days)
        followers.append(lambda _visitor, answer, record: served.append(record, answer.scored_at))
        closers.append(served.close)
    if push is None and settings is not None:
        push = pusher(settings, options.decision or problem.decision, problem.key)
    if push is not None and options.interventions:
        file = problem.folder(settings.home, "invited").with_suffix(".sqlite") if settings else None
        invitations = Invitations(file)
        inviter = Inviter(push, jobs, problem.group, invitations)
        followers.append(lambda visitor, answer, _record: inviter.consider(visitor, answer))
        closers.append(invitations.close)
    if settings is not None and settings.signals_backend == "local":
        board = BoardReporter(settings, jobs)
        followers.append(lambda _visitor, _answer, record: board.report(record))
    return followers


def _site(settings: Settings | None) -> tuple[str, str]:
    """Return the demo website's origins: the same pages under both names of this machine."""
    port = settings.sandbox_port if settings else SANDBOX_PORT
    return f"http://127.0.0.1:{port}", f"http://localhost:{port}"
