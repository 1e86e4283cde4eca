"""Time the extraction of training sets, compared with the ways in which they are usually built.

Each contender is a process of its own that reads the same Parquet file of atomic events and
returns the same table: the label and the 20 features at every page view whose next hour the data
covers. The figures are only kept if the tables are equal.

* ours: ``extract(DuckDBWarehouse...)``, compiled from the attribute group;
* polars: ``rolling`` by visitor, written by hand as an expert would;
* self-join: every page view joined with the visitor's earlier events, as in the tutorial.

Three scenes: many visitors; the same with one visitor who has 20,000 events; ten times as many
visitors (not for the self-join).

Where ours spends its processor time on many visitors: a sixth each on the sorted stream of events
and windows, and on LAG and LEAD for distinct values; a seventh on anchors and labels, whose ASOF
join sorts texts; a tenth each on numbering and joining first and last values. Polars is nearest
where histories are short: it counts each window's rows, ours sorts them. At ten times as many,
each part of the visitors reads all events again, about an eighth of the time.

Usage: ``python benchmarks/features.py [events]`` (default 740000). Figures go to
``benchmarks/results/features.json``; read them as ratios within one run.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import save

EVENTS, HEAVY, TURNS, THREADS = 740_000, 20_000, 3, 2
DEVICE = "contexts_nl_basjes_yauaa_context_1"
NAMES = ["page_view", "page_ping", "submit_form", "focus_form", "change_form", "play_event"]
SHARES = [0.36, 0.47, 0.01, 0.05, 0.05, 0.06]
APPS, PAGES = ["website", "hs-landing", "docs"], ["", "pricing", "blog", "product"]
CAMPAIGNS = [None, "spring", "summer", "brand", "retarget"]
MEDIA, REFERRERS = [None, "cpc", "email", "social"], [None, "search", "social", "internal"]
DEVICES = ['[{"deviceClass":"Desktop"}]', '[{"deviceClass":"Phone"}]']


# --- the events -------------------------------------------------------------------------------


def write(path: Path, events: int, heavy: int = 0, seed: int = 0, days: int = 60) -> None:
    """Write events of some days in order of arrival; each seed has its own visitors.

    Args:
        heavy: the number of events of one additional visitor.
    """
    rng = np.random.default_rng(seed)
    sessions = events // 11
    starts = rng.uniform(0, (days - 1) * 86_400, sessions)
    weights = rng.lognormal(0, 1.5, max(1, events // 25))  # most visit once, some often
    visitor = rng.choice(len(weights), sessions, p=weights / weights.sum())
    owner = rng.integers(0, sessions, events)
    seconds = starts[owner] + rng.uniform(0, 1800, events)
    visitors, session = visitor[owner], owner
    if heavy:
        visitors = np.append(visitors, np.full(heavy, -1))
        seconds = np.append(seconds, rng.uniform(0, (days - 1) * 86_400, heavy))
        session = np.append(session, sessions + rng.integers(0, 400, heavy))
    order = np.argsort(seconds, kind="stable")
    visitors, seconds, session = visitors[order], seconds[order], session[order]
    kinds = rng.choice(len(NAMES), len(order), p=SHARES)
    per_session = rng.integers(0, 1 << 30, sessions + 400)[session]
    media = np.array(["com.snowplowanalytics.snowplow", "com.snowplowanalytics.snowplow.media"])
    moments = np.datetime64("2026-01-01", "us") + (seconds * 1e6).astype("timedelta64[us]")
    columns = {
        "domain_userid": _ids(visitors, f"8c0d66b9-29f5-4a39-{seed:04d}-{{:012d}}"),
        "domain_sessionid": _ids(session, "b6a1bb3c-5d1b-4b1e-9e1d-{:012d}"),
        "derived_tstamp": pa.array(moments),
        "collector_tstamp": pa.array(moments),
        "event_name": _coded(NAMES, kinds),
        "event_vendor": _coded(media.tolist(), (kinds == 5).astype(int)),
        "event_version": _coded(["1-0-0"], np.zeros(len(order), int)),
        "app_id": _coded(APPS, per_session % 3),
        "page_url": _coded([f"https://x.io/{p}" for p in PAGES], rng.integers(0, 4, len(order))),
        "refr_medium": _coded(REFERRERS, rng.integers(0, 4, len(order))),
        "mkt_medium": _coded(MEDIA, per_session // 3 % 4),
        "mkt_campaign": _coded(CAMPAIGNS, per_session // 12 % 5),
        DEVICE: _coded(DEVICES, per_session // 60 % 2),
    }
    pq.write_table(pa.table(columns), path, row_group_size=122_880)


def write_apart(path: Path, events: int, heavy: int = 0, seed: int = 0, days: int = 60) -> None:
    """Do the same in another process, because a child's peak memory starts with its parent's."""
    numbers = [str(number) for number in (events, heavy, seed, days)]
    subprocess.run([sys.executable, __file__, "--write", str(path), *numbers], check=True)


def _ids(numbers: np.ndarray, shape: str) -> pa.Array:
    values, codes = np.unique(numbers, return_inverse=True)
    return _coded([shape.format(v + 1) for v in values], codes)


def _coded(values: list[Any], codes: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes.astype("int32"), pa.array(values)).cast(pa.string())


# --- the contenders ---------------------------------------------------------------------------


def ours(path: Path) -> pa.Table:
    from prospect_lib.attributes import tutorial_group
    from prospect_lib.training_set.extract import extract
    from prospect_lib.warehouse import DuckDBWarehouse

    warehouse = DuckDBWarehouse.over_file(path)
    warehouse.run(f"SET threads = {THREADS}")
    return extract(warehouse, tutorial_group).table


def polars(path: Path) -> pa.Table:
    import polars as pl

    column, view = pl.col, pl.col("event_name") == "page_view"

    def only(name: str, condition: Any, kind: Any = pl.Int32) -> Any:
        return pl.when(condition).then(1 if kind is pl.Int32 else column(name)).cast(kind)

    pricing = view & column("page_url").str.contains("pricing", literal=True)
    forms = column("event_name").is_in(["focus_form", "change_form"])
    media = column("event_vendor") == "com.snowplowanalytics.snowplow.media"
    text = pl.String
    events = (
        pl.read_parquet(path)
        .lazy()
        .select(
            "domain_userid",
            column("domain_userid").rank("dense").cast(pl.Int32).alias("visitor"),
            column("derived_tstamp").alias("ts"),
            view.alias("anchor"),
            only("", view).alias("views"),
            only("", column("event_name") == "page_ping").alias("pings"),
            only("", pricing).alias("pricing"),
            only("", column("event_name") == "submit_form").alias("goals"),
            only("", forms).alias("forms"),
            only("", media).alias("media"),
            only("app_id", view, text).cast(pl.Categorical).to_physical().alias("app"),
            only("domain_sessionid", view, text).rank("dense").alias("session"),
            only("mkt_campaign", view, text).cast(pl.Categorical).to_physical().alias("campaign"),
            only("app_id", view, text).alias("app_name"),
            pl.when(view).then(column(DEVICE).str.json_path_match("$[0].deviceClass"))
            .alias("device"),
            only("refr_medium", view, text).alias("refr"),
            only("mkt_medium", view, text).alias("mkt"),
        )
        .sort("visitor", "ts")
        .collect()
    )  # fmt: skip
    end = events["ts"].max()

    def count(name: str, *names: str) -> list[Any]:
        return [column(n).sum().cast(pl.Float64).replace(0.0, None).alias(f"num_{a}_{name}")
                for n, a in zip(names[::2], names[1::2], strict=True)]  # fmt: skip

    def distinct(name: str, *names: str) -> list[Any]:
        counted = [
            column(n).drop_nulls().n_unique().cast(pl.Float64).clip(None, 100) for n in names[::2]
        ]  # a list holds 100 values
        return [c.replace(0.0, None).alias(f"num_{a}_{name}")
                for c, a in zip(counted, names[1::2], strict=True)]  # fmt: skip

    common = ["views", "page_views", "pings", "page_pings", "pricing", "pricing_views"]

    def rolling(period: str, **more: Any) -> Any:
        return events.rolling("ts", period=period, closed="both", group_by="visitor", **more)

    week = rolling("7d").agg(
        *distinct("l7d", "session", "sessions", "app", "apps"),
        *count("l7d", *common, "forms", "form_engagements"),
        (column("goals").sum() > 0).alias("had_conversions_l7d"),
    )
    month = rolling("30d").agg(
        column("app_name").drop_nulls().last().alias("latest_app_id"),
        column("device").drop_nulls().last().alias("latest_device_class"),
        *distinct("l30d", "session", "sessions", "app", "apps", "campaign", "engaged_campaigns"),
        *count("l30d", *common, "media", "media_events"),
        (column("goals").sum() > 0).alias("had_conversions_l30d"),
        column("refr").drop_nulls().first().alias("first_refr_medium_l30d"),
        column("mkt").drop_nulls().first().alias("first_mkt_medium_l30d"),
    )
    ahead = events.rolling("ts", period="1h", offset="0h", closed="right", group_by="visitor").agg(
        (column("goals").sum() > 0).alias("label")
    )
    from datetime import timedelta

    at = pl.concat(
        [
            events.select("domain_userid", column("ts").alias("anchor_ts"), "anchor"),
            *(part.drop("visitor", "ts") for part in (ahead, week, month)),
        ],
        how="horizontal",
    ).filter(column("anchor") & (column("anchor_ts") <= end - timedelta(hours=1)))
    at = at.with_columns(column("anchor_ts").dt.weekday().cast(pl.Float64).alias("day_of_week"))
    return at.drop("anchor").unique(["domain_userid", "anchor_ts"], keep="last").to_arrow()


def self_join(path: Path) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}; SET TimeZone = 'UTC'")
        return connection.sql(SELF_JOIN.format(path=path, device=DEVICE)).to_arrow_table()


def _within(period: str, what: str, condition: str, name: str) -> str:
    inside = f"{condition} AND e.ts >= a.ts - INTERVAL {period}"
    if what == "count":
        return f"nullif(count(*) FILTER ({inside}), 0)::DOUBLE AS {name}"
    most = f"least(count(DISTINCT {what}) FILTER ({inside}), 100)"  # a list holds 100 values
    return f"nullif({most}, 0)::DOUBLE AS {name}"


_VIEW = "e.event_name = 'page_view'"
_COUNTS = {
    "num_sessions": ("e.domain_sessionid", _VIEW),
    "num_apps": ("e.app_id", _VIEW),
    "num_page_views": ("count", _VIEW),
    "num_page_pings": ("count", "e.event_name = 'page_ping'"),
    "num_pricing_views": ("count", f"{_VIEW} AND contains(e.page_url, 'pricing')"),
    "num_form_engagements": ("count", "e.event_name IN ('focus_form', 'change_form')"),
    "num_media_events": ("count", "e.event_vendor = 'com.snowplowanalytics.snowplow.media'"),
    "num_engaged_campaigns": ("e.mkt_campaign", _VIEW),
}
_ONCE = {"num_form_engagements": ["l7d"], "num_media_events": ["l30d"]} | {
    "num_engaged_campaigns": ["l30d"]
}
SELF_JOIN = (
    """
