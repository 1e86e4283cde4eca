"""The main job, end to end: events, training set, model, published attributes, live scores.

The settings choose Signals and the warehouse; docs/accounts.md has a table of what happens with
each. Publishing comes after training: without a model to serve, nothing is published that
Signals would compute and somebody would have to take back.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import requests

from prospect_lib.errors import DataError, DefinitionError, ModelError, ServiceError
from prospect_lib.evaluation.evaluate import MODEL
from prospect_lib.evaluation.metrics import RESAMPLES
from prospect_lib.files import writable_folder
from prospect_lib.jobs.publishing import owned, publish, status
from prospect_lib.jobs.retrain import RECENT_DAYS, SANDBOX, Job, train_and_promote
from prospect_lib.jobs.serve import Address, serving
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_at, promoted_path, promoted_version
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.sandbox import process
from prospect_lib.sandbox.simulation import history, traffic
from prospect_lib.server.app import Options, Server
from prospect_lib.server.runner import end_with_signals
from prospect_lib.settings import Settings

VISITORS, SEED = 8000, 0


@dataclass(frozen=True)
class Prepared:
    """A promoted model whose attributes are published.

    Attributes:
        auc: its ROC-AUC on visitors not trained on.
        share: of the best observable log-loss gain; ``None`` for events that are not simulated.
        visitor: that of its latest row; empty where the model was there before.
    """

    auc: float
    share: float | None
    visitor: str


@dataclass
class Demo:
    """One run of the job; each step reports what it did.

    Attributes:
        settings: the home, the ports, and the secrets that choose Signals and the warehouse.
        problem: what is scored; by default the demo website's, and the sample's for it.
        data: a Parquet or CSV file of events, or ``sample``, instead of the warehouse.
        visitors: number of simulated visitors, from ``seed``.
        days: length of the simulated history, and of the window of Snowflake's events.
        origins: websites whose pages may request scores.
        public: whether to open a tunnel.
        before_read: as for ``Job``.
        say: takes the lines for people.
        started: when the run began, for its duration (``time.monotonic``).
    """

    settings: Settings
    problem: ScoringProblem | None = None
    data: Path | str | None = None
    visitors: int = VISITORS
    days: int = RECENT_DAYS
    seed: int = SEED
    origins: tuple[str, ...] = ()
    public: bool = False
    before_read: Callable[[str], None] = print
    say: Callable[[str], None] = print
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Refuse a problem that the demo website has no visitors for."""
        scored = self.scored
        if self.on_sandbox and scored.key != "domain_userid":
            raise DefinitionError(
                f"scoring problem {scored.name!r} is about a {scored.key}; the demo website's "
                "visitors only have a domain_userid. Train on events of your own: --data FILE."
            )

    @cached_property
    def job(self) -> Job:
        """Return the events to train on, and the folder of models."""
        return Job(self.problem, file=self.data, days=self.days, before_read=self.before_read)

    @property
    def scored(self) -> ScoringProblem:
        """Return the problem in use."""
        return self.job.problem_in_use(self.settings)

    @property
    def models(self) -> Path:
        """Return the folder of model bundles."""
        return self.job.models(self.settings)

    @property
    def is_local(self) -> bool:
        """Return whether the local sandbox stands in for Signals."""
        return self.settings.signals_backend == "local"

    @property
    def on_sandbox(self) -> bool:
        """Return whether the events are those of the local sandbox."""
        return self.job.source(self.settings) == SANDBOX

    @property
    def simulates(self) -> bool:
        """Return whether the events are simulated."""
        return self.is_local and self.on_sandbox

    @property
    def plays(self) -> bool:
        """Return whether a scripted visitor can visit the demo website, and be scored."""
        return self.simulates or (self.is_local and self.scored.name == prospect_problem.name)

    def prepare(self) -> "Prepared":
        """Do everything up to a promoted model whose attributes are published.

        A local sandbox is started, and left running.

        Raises:
            SettingsError: the folder of models cannot be written.
        """
        writable_folder(self.models)
        self.say(self.settings.describe())
        if self.data:
            self.say(f"Events: {self.data}, instead of the warehouse.")
        if self.is_local:
            self.say(f"Sandbox: {process.ensure_running(self.settings)}")
        else:
            self._refuse_early()
        model = None
        if self.simulates:
            self.write_history()
            model = self._trained_before()
        if model is None:
            prepared = self._train()
        else:
            self.say(f"Model {model.version} was trained on this history before.")
            metrics = model.manifest["metrics"]
            auc = float(metrics[MODEL]["roc_auc"]["value"])
            prepared = Prepared(auc, metrics["share_of_ceiling"], "")
        self.publish()
        return prepared

    def _refuse_early(self) -> None:
        """Refuse before events are read what would be refused when the model is there.

        Raises:
            SettingsError: a secret or an owner is missing.
            ServiceError: Signals cannot be reached, or has another definition.
        """
        owned(self.settings, self.scored)
        there = status(self.settings, self.scored, say=lambda _: None)
        if there.group is not None and not there.is_same:
            self.publish()

    def _trained_before(self) -> ProspectModel | None:
        """Return the promoted model if it is newer than the history and fits the attributes."""
        promoted = promoted_at(self.models)
        written = self.settings.home / "history" / "manifest.json"
        if promoted is None or promoted < written.stat().st_mtime:
            return None
        try:
            return ProspectModel.load(promoted_path(self.models), problem=self.scored)
        except ModelError:
            return None

    def write_history(self) -> None:
        """Write the events of simulated visitors until last midnight, unless they are there."""
        end = _last_midnight()
        manifest = history.write(
            self.settings.home, visitors=self.visitors, days=self.days, end=end, seed=self.seed
        )
        self.say(
            f"History: {manifest['events']:,} events of {self.visitors:,} simulated visitors "
            f"over {self.days} days, until {end:%Y-%m-%d}."
        )

    def _train(self) -> "Prepared":
        rows = self.job.training_set(self.settings, self.say)
        replaces = promoted_version(self.models) is not None and not self.simulates
        outcome = train_and_promote(
            rows.table,
            self.models,
            promote="if better" if replaces else "always",
            problem=self.scored,
            seed=self.seed,
            resamples=100 if self.simulates else RESAMPLES,  # a demonstration is for a look
            about=rows.manifest,
        )
        self.say(outcome.evaluation.summary())
        self.say(
            f"Model {outcome.version}: {outcome.reason.rstrip('.')}. See report.html in its "
            f"folder, {self.models.name}/{outcome.version} of PROSPECT_HOME."
        )
        visitor, evaluation = _latest_visitor(rows.table, self.scored.key), outcome.evaluation
        return Prepared(evaluation.auc, evaluation.share_of_ceiling, visitor)

    def publish(self) -> None:
        """Publish the attributes and their service, counted from the start of the history."""
        since = _last_midnight() - timedelta(days=self.days)
        # the definitions of the local sandbox are this package's
        publish(self.settings, self.scored, since=since, replace=self.is_local, say=self.say)

    def serving(self) -> AbstractContextManager[Server]:
        """Return the prediction server, which runs in a ``with`` block."""
        return serving(
            self.settings,
            self.scored,
            options=Options(origins=self.origins),
            address=Address(public=self.public),
            say=self.say,
        )

    def play(self, server: Server) -> list[dict[str, Any]]:
        """Let a scripted visitor visit the demo website; return the scores before and after.

        The last step sends the form; the one before it has the score of the whole visit.
        """
        visitor, session, website = str(uuid4()), str(uuid4()), self.settings.sandbox_url
        scores = [self.score(server, visitor)]
        steps = traffic.scripted_visitor(visitor, session, website, start=datetime.now(UTC))
        for name, payloads in steps:
            traffic.send(website, traffic.happening_now(payloads))
            scores.append({"step": name, **self.score(server, visitor)})
            self.say(f"  {name:<28} {scores[-1]['score']:.3f}")
        return scores

    def score(self, server: Server, visitor: str) -> dict[str, Any]:
        """Return the server's answer about one visitor, with its ``latency_ms``.

        Raises:
            ServiceError: the server refuses the request; the message has its reason.
        """
        begun = time.perf_counter()
        url, body = f"{server.url}/predict", {self.scored.key: visitor}
        answer = requests.post(url, json=body, headers=server.headers, timeout=10)
        elapsed = (time.perf_counter() - begun) * 1000
        if answer.status_code != 200:
            raise ServiceError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
        return {**answer.json(), "latency_ms": elapsed}


