"""The weekly job: a window of events in, a promoted model or a reason why not out.

The command line, ``make retrain`` and notebook 03 run this.

Example: ``run(settings, Job(since=moment("--since", "2026-01-01")))`` -> an ``Outcome``.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snowplow_signals import StreamAttributeGroup

from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import SettingsError
from prospect_lib.jobs.retrain import COMPARISON, REPORT, Outcome, retrain
from prospect_lib.monitoring.outcomes import served_anchors
from prospect_lib.settings import Settings
from prospect_lib.training_set import SITE_ANCHORS, Anchors
from prospect_lib.training_set.extract import TrainingSet, extract
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse
from prospect_lib.warehouse.sample import sample_events
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse

SANDBOX, SNOWFLAKE, SAMPLE = "sandbox", "snowflake", "sample"


@dataclass(frozen=True)
class Job:
    """Which events to train on, and where the models go.

    Attributes:
        backend: ``sandbox``, ``snowflake`` or ``sample`` (Snowplow's published one);
            ``None`` takes Snowflake where its secrets are set, else the sandbox.
        file: a Parquet or CSV file of atomic events instead.
        since: no row is earlier; ``None`` is the beginning of the data.
        until: as if the data ended here; ``None`` is their end.
        out: the folder of models; by default ``models`` in PROSPECT_HOME, and
            ``models-sample`` for the sample, whose events support fewer attributes.
        served: train on the moments that were served and whose outcome is known.
    """

    backend: str | None = None
    file: Path | str | None = None
    since: datetime | None = None
    until: datetime | None = None
    out: Path | None = None
    served: bool = False

    def source(self, settings: Settings) -> str:
        """The backend in use; empty for a file.

        Raises:
            SettingsError: both a file and a backend are given, or an unknown backend.
        """
        if self.file and self.backend:
            raise SettingsError(
                f"--data {self.file} and --backend {self.backend} exclude each other: give one."
            )
        chosen = SAMPLE if self.file == SAMPLE else self.backend
        if self.file and chosen is None:
            return ""
        if chosen is None:
            return SNOWFLAKE if settings.warehouse_backend == "snowflake" else SANDBOX
        if chosen not in (SANDBOX, SNOWFLAKE, SAMPLE):
            raise SettingsError(f"backend {chosen!r}: expected sandbox, snowflake or sample.")
        return chosen

    def group(self, settings: Settings) -> StreamAttributeGroup:
        """The attributes whose features are trained on."""
        return sample_group if self.source(settings) == SAMPLE else prospect_group

    def models(self, settings: Settings) -> Path:
        """The folder of models."""
        name = "models-sample" if self.source(settings) == SAMPLE else "models"
        return self.out or settings.home / name

    def training_set(self, settings: Settings) -> TrainingSet:
        """Rows at the moments at which the website asks for a score, and their provenance.

        Raises:
            DataError: there are no events, or none in the window.
        """
        source = self.source(settings)
        site = source in (SANDBOX, SNOWFLAKE)
        anchors = replace(SITE_ANCHORS if site else Anchors(), since=self.since, until=self.until)
        warehouse = self._open(settings, source)
        try:
            if self.served:
                group = self.group(settings)
                folder = settings.home / "served"
                served = served_anchors(
                    warehouse, folder, group, since=self.since, until=self.until
                )
                return extract(warehouse, group, served)
            truth = settings.home / "truth" if source == SANDBOX else None
            return extract(warehouse, self.group(settings), anchors, truth=truth)
        finally:
            warehouse.close()

    def _open(self, settings: Settings, source: str) -> Warehouse:
        if source == SNOWFLAKE:
            return SnowflakeWarehouse.connect(settings)
        if source == SANDBOX:
            return DuckDBWarehouse.over_home(settings.home)
        path = sample_events(settings.home) if source == SAMPLE else Path(str(self.file))
        return DuckDBWarehouse.over_file(path)


def run(
    settings: Settings, job: Job, *, say: Callable[[str], None] = print, **options: Any
) -> Outcome:
    """Train, judge, compare, promote; says what it did, and last one line of JSON.

    Args:
        options: for ``retrain``: promote, tries, value, cost, capacity, seed ...
    """
    rows = job.training_set(settings)
    found = rows.manifest
    say(
        f"Training set ({job.source(settings) or job.file}): {found['rows']:,} moments from "
        f"{found['since'][:16]} to {found['until'][:16]} UTC, {found['positives']:,} followed by "
        "the goal."
    )
    outcome = retrain(
        rows.table,
        job.models(settings),
        group=job.group(settings),
        about=rows.manifest,
        **options,
    )
    for line in told(outcome):
        say(line)
    return outcome


def told(outcome: Outcome) -> list[str]:
    """What came of it, for people, and in the last line for a scheduler."""
    pages = [REPORT, *([COMPARISON] if outcome.differences else [])]
    again = "The same data gave the same bytes as an earlier run: nothing is new."
    return [
        outcome.found.summary(),
        f"Model {outcome.version}: {outcome.because.rstrip('.')}.",
        *([again] if outcome.repeated else []),
        *(f"See {outcome.folder / page}" for page in pages),
        json.dumps(
            {
                "version": outcome.version,
                "promoted": outcome.promoted,
                "exit_code": outcome.exit_code,
                "repeated": outcome.repeated,
                "auc": round(outcome.found.auc, 4),
            }
        ),
    ]


def moment(option: str, text: str | None) -> datetime | None:
    """A date or date and time as UTC; without a zone it is UTC.

    Example: ``moment("--since", "2026-01-31")`` -> midnight at its beginning.

    Raises:
        SettingsError: it is neither.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"{option} {text!r}: expected a date or a date and time, such as 2026-01-31 or "
            "2026-01-31T06:00Z."
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