WITH e AS (SELECT *, derived_tstamp AS ts FROM read_parquet('{path}')),
a AS (
  SELECT DISTINCT domain_userid, ts FROM e
  WHERE event_name = 'page_view' AND ts <= (SELECT max(ts) FROM e) - INTERVAL 1 HOUR
)
SELECT
  a.domain_userid,
  a.ts AS anchor_ts,
  bool_or(e.event_name = 'submit_form' AND e.ts > a.ts) AS label,
  arg_max(e.app_id, e.ts) FILTER (PAST_VIEW) AS latest_app_id,
  arg_max(e.{device}::JSON ->> '$[0].deviceClass', e.ts) FILTER (PAST_VIEW) AS latest_device_class,
  """.replace("PAST_VIEW", f"{_VIEW} AND e.ts <= a.ts")
    + ",\n  ".join(
        _within("7 DAY" if label == "l7d" else "30 DAY", what, f"e.ts <= a.ts AND {condition}",
                f"{name}_{label}")
        for name, (what, condition) in _COUNTS.items()
        for label in _ONCE.get(name, ["l7d", "l30d"])
    )
    + "".join(
        f""",
  coalesce(bool_or(e.event_name = 'submit_form' AND e.ts <= a.ts
    AND e.ts >= a.ts - INTERVAL {days} DAY), false) AS had_conversions_l{days}d"""
        for days in (7, 30)
    )
    + "".join(
        f""",
  arg_min({name}, e.ts) FILTER (e.ts <= a.ts AND {_VIEW}) AS first_{name}_l30d"""
        for name in ("refr_medium", "mkt_medium")
    )
    + """,
  isodow(a.ts)::DOUBLE AS day_of_week
