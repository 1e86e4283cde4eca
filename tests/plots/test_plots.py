"""Every picture, its axes and titles."""

import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import numpy as np
import pytest
from matplotlib.dates import num2date
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from prospect_lib.evaluation.evaluate import evaluate, evaluate_forward
from prospect_lib.evaluation.metrics import Interval
from prospect_lib.evaluation.threshold import choose_threshold
from prospect_lib.model.prospect_model import Score
from prospect_lib.model.splits import forward_splits, honest_split, random_split
from prospect_lib.model.training import Recipe
from prospect_lib.plots import evaluation as plots
from prospect_lib.plots import explanations
from tests.support.synthetic import training_table

QUICK = {"recipe": Recipe(rounds=20), "calibrate": False, "resamples": 10}
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
SCORE = Score(0.2, {"a": 3, "b": None}, {"a": 1.5, "b": -0.4, "__sum_of_others": 0.0}, -2.5)


@pytest.fixture(scope="module")
def table():
    return training_table(visitors=400)


@pytest.fixture(scope="module")
def pictures(table):
    split, splits = honest_split(table), list(forward_splits(table, splits=2))
    model, evaluation = evaluate(split, **QUICK)
    steps = evaluate_forward(table, splits=2, **QUICK)
    rows = evaluate(random_split(table), **QUICK)[1]
    return {
        "split_bands": plots.split_bands(splits),
        "reliability": plots.reliability(evaluation),
        "curves": plots.curves(evaluation),
        "lift": plots.lift(evaluation),
        "threshold": plots.threshold(evaluation, choose_threshold(evaluation)),
        "side_by_side": plots.side_by_side({"random rows": rows, "honest": evaluation}),
        "forward": plots.forward(steps),
        "differences": plots.differences({"log_loss": Interval(-0.1, -0.2, 0.1)}),
        "importance": explanations.importance(model, split.test),
        "waterfall": explanations.waterfall(SCORE),
        "timeline": explanations.timeline(visitor_events(converts=True), AT),
        "running_total": explanations.running_total(
            [AT - timedelta(days=k) for k in range(12)], AT
        ),
    }


def visitor_events(converts: bool):
    late = timedelta(minutes=59 if converts else 61)
    names = ["page_view", "page_view", "submit_form"]
    times = [AT - timedelta(days=9), AT, AT + late]
    return [{"derived_tstamp": t, "event_name": n} for t, n in zip(times, names, strict=True)]


NAMES = ["split_bands", "reliability", "curves", "lift", "threshold", "side_by_side", "forward"]
NAMES += ["differences", "importance", "waterfall", "timeline", "running_total"]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_a_background_of_its_own_and_labelled_axes(pictures, name):
    picture = pictures[name]
    image = np.array(Image.open(io.BytesIO(picture.small_png())).convert("RGB"))
    assert image[0, 0].tolist() == [252, 251, 248]  # opaque: legible in a dark notebook
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    for axes in picture.axes:
        assert axes.get_xlabel() or axes.get_title(loc="left")
        shared = len(axes.get_shared_y_axes().get_siblings(axes)) > 1
        assert shared or axes.get_ylabel() or axes.get_yticklabels()


def test_pictures_have_alternative_text_that_a_page_of_a_notebook_keeps(pictures):
    texts = [picture.alt for picture in pictures.values()]
    assert all(len(alt.split()) > 10 and alt.endswith(".") for alt in texts)
    html = [picture._repr_html_() for picture in pictures.values()]
    outputs = [new_output("display_data", {"text/html": image}) for image in html]
    page, _ = HTMLExporter().from_notebook_node(
        new_notebook(cells=[new_code_cell("pictures", outputs=outputs)])
    )
    assert [unescape(alt) for alt in re.findall(r'<img alt="([^"]*)"', page)] == texts


def test_the_timeline_enlarges_the_visit_of_the_anchor():
    events = visitor_events(converts=True)
    events.insert(1, {"derived_tstamp": AT - timedelta(minutes=20), "event_name": "page_view"})
    events.insert(1, {"derived_tstamp": AT - timedelta(minutes=51), "event_name": "page_view"})
    panel = explanations.timeline(events, AT).axes[1]
    start, end = (num2date(edge) for edge in panel.get_xlim())
    assert AT - timedelta(minutes=24) < start < AT - timedelta(minutes=20)
    assert AT + timedelta(hours=1) < end < AT + timedelta(minutes=64)


def test_the_waterfall_leads_from_the_base_value_to_the_score():
    bars = list(explanations.waterfall(SCORE).axes[0].patches)
    assert bars[0].get_x() == pytest.approx(SCORE.base_value)
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(SCORE.log_odds, abs=0.02)


@pytest.mark.parametrize("converts", [True, False])
def test_the_title_of_the_timeline_states_the_label(converts):
    title = explanations.timeline(visitor_events(converts), AT).axes[0].get_title(loc="left")
    assert title.startswith("Label yes" if converts else "Label no")


def test_losses_are_reversed_so_that_right_is_better():
    axes = plots.differences({"log_loss": Interval(-0.1, -0.2, -0.05)}).axes[0]
    assert axes.lines[1].get_xdata()[0] == pytest.approx(0.1)


def test_contributions_of_one_attribute_are_added_up(table):
    model, _ = evaluate(honest_split(table), **QUICK)
    shares = explanations.by_attribute(model, table)
    assert "num_conversions_l7d" in shares
    total = sum(shares.values()) + model.contributions(table)[:, -1]
    np.testing.assert_allclose(total, model.margins(table), atol=1e-4)


def test_a_count_is_the_total_now_minus_the_total_before_its_window() -> None:
    moments = [AT + timedelta(days=days) for days in (-8, -7, 0, 1)]
    title = explanations.running_total(moments, AT).axes[0].get_title(loc="left")
    assert title == "3 now minus 1 before: 2 within 7 days"
