"""Files of events of the four websites, in the shapes in which people export them.

Visitors with more interest do more of what leads to the goal, and reach it more often, so that a
model can learn something. What exports have besides is there too: events of nobody, duplicates,
a wrong clock, columns in upper case, text with zeros in front.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pandas as pd

from prospect_lib.warehouse.events import CANONICAL_COLUMNS

END = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = 40
SNOWPLOW = "com.snowplowanalytics.snowplow"
NIL = "00000000-0000-0000-0000-000000000000"

#: An event as the site tracks it: name, vendor, version, path of the page, data of the event.
Action = tuple[str, str, str, str, dict[str, Any] | None]
#: What a visitor of some interest (0 to 1) does next, after so many steps towards the goal.
Next = Callable[[np.random.Generator, float, int], tuple[Action, int, bool]]


def page(path: str) -> Action:
    """A page view."""
    return "page_view", SNOWPLOW, "1-0-0", path, None


def shop_step(rng: np.random.Generator, interest: float, towards: int) -> tuple[Action, int, bool]:
    """A customer looks at pages, products and the basket, and orders."""
    if towards >= 3 and rng.random() < 0.45 * interest:
        data = {"total": round(float(rng.uniform(10, 90)), 2), "items": [{"sku": "0012"}]}
        return ("transaction", "com.acme.shop", "1-0-0", "/thanks", data), 0, True
    if rng.random() < 0.2 + 0.4 * interest:
        price = float(rng.choice([5.0, 9.5, 20.0, 49.0]))
        view = (
            "product_view",
            "com.acme.shop",
            "1-0-0",
            "/product",
            {"sku": "0012", "price": price},
        )
        return view, towards + 1, False
    if rng.random() < 0.6 * interest:
        return page("/basket"), towards + 2, False
    return page("/"), towards, False


def b2b_step(rng: np.random.Generator, interest: float, towards: int) -> tuple[Action, int, bool]:
    """A visitor reads pages and sections of them, and asks for a demo."""
    if rng.random() < 0.08 * towards * interest:
        return ("requestDemo", "com.acmeCorp", "1-0-0", "/demo", {"companySize": "11-50"}), 0, True
    if rng.random() < 0.3:
        section = "prices" if rng.random() < 0.2 + 0.6 * interest else "team"
        read = ("readSection", "com.acmeCorp", "1-0-2", "/about", {"sectionName": section})
        return read, towards + 2 * (section == "prices"), False
    return page("/" if rng.random() < 0.5 else "/product"), towards, False


def propensity_step(
    rng: np.random.Generator, interest: float, towards: int
) -> tuple[Action, int, bool]:
    """A session of a shop with Snowplow's ecommerce events, until the purchase and after it."""
    kinds = ("product_view", "add_to_cart", "checkout_step", "transaction")
    level = min(towards, 2)
    if rng.random() < 0.25 + 0.5 * interest:
        done = level == 2 and rng.random() < 0.5 * interest
        kind = kinds[3] if done else kinds[int(rng.integers(0, level + 1))]
        name = "snowplow_ecommerce_action"
        action = (name, f"{SNOWPLOW}.ecommerce", "1-0-2", "/shop", {"type": kind})
        return action, towards + int(rng.random() < 0.5), done
    return page("/shop"), towards, False


