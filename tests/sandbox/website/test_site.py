"""The demo website's pages, their configuration, and where they load the tracker from."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from prospect_lib.sandbox.website.routes import (
    BUNDLE,
    NODE_MODULES,
    TRACKER_FILES,
    WEBSITE,
    site,
    tracker_scripts,
)

PAGES = {
    "/": "Order what tomorrow will eat",
    "/product": "while your bakers sleep",
    "/pricing": "One price a shop",
    "/customers": "Shops that throw less away",
    "/blog": "Notes on fresh food",
    "/blog/last-loaf": "The last loaf is the most expensive one",
    "/blog/three-kinds-of-rain": "Three kinds of rain",
    "/videos": "One morning, in twenty seconds",
    "/demo": "Half an hour, your shop",
    "/thank-you": "We will write today",
    "/landing": "What did your shops throw away",
}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask(__name__)
    app.config["PROSPECT_HOME"] = tmp_path
    app.register_blueprint(site)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.mark.parametrize(("path", "heading"), PAGES.items())
def test_pages(client: FlaskClient, path: str, heading: str) -> None:
    html = client.get(path).get_data(as_text=True)
    assert heading in html
    app_id = "hs-landing" if path == "/landing" else "website"
    assert f'data-app-id="{app_id}"' in html
    assert html.count("<h1>") == 1
    assert 'id="panel"' in html


@pytest.mark.parametrize("path", PAGES)
def test_every_link_and_file_of_a_page_exists(client: FlaskClient, path: str) -> None:
    html = client.get(path).get_data(as_text=True)
    addresses = set(re.findall(r'(?:href|src|action|poster)="(/[^"]*)"', html))
    assert len(addresses) > 5
    for address in sorted(addresses):
        with client.get(address.replace("&amp;", "&")) as answer:
            assert answer.status_code == 200, address


@pytest.mark.parametrize("path", PAGES)
def test_pages_load_other_sites_files_from_the_tracker_cdn_only(
    client: FlaskClient, path: str
) -> None:
    html = client.get(path).get_data(as_text=True)
    loaded = re.findall(r'<(?:script|link|img|source|iframe)[^>]*(?:src|href)="(http[^"]*)"', html)
    assert all(address.startswith("https://cdn.jsdelivr.net/npm/@snowplow/") for address in loaded)


@pytest.mark.parametrize("path", ["/nope", "/blog/nope", "/assets/nope.css", "/tracker/nope.js"])
def test_unknown_addresses(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/tracker/../package.js", "/tracker/@snowplow/tracker-core.js", "/tracker/tslib.js"]
)
def test_only_the_tracker_leaves_node_modules(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_forms_are_answered_and_not_stored(client: FlaskClient, tmp_path: Path) -> None:
    answer = client.post("/thank-you", data={"email": "ada@example.com"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/thank-you")
    assert list(tmp_path.iterdir()) == []


def test_config_follows_the_file(client: FlaskClient, tmp_path: Path) -> None:
    assert client.get("/config.json").get_json()["predict_url"] is None
    content = {"predict_url": "http://127.0.0.1:9091", "predict_token": "t", "secret": "s"}
    (tmp_path / "site.json").write_text(json.dumps(content))
    answer = client.get("/config.json")
    assert answer.get_json() == {
        "predict_url": "http://127.0.0.1:9091",
        "predict_token": "t",
        "predict_key": "domain_userid",
        "problem": None,
    }
    assert answer.headers["Cache-Control"] == "no-store"


def make_packages(folder: Path, packages: list[str]) -> Path:
    for package in packages:
        (folder / package / BUNDLE).parent.mkdir(parents=True)
        (folder / package / BUNDLE).write_text("// tracker")
    return folder


def test_tracker_is_local_where_it_is_installed(app: Flask, tmp_path: Path) -> None:
    node_modules = make_packages(tmp_path, list(TRACKER_FILES))
    with app.test_request_context():
        sources = [script.src for script in tracker_scripts(node_modules)]
    assert sources == [f"/tracker/{package}.js" for package in TRACKER_FILES]


@pytest.mark.parametrize("count", [0, 2])
def test_tracker_comes_from_the_cdn_where_a_file_is_missing(
    app: Flask, tmp_path: Path, count: int
) -> None:
    node_modules = make_packages(tmp_path, list(TRACKER_FILES)[:count])
    with app.test_request_context():
        scripts = tracker_scripts(node_modules)
    assert scripts[0].src == (
        "https://cdn.jsdelivr.net/npm/@snowplow/browser-tracker@4.10.1/dist/index.umd.min.js"
    )
    assert all(script.src.startswith("https://cdn.jsdelivr.net/npm/") for script in scripts)
    assert [script.integrity for script in scripts] == list(TRACKER_FILES.values())


def test_pins_are_exact_and_the_lock_names_no_registry() -> None:
    pins = json.loads((WEBSITE / "package.json").read_text())["dependencies"]
    lock = (WEBSITE / "package-lock.json").read_text()
    locked = json.loads(lock)["packages"]
    assert set(pins) == set(TRACKER_FILES)
    assert {name: locked[f"node_modules/{name}"]["version"] for name in pins} == pins
    assert "resolved" not in lock


@pytest.mark.skipif(
    not NODE_MODULES.is_dir() and "CI" not in os.environ,
    reason="the tracker is not installed: npm ci --legacy-peer-deps in the website's folder",
)
@pytest.mark.parametrize("package", TRACKER_FILES)
def test_hashes_are_those_of_the_pinned_files(client: FlaskClient, package: str) -> None:
    with client.get(f"/tracker/{package}.js") as answer:
        digest = base64.b64encode(hashlib.sha384(answer.get_data()).digest()).decode()
    assert TRACKER_FILES[package] == f"sha384-{digest}"


def test_the_film_is_small_and_real() -> None:
    film = (WEBSITE / "assets" / "one-morning.webm").read_bytes()
    assert film.startswith(b"\x1a\x45\xdf\xa3")  # the first bytes of a WebM file
    assert len(film) <= 500_000
