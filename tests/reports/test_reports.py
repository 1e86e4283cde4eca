"""The HTML pages: complete, escaped, readable offline and without the pictures."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from prospect_lib.evaluation.comparison import compare
from prospect_lib.evaluation.evaluate import evaluate
from prospect_lib.evaluation.threshold import choose_threshold
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import honest_split
from prospect_lib.model.training import Recipe
from prospect_lib.reports.model_report import comparison_html, report_html
from prospect_lib.reports.pages import render
from tests.support.synthetic import FAST, training_table

HOSTILE = "<script>alert('a & b')</script>"


class Page(HTMLParser):
    """The images, headings and table cells of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))


@pytest.fixture(scope="module")
def table():
    return training_table(visitors=1000, views=6)


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


def test_the_report_names_the_origin_of_the_rows(trained):
    model, *others = trained
    about = {"since": "2026-03-01", "until": "2026-04-10", "anchors": HOSTILE, "sql_sha256": "9f"}
    known = ProspectModel(model.booster, {**model.manifest, "training_set": about}, model.features)
    html = report_html(known, *others)
    assert "rows since" in html and "SHA-256 of the SQL" in html
    assert HOSTILE not in html and "&lt;script&gt;" in html


def test_reasons_are_escaped(trained, table):
    model, evaluation, split, threshold = trained
    html = report_html(model, evaluation, split, replace(threshold, reason=HOSTILE))
    assert "script" not in Page(html).tags
    html = comparison_html(model, model, compare(model, model, table), HOSTILE)
    assert "script" not in Page(html).tags and "&lt;script&gt;" in html


def test_a_comparison_shows_both_models_and_their_training_data(trained, table):
    model = trained[0]
    html = comparison_html(model, model, compare(model, model, table), "it is the same model")
    assert "it is the same model." in html
    assert html.count(model.version) == 2
    assert [bool(image["alt"]) for image in Page(html).images] == [True, True]


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="title"):
        render("base.html.j2")
