"""``python -m prospect_lib audit``: check served scores, their outcomes and visitor drift.

The command line, a scheduler and notebook 05 run this. It writes ``audit.html`` and ends
with an exit code: 0 nothing to do; 12 look at it (late or old values beyond the tolerated
share, or drift); 13 wrong values were served.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib import signals
from prospect_lib.errors import DataError, ModelError, ServiceError, counted, wrong_type
from prospect_lib.files import writable_folder, write_whole
from prospect_lib.jobs.publishing import published_group
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import promoted_path
from prospect_lib.monitoring.audit import (
    EXIT_ATTENTION,
    EXIT_CLEAN,
    TOLERATED,
    AuditReport,
    audit,
)
from prospect_lib.monitoring.backfill import BackfillReport, measure_backfill
from prospect_lib.monitoring.drift import SCORE, DriftReport, measure_drift
from prospect_lib.monitoring.keyed_events import served_events
from prospect_lib.monitoring.outcomes import OutcomeReport, measure_outcomes
from prospect_lib.monitoring.served_scores import (
    read_served,
    read_served_features,
    unreadable_lines,
)
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.reports.audit_report import audit_html
from prospect_lib.settings import Settings
from prospect_lib.training_set.partitions import with_feature_types
from prospect_lib.warehouse import Warehouse, open_warehouse
from prospect_lib.warehouse.clocks import end_of_data

#: How long after the last event a score may be, and is still checked.
_LAG = timedelta(hours=1)
AUDIT_PAGE = "audit.html"
_LATE_ROWS = 0.05  # share of training rows that events may add or change that arrived later
_Report = TypeVar("_Report")


@dataclass(frozen=True)
class AuditOptions:
    """Which scores to audit, and how strictly.

    Attributes:
        since: the first moment to include (aware); ``None`` is the beginning of the log.
        until: the first moment to leave out (aware).
        tolerated: share of scores that may have late events or values some seconds old.
        known_since: when Signals began to count (aware); by default the backfill date of
            the published group.
        out: folder of the page; by default the problem's ``audit`` in PROSPECT_HOME.
        problem: whose scores were served.
        models: the folder of models; by default the problem's in PROSPECT_HOME.
        data: a Parquet or CSV file of events, instead of the warehouse in use.
        before_read: gets a sentence with what a read of Snowflake's events will scan, before it
            runs; may raise to stop it.
    """

    since: datetime | None = None
    until: datetime | None = None
    tolerated: float = TOLERATED
    known_since: datetime | None = None
    out: Path | None = None
    problem: ScoringProblem = prospect_problem
    models: Path | None = None
    data: Path | str | None = None
    before_read: Callable[[str], None] = print


@dataclass(frozen=True)
class AuditResult:
    """The reports of one run; a report that cannot be made yet is ``None``.

    Attributes:
        audit: served values against recomputed ones.
        outcomes: served scores against what followed; needs scores older than the horizon.
        drift: served visitors against those trained on; needs a promoted model.
        backfill: what Signals could not know; needs the date since when it counts.
        page: path of the page.
        notes: what was left out of the events and of the reports, one sentence each.
    """

    audit: AuditReport
    outcomes: OutcomeReport | None
    drift: DriftReport | None
    backfill: BackfillReport | None
    page: Path
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 12 look at it, 13 wrong values were served."""
        drifted = self.drift is not None and bool(self.drift.alarms)
        return max(self.audit.exit_code, EXIT_ATTENTION if drifted else EXIT_CLEAN)

    def lines(self) -> list[str]:
        """Return the result line by line; the last line is JSON for a scheduler."""
        reports = (self.outcomes, self.drift, self.backfill)
        facts = {
            "exit_code": self.exit_code,
            "scores": self.audit.scores,
            "mismatches": int(self.audit.attributes["mismatches"].sum()),
            "kinds": {cause: count for cause, count in self.audit.causes.items() if count},
            "drift": self.drift.alarms if self.drift else [],
        }
        return [
            self.audit.summary(),
            *self.audit.findings,
            *(report.summary() for report in reports if report is not None),
            *(self.drift.advice() if self.drift else []),
            *self.notes,
            f"See {self.page}",
            json.dumps(facts),
        ]


