"""Websites that are not the demo's go from a file of events to a score and an audit, by commands.

Four of them: a shop about its customers (`user_id`), a site for companies about its sessions
(`domain_sessionid`), the question of Snowplow's purchase-propensity tutorial, and Snowplow's
published sample. One sandbox stands in for the Signals of all four.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, Subject, Tracker

from prospect_lib import cli, open_warehouse
from prospect_lib.problem import load_problem
from prospect_lib.settings import Settings
from prospect_lib.training_set import extract
from tests.support.sites import histories

pytestmark = pytest.mark.usefixtures("blank_pictures")
SITES = Path(histories.__file__).parent
ECOMMERCE = "com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2"


@dataclass(frozen=True)
class Site:
    """A website: its problem, how its events are exported, and one live visit.

    Attributes:
        problem: as the option ``--problem``.
        write: writes the file of events into a folder; ``None`` for the published sample.
        identifier: of the live visitor.
        visit: what the visitor does, as schema and data of events; page views without data.
        expected: some attributes after the visit.
    """

    problem: str
    write: Callable[[Path], Path] | None
    identifier: str
    visit: tuple[tuple[str, dict[str, Any] | None], ...]
    expected: dict[str, Any]


ALL = {
    "shop": Site(
        str(SITES / "shop.py"),
        histories.write_shop,
        'käufer "7"@example.com',
        (
            ("https://www.example.com/basket/1", None),
            ("com.acme.shop/product_view/jsonschema/1-0-0", {"sku": "0012", "price": 20.0}),
            ("com.acme.shop/product_view/jsonschema/1-0-0", {"sku": "0012", "price": 9.5}),
        ),
        {"visitor": 1, "num_basket_views_l1d": 1, "highest_price_l7d": 20.0},
    ),
    "b2b": Site(
        str(SITES / "b2b.py"),
        histories.write_b2b,
        "b1ae1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10",
        (
            ("https://www.example.com/product", None),
            ("com.acmeCorp/readSection/jsonschema/1-0-2", {"sectionName": "prices"}),
        ),
        {"num_page_views": 1, "num_prices_read": 1, "last_section": "prices"},
    ),
    "propensity": Site(
        str(SITES / "propensity.py"),
        histories.write_propensity,
        "c1ae1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10",
        (
            ("https://www.example.com/shop", None),
            (ECOMMERCE, {"type": "product_view"}),
            (ECOMMERCE, {"type": "add_to_cart"}),
        ),
        {"num_page_views": 1, "num_product_views": 1, "num_cart_additions": 1},
    ),
    "sample": Site(
        "prospect_lib.problem:sample_problem",
        None,
        "d1ae1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10",
        (("https://www.example.com/pricing", None), ("https://www.example.com/", None)),
        {"num_page_views": 2, "num_pricing_views": 1, "num_customers_views": None},
    ),
}


@pytest.fixture
def _at_home(running: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _variables(running).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_at_home")
@pytest.mark.parametrize("name", ALL)
def test_a_site_goes_from_its_file_to_a_score_and_an_audit_by_the_commands_alone(
    name: str,
    running: Settings,
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = ALL[name]
    file = site.write(tmp_path) if site.write else sample
    for command in (["train", "--data", str(file)], ["publish"]):
        code = cli.main([*command, "--problem", site.problem])
        printed = capsys.readouterr()
        assert code == 0, (command, printed)
    problem = load_problem(site.problem)
    with _serving(running, site.problem):
        _track(running, problem.key, site)
        address = f"{running.predict_url}/predict"
        answer = requests.post(address, json={problem.key: site.identifier}, timeout=10)
        refused = requests.post(address, json={"other_id": site.identifier}, timeout=10)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["signals"][problem.key] == site.identifier
    assert {key: body["signals"][key] for key in site.expected} == site.expected
    assert 0 < body["score"] < 1 and body["decision"]["name"] == problem.decision
    assert refused.status_code == 422 and problem.key in refused.json()["detail"]
    code = cli.main(["audit", "--problem", site.problem])
    printed = capsys.readouterr()
    assert code == 0, printed
    assert json.loads(printed.out.splitlines()[-1])["scores"] == 1


def test_an_ordinary_export_trains_as_it_is_and_says_what_it_lacks(
    home_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """130 columns, one app, no media, no forms plugin, no device: the demo's own problem."""
    for name, value in _variables(home_settings).items():
        monkeypatch.setenv(name, value)
    file = histories.write_ordinary(tmp_path)
    code = cli.main(["train", "--data", str(file)])
    printed = capsys.readouterr()
    assert code == 0, printed
    assert "latest_device_class is left out: the events have no column contexts_nl_" in printed.out
    reasons = dict(re.findall("Trained without features that (are|no) .*: (.*)", printed.out))
    assert "latest_app_id" in reasons["are"] and "num_apps_l7d" in reasons["are"]
    assert "num_media_events_l30d" in reasons["no"]


@pytest.mark.parametrize("name", ["shop", "b2b", "propensity"])
def test_oddities_of_an_export_change_no_row(name: str, tmp_path: Path) -> None:
    """The file as it is, and the same without duplicates, nobody's events and wrong clocks."""
    site, settings = ALL[name], Settings(home=tmp_path)
    assert site.write is not None
    file = site.write(tmp_path)
    tables, notes = [], ""
    for path in (file, _without_oddities(file, tmp_path)):
        warehouse = open_warehouse(settings, path)
        rows = extract(warehouse, load_problem(site.problem))
        warehouse.close()
        tables.append(rows.table)
        notes = notes or " ".join(rows.manifest["notes"])
    assert tables[0].equals(tables[1])
    assert "Duplicates" in notes and "wrong clock" in notes


def _without_oddities(file: Path, folder: Path) -> Path:
    """Write the tidy rows of a file: histories sorts them first, the oddities are at the end."""
    import pandas as pd

    frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    ids = frame[next(name for name in frame.columns if name.lower() == "event_id")]
    tidy = frame.iloc[: int((~ids.duplicated()).to_numpy().cumprod().sum())]
    path = folder / f"tidy{file.suffix}"
    if file.suffix == ".csv":
        tidy.to_csv(path, index=False)
    else:
        pq.write_table(pq.read_table(file).slice(0, len(tidy)), path)
    return path


def _track(settings: Settings, key: str, site: Site) -> None:
    """Send the live visit with the real Python tracker."""
    subject = Subject().set_platform("web")
    sets = {
        "user_id": subject.set_user_id,
        "domain_userid": subject.set_domain_user_id,
        "domain_sessionid": subject.set_domain_session_id,
    }
    sets[key](site.identifier)
    emitter = Emitter(settings.sandbox_url, batch_size=1)
    tracker = Tracker("py", [emitter], app_id="web", subject=subject)
    for what, data in site.visit:
        if data is None:
            tracker.track(PageView(what, "A page"))
        else:
            tracker.track(SelfDescribing(SelfDescribingJson(f"iglu:{what}", data)))
    tracker.flush()


@contextmanager
def _serving(settings: Settings, problem: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "prospect_lib", "serve", "--problem", problem],
        env=os.environ | _variables(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        first = process.stdout.readline() if process.stdout else ""
        assert "Scores at" in first, process.communicate()[1]
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _variables(settings: Settings) -> dict[str, str]:
    return {
        "PROSPECT_HOME": str(settings.home),
        "PROSPECT_PORT": str(settings.sandbox_port),
        "PREDICT_PORT": str(settings.predict_port),
    }