FROM a JOIN e
  ON e.domain_userid = a.domain_userid
  AND e.ts >= a.ts - INTERVAL 30 DAY AND e.ts <= a.ts + INTERVAL 1 HOUR
GROUP BY ALL
ORDER BY 1, 2"""
)  # fmt: skip

CONTENDERS: dict[str, Callable[[Path], pa.Table]] = {
    "ours": ours, "polars": polars, "self-join": self_join,
}  # fmt: skip


# --- measuring --------------------------------------------------------------------------------


def contend(name: str, path: Path, kept: Path) -> None:
    """Run one contender, write its rows, and print its figures as one line of JSON."""
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    if name == "polars":
        import polars  # noqa: F401 - imports are not measured
    else:
        import prospect_lib.training_set.extract  # noqa: F401
    before, start = time.process_time(), time.perf_counter()
    table = CONTENDERS[name](path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    pq.write_table(table, kept)
    print(json.dumps({"seconds": round(seconds, 2), "cpu": round(cpu, 2), "peak_mb": peak}))


def same(one: Path, other: Path) -> None:
    """Exit if two contenders differ in any row. The order of rows is not compared."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET memory_limit = '4GB'")
        names = [d[0] for d in connection.sql(f"FROM '{one}' LIMIT 0").description]
        columns = ", ".join(
            f"{n}::TIMESTAMP AS {n}" if n == "anchor_ts" else f"{n}::VARCHAR AS {n}"
            if n.startswith(("latest", "first", "domain")) else f"{n}::DOUBLE AS {n}"
            for n in names
        )  # fmt: skip
        counts = [connection.sql(f"SELECT count(*) FROM '{p}'").fetchall() for p in (one, other)]
        differing = connection.sql(
            f"SELECT count(*) FROM (SELECT {columns} FROM '{one}' EXCEPT "
            f"SELECT {columns} FROM '{other}')"
        ).fetchall()[0][0]
    if differing or counts[0] != counts[1]:
        raise SystemExit(f"{one} and {other} differ in {differing} rows ({counts})")


