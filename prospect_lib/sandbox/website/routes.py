"""The demo website: the made-up company Samphire, with the real Snowplow tracker on it.

A Flask blueprint for the root of the sandbox. The pages share one layout and differ in their
text. The tracker is served from ``website/node_modules`` after ``npm ci``; otherwise the same
pinned files are loaded from a public CDN, and the browser checks them against the hashes below.

The application that registers it sets ``app.config["PROSPECT_HOME"]``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    abort,
    current_app,
    redirect,
    render_template,
    send_from_directory,
    url_for,
)
from werkzeug.wrappers import Response

from prospect_lib.server.announcement import announced

WEBSITE = Path(__file__).parent
NODE_MODULES = WEBSITE / "node_modules"
CDN = "https://cdn.jsdelivr.net/npm"
BUNDLE = "dist/index.umd.min.js"

#: npm package -> SHA-384 of its bundle at the version pinned in website/package.json.
TRACKER_FILES = {
    "@snowplow/browser-tracker": (
        "sha384-p1hMWJf4epbxL+WJ2Ok1RymZs7quNNJK07BR4E6FXGFdTTOxflU3qh31usI14dPp"
    ),
    "@snowplow/browser-plugin-form-tracking": (
        "sha384-FdemRHSwUX98ZoE7C++OqpM6UOkT9v57RfTP4N9b57JChpvUADOtrl5ikKqo0K2D"
    ),
    "@snowplow/browser-plugin-media": (
        "sha384-MGss/QzvCXV3NBSIxVCeo5aZYEbOsBKlhuYwNkOwPDv1h5GJKg8uEYLm16Y0Kf4I"
    ),
}

site = Blueprint(
    "site",
    __name__,
    template_folder="pages",
    static_folder="assets",
    static_url_path="/assets",
)


@dataclass(frozen=True)
class Script:
    """One ``<script>`` of the tracker: its address, and the hash that the browser checks."""

    src: str
    integrity: str


def tracker_scripts(node_modules: Path = NODE_MODULES) -> list[Script]:
    """Return the tracker's scripts: from ``node_modules`` if all are there, else from the CDN."""
    installed = all((node_modules / package / BUNDLE).is_file() for package in TRACKER_FILES)
    versions = json.loads((WEBSITE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return [
        Script(
            url_for("site.tracker", package=package)
            if installed
            else f"{CDN}/{package}@{versions[package]}/{BUNDLE}",
            integrity,
        )
        for package, integrity in TRACKER_FILES.items()
    ]


@site.get("/", defaults={"page": "home"})
@site.get("/<any(product, pricing, customers, blog, videos, demo, landing, 'thank-you'):page>")
@site.get("/blog/<any('last-loaf', 'three-kinds-of-rain'):post>", defaults={"page": "blog"})
def show_page(page: str, post: str | None = None) -> str:
    """Return a page of the site, ``website/pages/<page>.html``, or one post of its blog."""
    template = f"blog/{post}.html" if post else f"{page}.html"
    return render_template(template, page=page, tracker_scripts=tracker_scripts())


@site.post("/thank-you")
def submitted() -> Response:
    """Answer a submitted form. What was typed is neither read nor stored."""
    return redirect(url_for("site.show_page", page="thank-you"), code=303)


@site.get("/config.json")
def config() -> tuple[dict[str, Any], dict[str, str]]:
    """Return where predictions come from; a server that starts later needs no restart here."""
    announcement = announced(Path(current_app.config["PROSPECT_HOME"]))
    return asdict(announcement), {"Cache-Control": "no-store"}


@site.get("/tracker/<path:package>.js")
def tracker(package: str) -> Response:
    """Return one bundle of the tracker; 404 for all other files."""
    if package not in TRACKER_FILES:
        abort(404, "no such tracker file")
    return send_from_directory(NODE_MODULES, f"{package}/{BUNDLE}", max_age=3600)
