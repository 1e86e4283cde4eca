"""``report.html`` and ``comparison.html``: one file each, pictures inside, no network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from prospect_lib import plots
from prospect_lib.canvas import Picture
from prospect_lib.decision import Threshold
from prospect_lib.evaluation import Evaluation
from prospect_lib.explanations import importance
from prospect_lib.metrics import Interval
from prospect_lib.model import ProspectModel
from prospect_lib.splits import Split

_PAGE = """<!doctype html>
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
        _text(lead),
        _section("Who was trained on, who was tested, when", _image(plots.split_bands([split]))),
        _section("Beside its baselines", _metrics_table(found), _image(plots.curves(found))),
        _section("Can a probability be taken at its word?", _image(plots.reliability(found))),
        _section("What calling only the top few brings", _image(plots.lift(found))),
        _section(
            "From which score to act",
            _text(act),
            _image(plots.threshold(found, chosen)),
        ),
        _section("What moves the score", _image(importance(model, split.test))),
        _section("What this model is", _facts(model)),
    ]
    return _PAGE.format(title=f"Prospect model {escape(model.version)}", body="\n".join(parts))


def comparison_html(
    names: Mapping[str, str],
    differences: Mapping[str, Interval],
    metrics: Mapping[str, Mapping[str, float]],
    verdict: str,
) -> str:
    """Champion against challenger on one page.

    Args:
        names: ``champion`` and ``challenger`` to their versions.
        differences: challenger minus champion, by metric.
        metrics: of both on the same rows, by role and metric.
        verdict: what was decided and why.
    """
    head = ["metric", *(f"{role} {version}" for role, version in names.items()), "difference"]
    rows = [
        [metric, *(f"{metrics[role][metric]:.4f}" for role in names), str(interval)]
        for metric, interval in differences.items()
    ]
    parts = [_text(verdict), _image(plots.challenge(differences)), _table(head, rows)]
    return _PAGE.format(title="Champion against challenger", body="\n".join(parts))


def _metrics_table(found: Evaluation) -> str:
    names = list(next(iter(found.metrics.values())))
    rows = [[model, *(str(values[n]) for n in names)] for model, values in found.metrics.items()]
    share = found.share_of_ceiling
    note = "" if share is None else _text(f"Share of the achievable log-loss gain: {share:.0%}.")
    return _table(["", *names], rows) + note


def _facts(model: ProspectModel) -> str:
    manifest = model.manifest
    facts: dict[str, Any] = {
        "attribute group": "{name} version {version}, hash {hash}".format(**manifest["group"]),
        "label": manifest["label"],
        "recipe": manifest["recipe"],
        "calibration": manifest["calibration"]["method"],
        "features": ", ".join(model.encoder.names),
        "packages": ", ".join(f"{k} {v}" for k, v in manifest["packages"].items()),
    }
    return _table(["", ""], [[name, str(fact)] for name, fact in facts.items()])


def _section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _image(picture: Picture) -> str:
    content = base64.b64encode(picture.png()).decode()
    titles = " / ".join(title for axes in picture.axes if (title := axes.get_title(loc="left")))
    return f'<img alt="{escape(titles)}" src="data:image/png;base64,{content}">'
