"""The HTML pages: complete, escaped, readable offline and without the pictures."""

from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pytest
from jinja2 import UndefinedError
from playwright.sync_api import expect

from prospect_lib.evaluation.comparison import compare
from prospect_lib.evaluation.evaluate import evaluate
from prospect_lib.evaluation.threshold import choose_threshold
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import honest_split
from prospect_lib.model.training import Recipe
from prospect_lib.monitoring.audit import AuditReport
from prospect_lib.monitoring.causes import UNEXPLAINED
from prospect_lib.monitoring.drift import DriftReport
from prospect_lib.monitoring.outcomes import OutcomeReport
from prospect_lib.monitoring.search import Explanation
from prospect_lib.reports.audit_report import audit_html
from prospect_lib.reports.model_report import comparison_html, report_html
from prospect_lib.reports.pages import render
from tests.support.hostile import SCRIPT_ADDRESS, SCRIPTS, page_that_runs_no_script
from tests.support.synthetic import FAST, training_table


class Page(HTMLParser):
    """The images of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))


@pytest.fixture(scope="module")
def table():
    """Rows with a channel and a page that strangers have named."""
    rows = training_table(visitors=1000, views=6)
    for column, named in (("first_mkt_medium_l30d", "cpc"), ("last_page_path", "/demo")):
        at, text = rows.column_names.index(column), SCRIPTS + SCRIPT_ADDRESS
        rows = rows.set_column(at, column, pc.replace_substring(rows[column], named, text))
    return rows


@pytest.fixture(scope="module")
def trained(table):
    split = honest_split(table)
    model, evaluation = evaluate(
        split, recipe=Recipe(FAST, rounds=20), calibrate=False, resamples=10
    )
    return model, evaluation, split, choose_threshold(evaluation)


def test_the_report_of_a_model_describes_each_picture_in_words(trained):
    page = Page(report_html(*trained))
    assert len(page.images) == 6
    for image in page.images:
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"].split()) > 10


def test_the_report_explains_its_metrics_and_the_share_of_the_ceiling(trained):
    html = report_html(*trained)
    for title in ("ROC-AUC", "PR-AUC", "log loss", "Brier score", "lift of the top 10%"):
        assert title in html
    assert "Share of the best observable log-loss gain" in html
    assert "roc_auc" not in html


def test_text_of_strangers_in_a_report_is_shown_and_never_run(
    trained, table, tmp_path: Path, browser
):
    """In every field that has text: of the manifest, notes, reasons, values and their names."""
    model, evaluation, split, threshold = trained
    text = SCRIPTS + SCRIPT_ADDRESS
    about = dict.fromkeys(("since", "until", "anchors", "sql_sha256"), text) | {"notes": [text]}
    named = {"problem": text, "key": text, "packages": {text: text}, "training_set": about}
    named["group"] = {"name": text, "version": text, "hash": text}
    named["label"] = {"event": text, "horizon_seconds": None}
    named["calibration"] = {**model.manifest["calibration"], "method": text}
    known = ProspectModel(model.booster, model.manifest, model.features)
    known.manifest |= named
    evaluation = replace(evaluation, notes=(text,))
    metrics = {**evaluation.metrics, text: next(iter(evaluation.metrics.values()))}
    pages = {
        "report": report_html(
            known, replace(evaluation, metrics=metrics), split, replace(threshold, reason=text)
        ),
        "comparison": comparison_html(known, known, compare(model, model, table), text),
        "audit": hostile_audit(text),
    }
    with page_that_runs_no_script(browser) as page:
        for name, html in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(html)
            page.goto(file.as_uri())
            expect(page.locator("body")).to_contain_text("<img src=x")
            expect(page.locator("script, [href], [onerror]")).to_have_count(0)
            if name == "report":
                expect(page.locator("body")).to_contain_text("SHA-256 of the SQL")


def hostile_audit(text: str) -> str:
    """Return the page of an audit with this text in every name and value."""
    at, wrong = datetime(2026, 3, 1), pd.DataFrame({"mismatches": [1], "rate": [0.5]}, index=[text])
    examples = {"cause": [text], text: [text], "served": [text], "recomputed": [SCRIPT_ADDRESS]}
    report = AuditReport(
        scores=2,
        values=2,
        since=at,
        until=at,
        attributes=wrong.assign(**{UNEXPLAINED: 1}),
        causes={UNEXPLAINED: 1},
        examples=pd.DataFrame(examples),
        findings=(text,),
        explanations=(Explanation(UNEXPLAINED, text, 1),),
    )
    row = {"day": "2026-03-01", "score": 0.1, "act": True, "held_out": False, "label": True}
    rows = pd.DataFrame(
        [{**row, "user": "u", "served_session": "", "holdout_share": 0.0, text: text}] * 3
    )
    outcomes = OutcomeReport(rows, 0, timedelta(hours=1), "user", segments=(text,))
    moved = {"psi": [1.0], "noise": [0.1], "alarm": [True], "moved": [text]}
    drift = DriftReport(pd.DataFrame(moved, index=[text]), visitors=1, needed=2)
    return audit_html(report, outcomes, drift)


def test_a_comparison_shows_both_models_and_their_training_data(trained, table):
    model = trained[0]
    html = comparison_html(model, model, compare(model, model, table), "it is the same model")
    assert "it is the same model." in html
    assert html.count(model.version) == 2
    assert [bool(image["alt"]) for image in Page(html).images] == [True, True]


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="title"):
        render("base.html.j2")