def once(demo: Demo) -> dict[str, Any]:
    """Run the whole job for one visitor, and stop what it started.

    On the demo website a scripted visitor is played; otherwise the visitor of the latest
    training row is scored.

    Returns:
        ``score`` when the form is filled in, ``score_before`` the visit, ``steps``, the score after
        each step of it in order (0..1; the last two are ``None`` and empty where no visitor is
        played), median ``latency_ms`` of a score, ``auc`` on visitors not trained on, ``share`` of
        the best observable log-loss gain (0..1; ``None`` for events that are not simulated), and
        ``seconds`` in all.
    """
    end_with_signals()
    with ExitStack() as at_the_end:
        at_the_end.enter_context(process.leave_as_before(demo.settings))
        prepared = demo.prepare()
        server = at_the_end.enter_context(demo.serving())
        scores = demo.play(server) if demo.plays else [demo.score(server, prepared.visitor)]
    last = scores[-2] if demo.plays else scores[-1]
    if last["cold_start"]:
        demo.say("Signals has no values of this visitor yet: the score is that of a stranger.")
    latencies = sorted(score["latency_ms"] for score in scores)
    return {
        "score": last["score"],
        "score_before": scores[0]["score"] if demo.plays else None,
        "latency_ms": round(latencies[len(latencies) // 2], 2),
        "auc": round(prepared.auc, 4),
        "share": None if prepared.share is None else round(prepared.share, 4),
        "steps": {each["step"]: each["score"] for each in scores if "step" in each},
        "seconds": round(time.monotonic() - demo.started, 1),
    }


def watch(demo: Demo) -> None:
    """Run the whole job for a person: serve until Ctrl-C, and stop what it started."""
    end_with_signals()
    with ExitStack() as at_the_end:
        at_the_end.enter_context(process.leave_as_before(demo.settings))
        demo.prepare()
        server, website = at_the_end.enter_context(demo.serving()), demo.settings.sandbox_url
        ready = f"\nReady after {time.monotonic() - demo.started:.0f} s. "
        if demo.plays:
            ready += (
                f"Open {website} and browse: pricing, customers, a video, the demo form. Scores "
                f"are on the page and in the browser's console every 10 seconds. All visitors: "
                f"{website}/board. "
            )
        elif not (demo.origins or demo.public):
            ready += (
                "For the pages of your website: python -m prospect_lib serve --public --origin "
                "https://www.example.com. "
            )
        ready += f"Scores come from {server.url}/predict. Ctrl-C stops what this command started."
        try:
            demo.say(ready)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            demo.say("\nStopping.")


def _latest_visitor(rows: pa.Table, key: str) -> str:
    """Return the visitor of the latest training row."""
    latest = pc.index(rows["anchor_ts"], pc.max(rows["anchor_ts"])).as_py()
    return str(rows[key][latest])


def _last_midnight() -> datetime:
    """Return the end of the simulated history; a second run on the same day reuses it."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def as_line(result: dict[str, Any]) -> str:
    """Return a result as the machine-readable last line.

    Raises:
        DataError: a figure is not a number, which JSON cannot hold.
    """
    if any(isinstance(value, float) and value != value for value in result.values()):
        raise DataError(f"a figure is not a number: {result}")
    return json.dumps(result)
