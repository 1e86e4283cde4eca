"""``python -m prospect_lib train``: train a challenger and promote it if it is better.

The job reads a window of events, trains a model (the challenger), compares it with the
promoted one (the champion) and promotes it or not. The command line, ``make retrain`` and
notebook 03 run it. A version is a hash of its content, so running the job twice changes
nothing.

A model is fitted twice. The first fit leaves out the later rows and the visitors that judge it:
they give its figures, its threshold and the comparison. The second is what a bundle serves: the
same features, parameters, trees and calibration, on all rows. The bundle keeps the first in its
folder ``judged``, because a champion that has seen all rows cannot be compared on any of them
but the last days', and would meet there a challenger that was not shown them. So the judged fits
of champion and challenger are compared, on later rows of visitors that neither has seen.

Each run is one look: a challenger that is no better than the champion is promoted in 2.5% of
the runs, about once in 40.

Exit codes for a scheduler: 0 promoted, or already the promoted one; 10 the champion stays,
because the challenger is not significantly better; 11 the challenger is significantly worse
than the champion, or not significantly better than the base rate, or there is too little to
learn from (``TooFewError``). Errors have the codes of ``errors``.

Example: ``run(settings, Job(since=parse_utc("--since", "2026-01-01"))).exit_code``
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.errors import DataError, ModelError, SettingsError
from prospect_lib.evaluation.baselines import PRIOR
from prospect_lib.evaluation.comparison import compare
from prospect_lib.evaluation.evaluate import MODEL, Evaluation, evaluate
from prospect_lib.evaluation.metrics import Interval, visitor_draws
from prospect_lib.evaluation.threshold import Threshold, check_figures, choose_threshold
from prospect_lib.files import locked, writable_folder, write_whole
from prospect_lib.model import store
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import labels, visitors_of
from prospect_lib.model.search import search
from prospect_lib.model.splits import Split, honest_split
from prospect_lib.model.store import MANIFEST_FILE, bundle_path, promoted_version
from prospect_lib.model.training import Recipe
from prospect_lib.monitoring.outcomes import served_anchors
from prospect_lib.monitoring.own_labels import own_labels_of_training
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.problem import (
    ScoringProblem,
    chosen_problem,
    problem_of,
    prospect_problem,
    sample_problem,
)
from prospect_lib.reports.model_report import comparison_html, report_html
from prospect_lib.settings import Settings, WarehouseBackend
from prospect_lib.training_set.extract import TrainingSet, extract
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse, open_warehouse
from prospect_lib.warehouse.clocks import last_days
from prospect_lib.warehouse.sample import sample_events

Promote = Literal["if better", "always", "never"]
SANDBOX, SAMPLE = "sandbox", "sample"
SOURCES = (SANDBOX, "snowflake", "databricks", SAMPLE)
EXIT_PROMOTED, EXIT_KEPT, EXIT_WORSE = 0, 10, 11
RECENT_DAYS = 60  # of a remote warehouse's events, for a demonstration
REPORT_FILE, COMPARISON_FILE, JUDGED = "report.html", "comparison.html", "judged"


@dataclass(frozen=True)
class Job:
    """The problem, the events to train on, and the folder of models.

    Attributes:
        problem: the scoring problem; by default PROSPECT_PROBLEM's, else the demo website's, or
            the sample's for it.
        backend: ``sandbox``, ``snowflake``, ``databricks`` or ``sample`` (Snowplow's published
            events); by default the warehouse whose secrets are set, else the sandbox.
        file: a Parquet or CSV file of atomic events, instead of a backend.
        since: no training row is earlier; by default the beginning of the data.
        until: train as if the data ended here; by default their end.
        horizon: how far ahead a label looks; by default the problem's.
        out: the folder of models; by default the problem's in PROSPECT_HOME.
        served: train on the moments at which scores were served and whose outcome is known.
        days: without ``since``, rows of the last days; only where a window is needed.
        before_read: gets a sentence with what a read of a remote warehouse will scan, before it
            runs; may raise to stop it.
    """

    problem: ScoringProblem | None = None
    backend: str | None = None
    file: Path | str | None = None
    since: datetime | None = None
    until: datetime | None = None
    horizon: timedelta | None = None
    out: Path | str | None = None
    served: bool = False
    days: int | None = None
    before_read: Callable[[str], None] = print

    def source(self, settings: Settings) -> str:
        """Return the backend in use; empty for a file.

        Raises:
            SettingsError: a file and a backend are given, or the backend is unknown.
        """
        if self.file and self.backend:
            raise SettingsError(
                f"--data {self.file} and --backend {self.backend} exclude each other: give one."
            )
        source = SAMPLE if self.file == SAMPLE else self.backend
        if self.file and source is None:
            return ""
        if source is None:
            chosen = settings.warehouse_backend
            return SANDBOX if chosen == "duckdb" else chosen
        if source not in SOURCES:
            raise SettingsError(f"backend {source!r}: expected one of {', '.join(SOURCES)}.")
        return source

    def problem_in_use(self, settings: Settings) -> ScoringProblem:
        """Return the scoring problem, with the window and the horizon."""
        of_sample = self.source(settings) == SAMPLE and not settings.problem
        problem = self.problem or (sample_problem if of_sample else chosen_problem(settings))
        horizon = problem.horizon if self.horizon is None else self.horizon
        rows = replace(problem.anchors, since=self.since, until=self.until, horizon=horizon)
        return problem.with_anchors(rows)

    def models(self, settings: Settings) -> Path:
        """Return the folder of models."""
        if self.out:
            return Path(self.out)
        return self.problem_in_use(settings).folder(settings.home, "models")

    def training_set(
        self, settings: Settings, say: Callable[[str], None] = lambda _: None
    ) -> TrainingSet:
        """Build one row per anchor of the problem, and the manifest; say what it holds.

        Raises:
            DataError: there are no events, or none in the window.
        """
        source, problem = self.source(settings), self.problem_in_use(settings)
        same_question = problem.label() == prospect_problem.label()  # that the simulator answers
        known = source == SANDBOX and not self.served and same_question
        truth = settings.home / "truth" if known else None
        warehouse = self._open(settings, source)
        try:
            if self.days is not None:
                problem = recent_problem(problem, warehouse, self.days)
            anchors = (
                served_anchors(
                    warehouse,
                    problem.folder(settings.home, "served"),
                    problem,
                    since=self.since,
                    until=self.until,
                )
                if self.served
                else None
            )
            rows = extract(warehouse, problem, anchors, truth=truth)
        finally:
            warehouse.close()
        about = rows.manifest
        say(
            f"Training set ({source or self.file}): {about['rows']:,} rows from "
            f"{about['since'][:16]} to {about['until'][:16]} UTC, {about['positives']:,} followed "
            "by the goal."
        )
        for note in (*about["notes"], _own_labels(rows, settings, problem)):
            if note:
                say(f"Note: {note}")
        return rows

    def _open(self, settings: Settings, source: str) -> Warehouse:
        if source == SANDBOX:
            return open_warehouse(settings, backend="duckdb")
        if source in ("snowflake", "databricks"):
            backend = cast(WarehouseBackend, source)
            return open_warehouse(settings, backend=backend, before_read=self.before_read)
        return open_warehouse(settings, sample_events(settings.home) if source else self.file)


def _own_labels(rows: TrainingSet, settings: Settings, problem: ScoringProblem) -> str:
    """Return a warning if goals followed one's own invitations; empty without a log of scores."""
    try:
        served = read_served(problem.folder(settings.home, "served"), problem)
    except DataError:
        return ""
    return own_labels_of_training(rows.table, served, problem)


