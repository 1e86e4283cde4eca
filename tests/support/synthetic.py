"""Small synthetic training sets with a planted signal."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from prospect_lib.features import FEATURES
from prospect_lib.model.training import Recipe

START = datetime(2026, 3, 1, tzinfo=UTC)
CATEGORIES = {
    "latest_app_id": ["website", "hs-landing"],
    "latest_device_class": ["Desktop", "Phone", "Tablet"],
    "first_refr_medium_l30d": ["search", "social", None],
    "first_mkt_medium_l30d": ["cpc", "email", None],
    "last_page_path": ["/", "/pricing", "/demo"],
    "first_page_path_l1h": ["/", "/product", "/landing"],
}

#: Larger steps than the default, for boosters of few trees.
FAST = {**Recipe().params, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.8}


def training_table(visitors=800, views=8, days=40, seed=0, signal=1.0, base=-3.0):
    """Return page views of visitors with a hidden interest: label, features, ``best_observable``.

    The interest determines pricing views and the medium; the other features are noise.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(visitors), views)
    rows = len(owner)
    interest = rng.normal(size=visitors)[owner]
    first = rng.uniform(0, days, visitors)[owner]
    seconds = (first + rng.exponential(1.5, rows)).clip(0, days) * 86400
    email = rng.random(rows) < 1 / (1 + np.exp(-interest))
    pricing = rng.poisson(np.exp(0.6 * interest - 0.5))
    columns = {
        "domain_userid": pa.array([f"visitor-{i:05d}" for i in owner]),
        "anchor_ts": pa.array(
            [START + timedelta(seconds=s) for s in seconds], pa.timestamp("us", "UTC")
        ),
    }
    best_observable = 1 / (
        1 + np.exp(-(base + signal * (1.2 * np.minimum(pricing, 3) + 0.8 * email)))
    )
    columns["label"] = pa.array(rng.random(rows) < best_observable)
    columns["best_observable"] = pa.array(best_observable)
    for feature in FEATURES:
        columns[feature.name] = _noise(feature, rng, rows)
    columns["num_pricing_views_l7d"] = _counts(pricing)
    columns["num_pricing_views_l30d"] = _counts(pricing + rng.poisson(0.2, rows))
    columns["first_mkt_medium_l30d"] = pa.array(
        np.where(email, "email", np.where(rng.random(rows) < 0.5, "cpc", None))
    ).cast(pa.string())
    table = pa.table(columns)
    return table.sort_by([("domain_userid", "ascending"), ("anchor_ts", "ascending")])


def _noise(feature, rng, rows):
    if feature.kind == "category":
        return pa.array(rng.choice(CATEGORIES[feature.name], rows), pa.string())
    if feature.kind == "flag":
        return pa.array(rng.random(rows) < 0.1)
    if feature.name == "day_of_week":
        return pa.array(rng.integers(1, 8, rows))
    return _counts(rng.poisson(2.0, rows))


def _counts(values):
    """Return counts as Signals returns them: null if nothing matched."""
    return pa.array(values.astype(np.int64), mask=values == 0)


def odd_table(seed):
    """Return rows of a small site: few visitors, columns of nulls or of one value, one clock off.

    Whatever ``seed`` is, the key comes first and the columns are those of ``FEATURES``.
    """
    rng = np.random.default_rng(seed)
    visitors = int(rng.choice([2, 40, 120, 200]))
    rows = int(visitors * rng.choice([2, 4, 8]))
    owner = rng.integers(0, visitors, rows)
    seconds = rng.uniform(0, rng.choice([1, 30, 30, 30]) * 86400, rows)
    if rng.random() < 0.3:
        seconds[rng.integers(rows)] = -7 * 365 * 86400
    converts = rng.random(visitors) < rng.choice([0.1, 0.4, 0.6, 0.9])
    label = rng.random(rows) < np.where(converts[owner], rng.choice([0.3, 1]), 0)
    columns = {
        "domain_userid": pa.array([f"visitor-{i}" for i in owner]),
        "anchor_ts": pa.array(
            [START + timedelta(seconds=s) for s in seconds], pa.timestamp("us", "UTC")
        ),
        "label": pa.array(label),
    }
    if rng.random() < 0.3:
        columns["weight"] = pa.array(np.where(label, 1.0, rng.choice([0, 1, 4])))
    usual = rng.choice(["nulls", "constant", "noise", "label"])
    for feature in FEATURES:
        kind = usual if rng.random() < 0.7 else rng.choice(["nulls", "constant", "noise", "label"])
        columns[feature.name] = _odd(feature, kind, rng, label)
    return pa.table(columns)


def _odd(feature, kind, rng, label):
    values = {
        "nulls": np.zeros(len(label)),
        "constant": np.ones(len(label)),
        "noise": rng.integers(0, 3, len(label)),
        "label": label,
    }[kind]
    mask = np.full(len(label), kind == "nulls") | (rng.random(len(label)) < 0.2 * (kind == "noise"))
    if feature.kind == "category":
        return pa.array([f"value {v:.0f}" for v in values], pa.string(), mask=mask)
    return pa.array(values.astype(bool if feature.kind == "flag" else np.int64), mask=mask)
