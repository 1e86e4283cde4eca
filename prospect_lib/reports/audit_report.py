"""``audit.html``: what was served, what came of it and who comes now, as one offline page."""

import pandas as pd

from prospect_lib.monitoring.audit import AuditReport
from prospect_lib.monitoring.backfill import BackfillReport
from prospect_lib.monitoring.causes import CAUSES, EXPECTED_CAUSES
from prospect_lib.monitoring.drift import DriftReport
from prospect_lib.monitoring.outcomes import OutcomeReport
from prospect_lib.plots import monitoring as plots
from prospect_lib.reports.model_report import PAGE, image, section, table, text

_SEGMENT = "latest_device_class"


def audit_html(
    report: AuditReport,
    outcomes: OutcomeReport | None = None,
    drift: DriftReport | None = None,
    backfill: BackfillReport | None = None,
) -> str:
    """The whole page; parts that are not known yet say so."""
    window = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    body = [
        text(f"Served scores from {window}. {report.summary()}"),
        _values(report),
        _outcomes(outcomes),
        _drift(drift),
    ]
    if backfill is not None:
        body.append(section("Histories that Signals did not know", text(backfill.summary())))
    return PAGE.format(title="Audit of served scores", body="\n".join(body))


def _values(report: AuditReport) -> str:
    causes = [
        [
            cause,
            f"{count:,}",
            "expected, in small numbers" if cause in EXPECTED_CAUSES else "",
            CAUSES[cause],
        ]
        for cause, count in report.causes.items()
        if count
    ]
    found = report.attributes[report.attributes["mismatches"] > 0]
    rows = [
        [str(n), f"{row['mismatches']:,.0f}", f"{row['rate']:.2%}"] for n, row in found.iterrows()
    ]
    examples = [[str(value) for value in row] for row in report.examples.itertuples(index=False)]
    parts = [image(plots.mismatches(report)), *(text(line) for line in report.findings)]
    if causes:
        parts += [
            table(["cause", "scores", "", "what to do"], causes),
            table(["attribute", "values that differ", "share"], rows),
            text("Examples:"),
            table(list(report.examples.columns), examples),
        ]
    return section("Are they what training sees?", *parts)


def _outcomes(found: OutcomeReport | None) -> str:
    title = "Did they come true?"
    if found is None:
        return section(title, text("Not known yet: the hour after the scores has not passed."))
    days = found.by("day")
    tables = [_by(days, "day")]
    if _SEGMENT in found.rows:
        tables.append(_by(found.by(_SEGMENT), "device"))
    return section(title, image(plots.live_calibration(found)), text(found.summary()), *tables)


def _by(found: pd.DataFrame, name: str) -> str:
    rows = [
        [
            str(index), f"{row.scores:,.0f}", f"{row.goals:,.0f}", f"{row.predicted:.2%}",
            f"{row.observed:.2%}", f"{row.acted:,.0f}",
            "" if pd.isna(row.precision) else f"{row.precision:.1%}",
        ]
        for index, row in found.iterrows()
    ]  # fmt: skip
    return table([name, "scores", "goals", "predicted", "observed", "acted on", "precision"], rows)


def _drift(found: DriftReport | None) -> str:
    title = "Who comes now?"
    if found is None:
        return section(title, text("Not compared: no promoted model knows its training rows."))
    lines = [text(line) for line in found.advice()]
    return section(title, image(plots.drift(found)), text(found.summary()), *lines)