def recent_problem(
    problem: ScoringProblem, warehouse: Warehouse, days: int = RECENT_DAYS
) -> ScoringProblem:
    """Return the problem with rows of the last days, if it has no window and one is needed.

    Raises:
        DataError, ServiceError: as :func:`end_of_data`.
    """
    if isinstance(warehouse, DuckDBWarehouse) or problem.anchors.since is not None:
        return problem
    since, _ = last_days(warehouse, days)
    return problem.with_anchors(replace(problem.anchors, since=since))


@dataclass(frozen=True)
class Candidate:
    """A newly trained model with its evaluation.

    Attributes:
        model: fitted on all rows.
        judged: the same model fitted on the split's training rows; the figures are its.
        evaluation: of ``judged``, on the split's test rows.
        threshold: chosen on the test rows.
        split: the rows.
    """

    model: ProspectModel
    judged: ProspectModel
    evaluation: Evaluation
    threshold: Threshold
    split: Split


@dataclass(frozen=True)
class RetrainResult:
    """The result of a retraining.

    Attributes:
        version: of the challenger.
        folder: of the challenger's bundle.
        promoted: whether the challenger is now the promoted model.
        reason: of the decision, in words.
        exit_code: for a scheduler, see the module.
        differences: challenger minus champion, by metric; empty without a comparison.
        evaluation: the challenger's figures.
        threshold: from which score to act.
        repeated: whether an earlier run on the same data left the same bytes.
    """

    version: str
    folder: Path
    promoted: bool
    reason: str
    exit_code: int
    differences: Mapping[str, Interval]
    evaluation: Evaluation
    threshold: Threshold
    repeated: bool

    def lines(self) -> list[str]:
        """Return the result as lines for people; the last one is JSON, for a scheduler."""
        pages = [REPORT_FILE, *([COMPARISON_FILE] if self.differences else [])]
        about = self.evaluation.about
        rows = sum(about[f"{part}_rows"] for part in ("train", "test", "unused"))
        repeated = "The same data gave the same bytes as an earlier run: nothing is new."
        return [
            self.evaluation.summary(),
            self.threshold.summary(),
            f"Then fitted again on all {rows:,} rows, with the same trees and calibration.",
            f"Model {self.version}: {self.reason.rstrip('.')}.",
            *([repeated] if self.repeated else []),
            *(f"See {self.folder / page}" for page in pages),
            json.dumps(
                {
                    "version": self.version,
                    "promoted": self.promoted,
                    "exit_code": self.exit_code,
                    "repeated": self.repeated,
                    "auc": round(self.evaluation.auc, 4),
                }
            ),
        ]


