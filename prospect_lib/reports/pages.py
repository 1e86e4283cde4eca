"""Rendering of reports: one HTML file each, with the pictures inside, readable offline."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prospect_lib.plots.style import Picture


def render(template: str, **values: Any) -> str:
    """Fill in a template of ``reports/templates``; every value is escaped.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.

    Example: ``render("report.html.j2", title="Prospect model", …)``
    """
    return _templates.get_template(template).render(values)


def data_uri(picture: Picture) -> str:
    """Return a picture as a ``data:`` address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(picture.png()).decode()


def _thousands(number: float) -> str:
    return f"{number:,.0f}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_templates.filters |= {"data_uri": data_uri, "thousands": _thousands, "percent": _percent}