def scene(events: int, contenders: list[str], turns: int, heavy: int = 0) -> dict[str, Any]:
    """Return the best of a few runs of each contender, which take turns."""
    best: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        write_apart(path, events, heavy)
        for turn in range(turns):
            for name in contenders:
                if turn and best[name]["seconds"] > 20:
                    continue  # one run is enough
                kept = Path(folder) / f"{name}.parquet"
                command = [sys.executable, __file__, "--contender", name, str(path), str(kept)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                new = json.loads(done.stdout.splitlines()[-1])
                print(f"  {name:10} {new}", flush=True)
                if name not in best or new["seconds"] < best[name]["seconds"]:
                    best[name] = new
        for name in contenders[1:]:
            same(Path(folder) / "ours.parquet", Path(folder) / f"{name}.parquet")
        best["rows"] = pq.read_metadata(Path(folder) / "ours.parquet").num_rows
    return best


def profile(events: int) -> dict[str, float]:
    """Return the processor seconds of the compiled statement by kind of operator."""
    from prospect_lib.anchors import Anchors
    from prospect_lib.attributes import tutorial_group
    from prospect_lib.training_set import features_sql

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path, output = Path(folder) / "events.parquet", Path(folder) / "profile.json"
        write(path, events)
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW events AS FROM '{path}'")
        connection.execute(f"CREATE TABLE anchors AS {Anchors().sql(events='events')}")
        connection.execute(
            f"PRAGMA enable_profiling = 'json'; SET profiling_output = '{output}'; "
            "SET profiling_mode = 'detailed'"
        )
        sql = features_sql(tutorial_group, events="events", anchors="anchors")
        connection.execute(f"CREATE TEMP TABLE kept AS {sql}")
        spent: dict[str, float] = {}
        operators = list(json.loads(output.read_text())["operator"])
    while operators:
        operator = operators.pop()
        operators += operator.get("children", [])
        spent[operator["type"]] = spent.get(operator["type"], 0.0) + operator["timing"]
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    return {name: round(seconds, 3) for name, seconds in ranked if seconds >= 0.01}


def main() -> None:
    """Measure each scene and write the figures with their ratios."""
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), *map(int, sys.argv[3:]))
        return
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    events = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    results: dict[str, Any] = {}
    everyone = list(CONTENDERS)
    for name, arguments in {
        "many visitors": (events, everyone, TURNS),
        "one heavy visitor": (events, everyone, TURNS, HEAVY),
        "ten times as many": (10 * events, everyone[:2], 1),
    }.items():
        print(name, flush=True)
        results[name] = scene(*arguments)
    many, heavy, ten = (
        results["many visitors"],
        results["one heavy visitor"],
        results["ten times as many"],
    )
    results["ratios"] = {
        **{f"{p}: times ours": round(many[p]["seconds"] / many["ours"]["seconds"], 2)
           for p in everyone[1:]},
        **{f"{p}, one heavy visitor: times ours":
           round(heavy[p]["seconds"] / heavy["ours"]["seconds"], 2) for p in everyone[1:]},
        **{f"ours, ten times as many: {what} per event":
           round(ten["ours"][key] / many["ours"][key] / 10, 2)
           for what, key in (("time", "seconds"), ("processor time", "cpu"))},
    }  # fmt: skip
    results["processor seconds of the statement"] = profile(events)
    save("features", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