def run(
    settings: Settings, job: Job, *, say: Callable[[str], None] = print, **options: Any
) -> RetrainResult:
    """Build the training set, retrain, and print the result; the last line is JSON.

    Args:
        settings: where state lives, and the secrets.
        job: the events and the folder of models.
        say: prints a line.
        options: for :func:`train_and_promote`: promote, tries, value, seed …
    Raises:
        SettingsError: the folder of models cannot be written.
        DataError: the events, or an option, cannot be used.

    Example: ``run(settings, Job(backend="sandbox"), promote="never").promoted`` is False.
    """
    check_figures(**{name: options.get(name) for name in ("value", "cost", "capacity")})
    models = writable_folder(job.models(settings))
    rows = job.training_set(settings, say)
    result = train_and_promote(
        rows.table,
        models,
        problem=job.problem_in_use(settings),
        about=rows.manifest,
        **options,
    )
    for line in result.lines():
        say(line)
    return result


def train_and_promote(
    table: pa.Table,
    models: Path | str,
    *,
    promote: Promote = "if better",
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    **options: Any,
) -> RetrainResult:
    """Train on a table, save the bundle with its report, and promote it or not.

    Args:
        table: a training set, with rows to train on and later rows to test on.
        models: the folder of models, created if it is missing.
        promote: ``always`` and ``never`` override the comparison with the champion.
        problem: the scoring problem, or an attribute group.
        options: for :func:`train`.
    Raises:
        DataError: the rows cannot train or test a model.
        TooFewError: there are too few of them.

    Example: ``train_and_promote(table, Path("models"), promote="always").promoted`` is True.
    """
    problem, models = problem_of(problem), Path(models)
    challenger = train(table, problem=problem, **options)
    version = challenger.model.version
    folder = bundle_path(models, version)
    repeated = (folder / MANIFEST_FILE).is_file()  # a version is a hash of its content
    models.mkdir(parents=True, exist_ok=True)
    with locked(models):  # by no more than one process at a time
        store.discard_unfinished(models)
        challenger.judged.save(folder / JUDGED)
        challenger.model.save(folder)
    report = report_html(
        challenger.model, challenger.evaluation, challenger.split, challenger.threshold
    )
    write_whole(folder / REPORT_FILE, report)
    differences, code, reason = _compare_with_champion(challenger, table, models, folder, problem)
    if promote == "always" and code != EXIT_PROMOTED:
        code, reason = EXIT_PROMOTED, f"promoted as requested, although {reason}"
    if promote == "never" and code == EXIT_PROMOTED and promoted_version(models) != version:
        code, reason = EXIT_KEPT, f"not promoted as requested, although {reason}"
    if code == EXIT_PROMOTED:
        store.promote(models, version)
    return RetrainResult(
        version=version,
        folder=folder,
        promoted=code == EXIT_PROMOTED,
        reason=reason,
        exit_code=code,
        differences=differences,
        evaluation=challenger.evaluation,
        threshold=challenger.threshold,
        repeated=repeated,
    )


