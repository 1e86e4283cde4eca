"""``report.html`` and ``comparison.html``: one file each, pictures inside, no network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from prospect_lib.evaluation.comparison import CHALLENGER, CHAMPION, Comparison
from prospect_lib.evaluation.evaluate import Evaluation
from prospect_lib.evaluation.threshold import Threshold
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import Split
from prospect_lib.plots import evaluation as plots
from prospect_lib.plots.explanations import importance
from prospect_lib.plots.style import Picture

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 3rem auto; }}
body {{ padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; }} h2 {{ font-size: 1.15rem; margin-top: 2.5rem; }}
img {{ max-width: 100%; height: auto; border-radius: 6px; }}
table {{ border-collapse: collapse; font-size: .9rem; display: block; overflow-x: auto; }}
td, th {{ padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid #8884; }}
td small {{ opacity: .7; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def report_html(model: ProspectModel, found: Evaluation, split: Split, chosen: Threshold) -> str:
    """The pictures and the numbers of one model, as one page that opens offline."""
    data = model.manifest["data"]
    lead = (
        f"Trained on {data['rows']:,} moments of {data['visitors']:,} visitors, "
        f"{data['since'][:10]} to {data['until'][:10]}. Everything below is measured on "
        f"{found.about['test_rows']:,} later moments of {found.about['test_visitors']:,} visitors "
        "that the model has not seen; brackets are 95% intervals over visitors."
    )
    act = (
        f"Act from a score of {chosen.score:.3f} on ({chosen.because}): {chosen.precision:.1%} of "
        f"those moments are followed by the goal, {chosen.recall:.1%} of all goals are reached, "
        f"about {chosen.per_day:.1f} visitors a day."
    )
    parts = [
        text(lead),
        section("Who was trained on, who was tested, when", image(plots.split_bands([split]))),
        section("Beside its baselines", _metrics_table(found), image(plots.curves(found))),
        section("Can a probability be taken at its word?", image(plots.reliability(found))),
        section("What calling only the top few brings", image(plots.lift(found))),
        section(
            "From which score to act",
            text(act),
            image(plots.threshold(found, chosen)),
        ),
        section("What moves the score", image(importance(model, split.test))),
        section("What this model is", _facts(model)),
    ]
    return PAGE.format(title=f"Prospect model {escape(model.version)}", body="\n".join(parts))


def comparison_html(
    champion: ProspectModel, challenger: ProspectModel, found: Comparison, verdict: str
) -> str:
    """Champion against challenger on one page; ``verdict``: what was decided and why."""
    models = {CHAMPION: champion, CHALLENGER: challenger}
    about = found.about
    lead = (
        f"Both scored the same {about['rows']:,} moments ({about['positives']:,} followed by the "
        f"goal) of {about['visitors']:,} visitors, {about['since'][:16]} to {about['until'][:16]} "
        "UTC: later than anything, and of nobody, that either was trained on. Brackets are 95% "
        "intervals over visitors."
    )
    metrics = found.metrics()
    on_one_scale = {n: d for n, d in found.differences.items() if not n.startswith("lift")}
    rows = [
        [metric, *(f"{metrics[role][metric]:.4f}" for role in models), f"{interval:.4f}"]
        for metric, interval in found.differences.items()
    ]
    parts = [
        text(f"Verdict: {verdict}."),
        text(lead),
        image(plots.differences(on_one_scale)),
        image(plots.comparison(found)),
        section("The figures", table(["metric", *models, "difference"], rows)),
        section("What each was trained on", _trained_on(models)),
    ]
    return PAGE.format(title="Champion against challenger", body="\n".join(parts))


def _trained_on(models: Mapping[str, ProspectModel]) -> str:
    rows = []
    for role, model in models.items():
        data, recipe = model.manifest["data"], model.manifest["recipe"]
        window = f"{data['since'][:16]} to {data['until'][:16]}"
        sizes = [f"{data[key]:,}" for key in ("rows", "positives", "visitors")]
        rows.append([role, model.version, window, *sizes, str(recipe["rounds"])])
    head = ["", "version", "window (UTC)", "moments", "positive", "visitors", "trees"]
    return table(head, rows)


def _metrics_table(found: Evaluation) -> str:
    names = list(next(iter(found.metrics.values())))
    rows = [[model, *(str(values[n]) for n in names)] for model, values in found.metrics.items()]
    share = found.share_of_ceiling
    note = "" if share is None else text(f"Share of the achievable log-loss gain: {share:.0%}.")
    return table(["", *names], rows) + note


def _facts(model: ProspectModel) -> str:
    manifest = model.manifest
    facts: dict[str, Any] = {
        "attribute group": "{name} version {version}, hash {hash}".format(**manifest["group"]),
        "label": manifest["label"],
        **_provenance(manifest["training_set"]),
        "recipe": manifest["recipe"],
        "calibration": manifest["calibration"]["method"],
        "features": ", ".join(model.encoder.names),
        "packages": ", ".join(f"{k} {v}" for k, v in manifest["packages"].items()),
    }
    return table(["", ""], [[name, str(fact)] for name, fact in facts.items()])


def _provenance(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Where the rows came from, enough to build them again."""
    if about is None:
        return {}
    names = {"since": "rows since", "until": "rows until", "anchors": "anchors"}
    names |= {"sql_sha256": "SQL, SHA-256 (its text is in manifest.json)"}
    return {title: about[name] for name, title in names.items() if name in about}


def section(title: str, *parts: str) -> str:
    """A heading and what is below it, which is HTML already."""
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts below their headings."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def image(picture: Picture) -> str:
    """A picture inside the page."""
    content = base64.b64encode(picture.png()).decode()
    titles = " / ".join(title for axes in picture.axes if (title := axes.get_title(loc="left")))
    return f'<img alt="{escape(titles)}" src="data:image/png;base64,{content}">'