def history(
    step: Next, visitors: int, seed: int = 0, wrong_clock: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return events of visitors over 40 days, as rows of the atomic events table.

    Args:
        step: what a visitor does next.
        visitors: how many there are.
        seed: of all random choices.
        wrong_clock: the ids of events with a wrong clock; by default they are some visitors'.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(visitors):
        interest = float(rng.beta(1, 2))
        user = f"customer-{number}@example.com" if rng.random() < 0.8 else None
        ids = {"domain_userid": _uuid(rng), "network_userid": _uuid(rng), "user_id": user}
        for index in range(1, 1 + int(rng.integers(1, 4))):
            at = END - timedelta(seconds=float(rng.uniform(0, DAYS * 86400)))
            session, towards = {"domain_sessionid": _uuid(rng), "domain_sessionidx": index}, 0
            for _ in range(int(rng.integers(2, 14))):
                at += timedelta(seconds=float(rng.exponential(90)))
                if at >= END:
                    break
                action, towards, done = step(rng, interest, towards)
                rows.append(_row(action, at, _uuid(rng), ids | session))
                if done:
                    towards = 0
    rows.sort(key=lambda row: (row["derived_tstamp"], row["event_id"]))
    return [*rows, *_oddities(rows, wrong_clock or {})]


def marketing_step(
    rng: np.random.Generator, interest: float, towards: int
) -> tuple[Action, int, bool]:
    """A visitor of a marketing website reads pages, and sends a form; other tools track as well."""
    if rng.random() < 0.05:
        hit = {"ec": "outbound", "ea": "click"}
        return (
            ("event", "com.google.analytics.measurement-protocol", "1-0-0", "/", hit),
            towards,
            False,
        )
    if rng.random() < 0.1 * min(towards, 3) * interest:
        return ("submit_form", SNOWPLOW, "1-0-0", "/demo", {"formId": "demo"}), 0, True
    if rng.random() < 0.5 * interest:
        return page("/pricing"), towards + 1, False
    return page("/"), towards, False


def write_ordinary(folder: Path) -> Path:
    """Write a CSV with all columns of the canonical event, as a warehouse exports them.

    It has no entity of a device, the events of other tools, a page view a year old and one
    without any identifier.
    """
    rows = history(marketing_step, 700, seed=3)
    old = rows[0] | {"event_id": "old", "domain_userid": _uuid(np.random.default_rng(9))}
    year = timedelta(days=365)
    old |= {name: rows[0][name] - year for name in ("collector_tstamp", "derived_tstamp")}
    nobody = rows[1] | {"event_id": "nobody", "domain_userid": None, "domain_sessionid": None}
    frame = pd.DataFrame(_with_json([*rows, old, nobody]))
    nested = [name for name in frame.columns if name.startswith("unstruct_event_")]
    path = folder / "export.csv"
    frame.reindex(columns=[*CANONICAL_COLUMNS, *nested]).to_csv(path, index=False)
    return path


def write_shop(folder: Path) -> Path:
    """Write a Parquet file as pandas does, with zoned times and JSON as text."""
    frame = pd.DataFrame(_with_json(history(shop_step, 700)))
    for column in ("collector_tstamp", "derived_tstamp"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    path = folder / "shop events.parquet"
    frame.to_parquet(path)
    return path


def write_b2b(folder: Path) -> Path:
    """Write a CSV with upper-case columns and times with an offset, as a database client does."""
    frame = pd.DataFrame(_with_json(history(b2b_step, 700, seed=1)))
    for column in ("collector_tstamp", "derived_tstamp"):
        times = pd.to_datetime(frame[column], utc=True).dt.tz_convert("Asia/Kolkata")
        frame[column] = [time.isoformat() for time in times]
    path = folder / "b2b.csv"
    frame.rename(columns=str.upper).to_csv(path, index=False)
    return path


def write_propensity(folder: Path) -> Path:
    """Write a Parquet file as DuckDB does, with the events' data as structs."""
    alone = {"domain_sessionid": "a1ae1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"}  # counts have no window
    rows = history(propensity_step, 900, seed=2, wrong_clock=alone)
    frame = pd.DataFrame(_with_json(rows))
    for column in ("collector_tstamp", "derived_tstamp"):
        frame[column] = pd.to_datetime(frame[column], utc=True).dt.tz_localize(None)
    nested = next(name for name in frame.columns if name.startswith("unstruct_event_"))
    path = folder / "propensity.parquet"
    with duckdb.connect() as connection:
        connection.register("events", frame)
        connection.execute(
            f'COPY (SELECT * REPLACE (from_json({nested}, \'{{"type": "VARCHAR"}}\') '
            f"AS {nested}) FROM events) TO '{path}' (FORMAT parquet)"
        )
    return path


def _row(action: Action, at: datetime, event_id: str, ids: Mapping[str, Any]) -> dict[str, Any]:
    name, vendor, version, path, data = action
    row = {
        "app_id": "web", "platform": "web", "event_id": event_id, "collector_tstamp": at,
        "derived_tstamp": at, "event": "unstruct" if data else "page_view", "event_name": name,
        "event_vendor": vendor, "event_version": version, "page_urlpath": path,
        "page_url": f"https://www.example.com{path}", "mkt_campaign": "0012", **ids,
    }  # fmt: skip
    if data is not None:
        column = {
            "com.acme.shop": f"com_acme_shop_{name}_1",
            "com.google.analytics.measurement-protocol": f"com_google_analytics_mp_{name}_1",
            SNOWPLOW: f"com_snowplowanalytics_snowplow_{name}_1",
            "com.acmeCorp": {"requestDemo": "com_acmecorp_request_demo_1"}.get(
                name, "com_acmecorp_read_section_1"
            ),
        }.get(vendor, "com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1")
        row[f"unstruct_event_{column}"] = data
    return row


def _oddities(rows: list[dict[str, Any]], wrong_clock: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Duplicates, events of nobody, and two events whose device has a wrong clock."""
    nobody = {"domain_userid": None, "user_id": "", "network_userid": NIL, "domain_sessionid": NIL}
    wrong = [
        rows[10] | {"derived_tstamp": END.replace(year=2031), "event_id": "late"} | wrong_clock,
        rows[20] | {"derived_tstamp": END.replace(year=2019), "event_id": "early"} | wrong_clock,
    ]
    unknown = [row | nobody | {"event_id": f"n{i}"} for i, row in enumerate(rows[::50])]
    return [*rows[::40], *unknown, *wrong]


def _with_json(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in r.items()}
        for r in rows
    ]


def _uuid(rng: np.random.Generator) -> str:
    return str(UUID(bytes=rng.bytes(16), version=4))