def run_audit(
    settings: Settings, options: AuditOptions, *, say: Callable[[str], None] = print
) -> AuditResult:
    """Audit the log of served scores, measure outcomes and drift, write the page.

    Args:
        settings: name the folder of the log and of the models, Signals and the warehouse.
        options: which scores to audit.
        say: called with each line of the result.
    Raises:
        SettingsError: the page's folder cannot be written.
        DataError: nothing was served in the window, or there are no events.
        ModelError: the folder of models that is named has no promoted model.
    """
    if not isinstance(options, AuditOptions):
        raise wrong_type("options of run_audit", options, "AuditOptions")
    problem, group = options.problem, options.problem.group
    out = writable_folder(options.out or problem.folder(settings.home, "audit"))
    folder = problem.folder(settings.home, "served")
    served = read_served(folder, problem, since=options.since, until=options.until)
    published = _published(settings, group)
    known_since = options.known_since or getattr(published, "backfill_since_tstamp", None)
    if known_since and known_since.tzinfo is None:
        known_since = known_since.replace(tzinfo=UTC)
    notes = list[str]()
    if damaged := unreadable_lines(folder):
        notes.append(f"Left out: {counted(damaged, 'line')} of {folder} that cannot be read.")
    model, backfill = _promoted_model(settings, options, notes), None
    with closing(
        open_warehouse(settings, options.data, before_read=options.before_read)
    ) as warehouse:
        served = _within_data(warehouse, served, notes)
        with served_events(warehouse, served, problem) as events:
            report = audit(
                events,
                served,
                problem,
                published=published,
                known_since=known_since,
                tolerated=options.tolerated,
            )
            if known_since:
                backfill = measure_backfill(
                    events, served, known_since, problem=problem, model=model
                )
            outcomes = _or_note(
                "Outcomes", notes, partial(measure_outcomes, events, served, problem)
            )
        drift = None
        if model is not None:
            drift = _or_note("Drift", notes, partial(_drift, warehouse, folder, options, model))
        result = AuditResult(
            audit=report,
            outcomes=outcomes,
            drift=drift,
            backfill=backfill,
            page=out / AUDIT_PAGE,
            notes=(*events.notes, *notes),
        )
    page = audit_html(result.audit, result.outcomes, result.drift, result.backfill)
    write_whole(result.page, page)
    for line in result.lines():
        say(line)
    return result


def _within_data(warehouse: Warehouse, served: pa.Table, notes: list[str]) -> pa.Table:
    """Return the scores that the events reach, with an hour for events that come late.

    Raises:
        DataError: the events end before every score.
    """
    end = end_of_data(warehouse)
    checked = served.filter(
        pc.less_equal(served["anchor_ts"], pa.scalar((end + _LAG).replace(tzinfo=None)))
    )
    if checked.num_rows == 0:
        raise DataError(
            f"the events end at {end:%Y-%m-%d %H:%M} UTC, more than an hour before every score: "
            "nothing can be checked. Use events that reach the scores, or scores --until then."
        )
    if later := served.num_rows - checked.num_rows:
        notes.append(
            f"Not checked: {counted(later, 'score')}. The events end at {end:%Y-%m-%d %H:%M} UTC, "
            "more than an hour before."
        )
    return checked


def _published(settings: Settings, group: AttributeGroup) -> AttributeGroup | None:
    """Return the group as Signals has it; ``None`` if Signals cannot be reached."""
    try:
        return published_group(signals.connect(settings), group)
    except Exception:  # noqa: BLE001 - the SDK raises whatever HTTP gives
        return None


def _promoted_model(
    settings: Settings, options: AuditOptions, notes: list[str]
) -> ProspectModel | None:
    """Return the promoted model; without one a note, if no folder of models was named."""
    models = options.models or options.problem.folder(settings.home, "models")
    try:
        return ProspectModel.load(promoted_path(models), problem=options.problem)
    except ModelError as error:
        if options.models:
            raise
        notes.append(str(error))
        return None


def _or_note(what: str, notes: list[str], report: Callable[[], _Report]) -> _Report | None:
    """Return a report, or note why it cannot be made."""
    try:
        return report()
    except DataError as error:
        notes.append(f"{what}: {error}")
        return None


def _drift(
    warehouse: Warehouse, folder: Path, options: AuditOptions, model: ProspectModel
) -> DriftReport:
    """Compare served features with the rows that the model was trained on.

    The training rows are selected again by the SQL in the model's manifest.

    Raises:
        DataError: they cannot be selected, or are others, because the model was trained on
            other events; or there is nothing to compare.
    """
    training = _training_rows(warehouse, model, options)
    served = read_served_features(
        folder, model.features, options.problem, since=options.since, until=options.until
    ).to_pandas()
    served["anchor_ts"] = pd.to_datetime(served["anchor_ts"], utc=True)
    return measure_drift(training, served)


def _training_rows(
    warehouse: Warehouse, model: ProspectModel, options: AuditOptions
) -> pd.DataFrame:
    about = model.manifest["training_set"]
    if about is None:
        raise DataError(f"model {model.version} does not tell which rows it was trained on.")
    reason = (
        f"model {model.version} was trained on other events than these. Visitors "
        "can be compared where its events and those of the scores are in one warehouse or file."
    )
    try:
        warehouse.announce(about["sql"])
        rows = warehouse.query(f"SELECT * FROM ({about['sql']}) AS t")
    except ServiceError:  # a relation or a column of the training's events is not here
        raise DataError(reason) from None
    rows = with_feature_types(rows, options.problem.key, model.features)
    training = rows.to_pandas()
    training["anchor_ts"] = pd.to_datetime(training["anchor_ts"], utc=True)
    since, until = (pd.Timestamp(about[name]).tz_convert("UTC") for name in ("since", "until"))
    if SCORE not in training:
        training[SCORE] = model.predict(rows)
    training = training[training["anchor_ts"] <= until]
    is_same = abs(len(training) - about["rows"]) <= _LATE_ROWS * about["rows"]
    if not is_same or training["anchor_ts"].min() != since:
        raise DataError(reason)
    return training
