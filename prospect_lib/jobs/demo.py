"""The main job, end to end: events, attributes, training set, model, server, live scores."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from prospect_lib import signals
from prospect_lib.errors import DataError, DefinitionError, ModelError, ServiceError
from prospect_lib.evaluation.evaluate import MODEL
from prospect_lib.jobs.publish import publish
from prospect_lib.jobs.retrain import SAMPLE, Job, RetrainResult, train_and_promote
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_at, promoted_path
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.sandbox import process
from prospect_lib.sandbox.simulation import history, traffic
from prospect_lib.server.announcement import announce
from prospect_lib.server.app import Server, create_app
from prospect_lib.server.runner import end_with_signals
from prospect_lib.settings import Settings
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse, open_warehouse
from prospect_lib.warehouse.sample import describe_events, sample_events

VISITORS, DAYS, SEED = 8000, 60, 0
Say = Callable[[str], None]


@dataclass
class Demo:
    """One run of the job; each step reports what it did.

    Attributes:
        settings: the home and the ports.
        problem: what is scored; the simulated visitors have a ``domain_userid`` and nothing else.
        visitors: number of simulated visitors, over ``days`` days, from ``seed``.
        say: takes the lines for people.
        started: when the run began, for its duration (``time.monotonic``).
    """

    settings: Settings
    problem: ScoringProblem = prospect_problem
    visitors: int = VISITORS
    days: int = DAYS
    seed: int = SEED
    say: Say = print
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Refuse a problem that the demo website has no visitors for."""
        if self.problem.key != "domain_userid":
            raise DefinitionError(
                f"scoring problem {self.problem.name!r} is about a {self.problem.key}; the demo "
                "website's visitors only have a domain_userid. Train on events of your own: "
                "--data FILE."
            )

    @property
    def models(self) -> Path:
        """Return the folder of model bundles."""
        return self.problem.folder(self.settings.home, "models")

    def prepare(self) -> float:
        """Do everything up to a promoted model; return its ROC-AUC on visitors not trained on.

        A local sandbox is started, and left running.
        """
        self.say(self.settings.describe())
        local = self.settings.signals_backend == "local"
        if local:
            self.say(f"Sandbox: {process.ensure_running(self.settings)}")
            self.write_history()
        self.publish()
        model = self._trained_before() if local else None
        if model is None:
            return self._train().evaluation.auc
        self.say(f"Model {model.version} was trained on this history before.")
        return float(model.manifest["metrics"][MODEL]["roc_auc"]["value"])

    def _trained_before(self) -> ProspectModel | None:
        """Return the promoted model if it is newer than the history and fits the attributes."""
        promoted = promoted_at(self.models)
        written = self.settings.home / "history" / "manifest.json"
        if promoted is None or promoted < written.stat().st_mtime:
            return None
        try:
            return ProspectModel.load(promoted_path(self.models), problem=self.problem)
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

    def publish(self) -> None:
        """Publish the attributes and their service, counted from the start of the history."""
        since = _last_midnight() - timedelta(days=self.days)
        local = self.settings.signals_backend == "local"  # its definitions are this package's
        publish(self.settings, self.problem, since=since, replace=local, say=self.say)

    def _train(self) -> RetrainResult:
        warehouse = open_warehouse(self.settings)
        try:
            rows = extract(warehouse, self.problem, truth=self.settings.home / "truth")
        finally:
            warehouse.close()
        manifest = rows.manifest
        self.say(
            f"Training set: {manifest['rows']:,} moments on the site, "
            f"{manifest['positives']:,} followed by a form within the hour."
        )
        outcome = train_and_promote(
            rows.table,
            self.models,
            promote="always",
            problem=self.problem,
            seed=self.seed,
            resamples=100,
            about=manifest,
        )
        self.say(outcome.evaluation.summary())
        self.say(
            f"Model {outcome.version} is promoted; see report.html in its folder, "
            f"{self.models.name}/{outcome.version} of PROSPECT_HOME."
        )
        return outcome

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Run the prediction server, announced to the website."""
        reader = signals.reader(self.settings, self.problem)
        app = create_app(self.models, reader, self.settings, problem=self.problem)
        with Server(app, port=self.settings.predict_port) as server:
            announce(self.settings.home, server.url)
            try:
                yield server
            finally:
                announce(self.settings.home, None)


def once(demo: Demo) -> dict[str, Any]:
    """Run the whole job with one scripted visitor, and stop what it started.

    Returns:
        ``score`` after the visit, ``score_before`` it (both 0..1), median ``latency_ms`` of
        a score, ``auc`` on visitors not trained on, and ``seconds`` in all.
    """
    end_with_signals()
    with ExitStack() as at_the_end:
        at_the_end.enter_context(process.leave_as_before(demo.settings))
        auc = demo.prepare()
        server = at_the_end.enter_context(demo.serving())
        visitor, session = str(uuid4()), str(uuid4())
        scores = [_score(server.url, visitor)]
        steps = traffic.scripted_visitor(
            visitor, session, demo.settings.sandbox_url, start=datetime.now(UTC)
        )
        for name, payload in steps:
            traffic.send(demo.settings.sandbox_url, [traffic.happening_now(payload)])
            scores.append(_score(server.url, visitor))
            demo.say(f"  {name:<28} {scores[-1]['score']:.3f}")
        latencies = sorted(score["latency_ms"] for score in scores)
    return {
        "score": scores[-1]["score"],
        "score_before": scores[0]["score"],
        "latency_ms": round(latencies[len(latencies) // 2], 2),
        "auc": round(auc, 4),
        "seconds": round(time.monotonic() - demo.started, 1),
    }


def watch(demo: Demo) -> None:
    """Run the whole job for a person: serve until Ctrl-C, and stop what it started."""
    end_with_signals()
    with ExitStack() as at_the_end:
        at_the_end.enter_context(process.leave_as_before(demo.settings))
        demo.prepare()
        server, url = at_the_end.enter_context(demo.serving()), demo.settings.sandbox_url
        try:
            demo.say(
                f"\nReady after {time.monotonic() - demo.started:.0f} s. Open {url} and browse: "
                "pricing, customers, a video, the demo form.\n"
                f"Scores come from {server.url}/predict; they are on the page and in the browser's "
                f"console every 10 seconds. All visitors: {url}/board. "
                "Ctrl-C stops what this command started."
            )
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            demo.say("\nStopping.")


def on_file(
    settings: Settings,
    data: str,
    problem: ScoringProblem | None = None,
    say: Say = print,
    seed: int = SEED,
) -> dict[str, Any]:
    """Train on a file of atomic events (a path, or ``sample``), and evaluate the model."""
    job = Job(problem, file=data)
    if data == SAMPLE:
        warehouse = DuckDBWarehouse.over_file(sample_events(settings.home))
        say(describe_events(warehouse, prospect_problem))
        warehouse.close()
    rows = job.training_set(settings)
    say(f"Training set: {rows.manifest['rows']:,} rows, {rows.manifest['positives']:,} positive.")
    for note in rows.manifest["notes"]:
        say(f"Note: {note}")
    outcome = train_and_promote(
        rows.table,
        job.models(settings),
        promote="always",
        problem=job.problem_in_use(settings),
        seed=seed,
        about=rows.manifest,
    )
    say(outcome.evaluation.summary())
    return {
        "auc": round(outcome.evaluation.auc, 4),
        **{k: rows.manifest[k] for k in ("rows", "positives")},
    }


def _score(url: str, visitor: str) -> dict[str, Any]:
    begun = time.perf_counter()
    answer = requests.post(f"{url}/predict", json={"domain_userid": visitor}, timeout=10)
    elapsed = (time.perf_counter() - begun) * 1000
    if answer.status_code != 200:
        raise ServiceError(f"{url}/predict answered {answer.status_code}: {answer.text[:300]}")
    return {**answer.json(), "latency_ms": elapsed}


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