def train(
    table: pa.Table,
    *,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    cut: datetime | None = None,
    tries: int = 0,
    seconds: float = 120.0,
    value: float | None = None,
    cost: float | None = None,
    capacity: float | None = None,
    seed: int = 0,
    resamples: int = 300,
    **fit_options: Any,
) -> Candidate:
    """Split, search parameters if requested, fit, evaluate, choose the threshold, and fit again.

    Args:
        table: a training set.
        problem: the scoring problem, or an attribute group.
        cut: start of the test period, aware; by default the last quarter of the rows.
        tries: number of parameter sets to try in a search; 0 takes the defaults.
        seconds: the longest that the search may take.
        value: for the threshold, as are ``cost`` and ``capacity``: see ``choose_threshold``.
        seed: of the training.
        resamples: number of draws behind each interval.
        fit_options: for ``ProspectModel.fit``.

    Example: ``train(table, tries=5).threshold.score``
    """
    problem = problem_of(problem)
    split = honest_split(table, cut=cut, horizon=problem.anchors.label_delay)
    recipe = (fit_options.pop("recipe", None) or Recipe(seed=seed)).for_problem(problem)
    if tries:
        features = fit_options.get("features") or problem.features
        recipe, _ = search(
            split.train,
            features,
            recipe=recipe,
            tries=tries,
            seconds=seconds,
            horizon=split.horizon,
        )
    judged, evaluation = evaluate(
        split, problem=problem, recipe=recipe, resamples=resamples, **fit_options
    )
    threshold = choose_threshold(evaluation, value=value, cost=cost, capacity=capacity)
    judged.manifest["threshold"] = threshold.to_json()
    model = judged.refit(table, problem=problem, cache=fit_options.get("cache"))
    return Candidate(model, judged, evaluation, threshold, split)


def promotion_decision(log_loss: Interval) -> tuple[int, str]:
    """Return exit code and reason from the difference in log loss, challenger minus champion."""
    difference = f"log loss differs by {log_loss}"
    if log_loss.high < 0:
        return EXIT_PROMOTED, f"it is better than the champion beyond noise: {difference}"
    if log_loss.low > 0:
        return EXIT_WORSE, f"it is worse than the champion beyond noise: {difference}"
    return EXIT_KEPT, f"it is not better than the champion beyond noise: {difference}"


def parse_utc(option: str, text: str | None) -> datetime | None:
    """Parse a date, or a date and time, as UTC; without a zone it is taken as UTC.

    Example: ``parse_utc("--since", "2026-01-31")`` returns the start of that day.

    Args:
        option: the name of the option, for the message.
    Raises:
        SettingsError: the text is neither.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"{option} {text!r}: expected a date or a date and time, such as 2026-01-31 or "
            "2026-01-31T06:00Z."
        ) from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _compare_with_champion(
    challenger: Candidate, table: pa.Table, models: Path, folder: Path, problem: ScoringProblem
) -> tuple[Mapping[str, Interval], int, str]:
    """Return differences, exit code and reason, before an override by ``promote``."""
    promoted = promoted_version(models)
    if promoted == challenger.model.version:
        return {}, EXIT_PROMOTED, "it is the promoted model already: same data, same recipe"
    gain = _difference_from_prior(challenger)
    if gain.high >= 0:
        test = challenger.split.test.filter(labels(challenger.split.test) > 0)
        reason = (
            f"it is not better than the base rate beyond noise (log loss differs by {gain}), with "
            f"{len(pc.unique(visitors_of(test)))} converting visitors in the test rows: take a "
            "longer period of events, or attributes that tell more"
        )
        return {}, EXIT_WORSE, reason
    if promoted is None:
        return {}, EXIT_PROMOTED, "no model was promoted before"
    try:
        bundle = bundle_path(models, promoted)
        champion = judged = ProspectModel.load(bundle, problem=problem)
        if champion.manifest.get("judged"):
            judged = ProspectModel.load(bundle / JUDGED, problem=problem)
    except ModelError as error:
        reason = str(error).removesuffix(" Train the model again.").rstrip(".")
        return {}, EXIT_PROMOTED, f"it replaces a champion that cannot be used any more: {reason}"
    if champion.manifest["label"] != challenger.model.manifest["label"]:
        return {}, EXIT_PROMOTED, "the champion predicts another goal, or another horizon"
    try:
        comparison = compare(judged, challenger.judged, table, challenger.split.horizon)
    except DataError as error:
        return {}, EXIT_KEPT, f"no comparison is possible: {error}"
    code, reason = promotion_decision(comparison.differences["log_loss"])
    page = comparison_html(champion, challenger.model, comparison, reason)
    write_whole(folder / COMPARISON_FILE, page)
    return comparison.differences, code, reason


def _difference_from_prior(challenger: Candidate) -> Interval:
    """Return the challenger's log loss minus that of the base rate."""
    draws = visitor_draws(visitors_of(challenger.split.test))
    rows = challenger.evaluation.rows
    return draws.difference("log_loss", rows[MODEL], rows[PRIOR])
