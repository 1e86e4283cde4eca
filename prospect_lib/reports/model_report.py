"""``report.html`` and ``comparison.html``: a model, and two models compared."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prospect_lib.evaluation.comparison import CHALLENGER, CHAMPION, Comparison
from prospect_lib.evaluation.evaluate import Evaluation
from prospect_lib.evaluation.metrics import TITLES
from prospect_lib.evaluation.threshold import Threshold
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import Split
from prospect_lib.plots import evaluation as plots
from prospect_lib.plots.explanations import importance, length
from prospect_lib.reports.pages import render


def report_html(
    model: ProspectModel, evaluation: Evaluation, split: Split, threshold: Threshold
) -> str:
    """Return a page with the pictures and figures of one model.

    Args:
        model: the model.
        evaluation: its figures on the test rows.
        split: the rows it was trained and tested on.
        threshold: the chosen threshold.

    Example: ``report_html(model, evaluation, split, choose_threshold(evaluation))``
    """
    return render(
        "report.html.j2",
        title=f"Prospect model {model.version}",
        data=model.manifest["data"],
        about=evaluation.about,
        evaluation=evaluation,
        label=_label(model),
        notes=_notes(model, evaluation),
        threshold=threshold,
        metrics=list(next(iter(evaluation.metrics.values()))),
        titles=TITLES,
        facts=_facts(model),
        pictures={
            "split": plots.split_bands([split]),
            "curves": plots.curves(evaluation),
            "reliability": plots.reliability(evaluation),
            "lift": plots.lift(evaluation),
            "threshold": plots.threshold(evaluation, threshold),
            "importance": importance(model, split.test),
        },
    )


def comparison_html(
    champion: ProspectModel, challenger: ProspectModel, comparison: Comparison, reason: str
) -> str:
    """Return a page that compares champion and challenger.

    Args:
        champion: the promoted model.
        challenger: the new model.
        comparison: both on the same rows, or the fits that were judged instead of them.
        reason: the result in words.

    Example: ``comparison_html(champion, challenger, compare(champion, challenger, table), "…")``
    """
    models = {CHAMPION: champion, CHALLENGER: challenger}
    values = comparison.metrics()
    on_one_scale = {n: d for n, d in comparison.differences.items() if not n.startswith("lift")}
    return render(
        "comparison.html.j2",
        title="Champion and challenger",
        reason=reason,
        label=_label(challenger),
        about=comparison.about,
        metrics=[
            [TITLES[name], *(f"{values[role][name]:.4f}" for role in models), f"{interval:.4f}"]
            for name, interval in comparison.differences.items()
        ],
        trained_on=[_training_data(role, model) for role, model in models.items()],
        pictures={
            "differences": plots.differences(on_one_scale),
            "curves": plots.comparison(comparison),
        },
    )


def _training_data(role: str, model: ProspectModel) -> list[str]:
    judged, rounds = model.manifest.get("judged"), model.manifest["recipe"]["rounds"]
    data = judged["data"] if judged else model.manifest["data"]
    period = f"{data['since'][:16]} to {data['until'][:16]}"
    sizes = [f"{data[key]:,}" for key in ("rows", "positives", "visitors")]
    return [role, model.version, period, *sizes, str(rounds)]


def _facts(model: ProspectModel) -> dict[str, Any]:
    manifest, recipe = model.manifest, model.manifest["recipe"]
    return {
        "scoring problem": f"{manifest['problem']}, one score per {manifest['key']}",
        "attribute group": "{name} version {version}, hash {hash}".format(**manifest["group"]),
        "label": _label(model),
        **_provenance(manifest["training_set"]),
        "training": _listed(
            {"trees": recipe["rounds"], "seed": recipe["seed"], **recipe["params"]}
        ),
        "never lower the score": ", ".join(recipe["never_lower"]),
        "calibration": manifest["calibration"]["method"],
        "features": ", ".join(model.encoder.names),
        "packages": _listed(manifest["packages"]),
    }


def _label(model: ProspectModel) -> str:
    """Return what a score is the probability of, in words."""
    event, seconds = (model.manifest["label"][name] for name in ("event", "horizon_seconds"))
    if seconds is None:
        return f"{event} in the rest of the session"
    return f"{event} within {length(timedelta(seconds=seconds))}"


def _notes(model: ProspectModel, evaluation: Evaluation) -> list[str]:
    """Return what was left out, of the training set and of the model."""
    about = model.manifest["training_set"] or {}
    return [*about.get("notes", ()), *evaluation.notes]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _provenance(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the origin of the training set, enough to build it again."""
    if about is None:
        return {}
    names = {
        "since": "rows since",
        "until": "rows until",
        "anchors": "anchors",
        "sql_sha256": "SHA-256 of the SQL (its text is in manifest.json)",
    }
    return {title: about[name] for name, title in names.items() if name in about}
