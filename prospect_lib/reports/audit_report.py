"""``audit.html``: served values, outcomes and visitor drift."""

from typing import Any

import pandas as pd

from prospect_lib.monitoring.audit import AuditReport
from prospect_lib.monitoring.backfill import BackfillReport
from prospect_lib.monitoring.causes import CAUSES, EXPECTED_CAUSES
from prospect_lib.monitoring.drift import DriftReport
from prospect_lib.monitoring.outcomes import OutcomeReport
from prospect_lib.plots import monitoring as plots
from prospect_lib.reports.pages import render


def audit_html(
    report: AuditReport,
    outcomes: OutcomeReport | None = None,
    drift: DriftReport | None = None,
    backfill: BackfillReport | None = None,
) -> str:
    """Return the page of an audit.

    Args:
        report: served values compared with the warehouse.
        outcomes: scores compared with what followed; ``None`` if not known yet.
        drift: visitors compared with the training set; ``None`` without a training set.
        backfill: visitors with events before Signals started counting; ``None`` if it always
            counted.

    Example: ``audit_html(audit(warehouse, served))``
    """
    effect = outcomes.effect() if outcomes else None
    return render(
        "audit.html.j2",
        title="Audit of served scores",
        report=report,
        outcomes=outcomes,
        drift=drift,
        backfill=backfill,
        causes=_causes(report),
        mismatches=_mismatches(report),
        examples=_examples(report),
        outcome_tables=_outcome_tables(outcomes) if outcomes else {},
        pictures={
            "mismatches": plots.mismatches(report),
            "outcomes": outcomes and plots.live_calibration(outcomes),
            "effect": effect and plots.effect(effect),
            "drift": drift and plots.drift(drift),
        },
    )


def _causes(report: AuditReport) -> list[list[str]]:
    return [
        [
            report.label(cause),
            f"{count:,}",
            "expected, in small numbers" if cause in EXPECTED_CAUSES else "",
            CAUSES[cause],
        ]
        for cause, count in report.causes.items()
        if count
    ]


def _mismatches(report: AuditReport) -> list[list[str]]:
    table = report.attributes[report.attributes["mismatches"] > 0]
    return [
        [str(name), f"{row['mismatches']:,.0f}", f"{row['rate']:.2%}"]
        for name, row in table.iterrows()
    ]


def _examples(report: AuditReport) -> dict[str, Any]:
    rows = [[str(value) for value in row] for row in report.examples.itertuples(index=False)]
    return {"head": list(report.examples.columns), "rows": rows}


def _outcome_tables(outcomes: OutcomeReport) -> dict[str, list[list[str]]]:
    tables = {"day": _outcome_rows(outcomes.by("day"))}
    return tables | {name: _outcome_rows(outcomes.by(name)) for name in outcomes.segments}


def _outcome_rows(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            str(index), f"{row.scores:,.0f}", f"{row.goals:,.0f}", f"{row.predicted:.2%}",
            f"{row.observed:.2%}", f"{row.acted:,.0f}",
            "" if pd.isna(row.precision) else f"{row.precision:.1%}",
        ]
        for index, row in table.iterrows()
    ]  # fmt: skip
