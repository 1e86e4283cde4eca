"""Simulated visitors with a hidden intent, and the true probability beside their events.

A session is a walk over the pages of the demo website. How it goes on depends on the page
and on the visitor's intent, which nobody sees; what can be seen (channel, device, reading,
films, forms, returning) only hints at it. As the walk is a Markov chain of at most
``MAX_VIEWS`` pages, the probability that it ends with a submitted form is known exactly at
every page view: no model can do better than that.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PAGES = ("home", "product", "pricing", "customers", "blog", "videos", "demo")
DEMO, VIDEOS, SUBMIT, LEAVE = 6, 5, 7, 8
MAX_VIEWS, MAX_DWELL = 20, 150.0  # so that a session ends within 55 minutes, inside the horizon
LEVELS = 5  # of intent; one more behaves as a bot
BOT = LEVELS
FORM_SENT = (0.02, 0.06, 0.13, 0.27, 0.48)  # of those who see the form, by level
FORM_BEGUN = (0.06, 0.10, 0.16, 0.24, 0.34)  # of those who see it and do not send it
LEVEL_SHARE = (0.46, 0.27, 0.15, 0.08, 0.04)
SITE = "https://samphire.example"
SNOWPLOW = "com.snowplowanalytics.snowplow"
MEDIA = f"{SNOWPLOW}.media"
#: medium, source, campaign, referrer's medium and host, and how each level comes by it
CHANNELS: tuple[tuple[str | None, str | None, str | None, str | None, str | None], ...] = (
    (None, None, None, None, None),
    (None, None, None, "search", "www.google.com"),
    (None, None, None, "social", "www.linkedin.com"),
    (None, None, None, "unknown", "news.example.org"),
    ("cpc", "google", "brand", "search", "www.google.com"),
    ("cpc", "google", "generic", "search", "www.bing.com"),
    ("email", "newsletter", "spring-offer", "email", "mail.example.com"),
    ("social", "linkedin", "awareness", "social", "www.linkedin.com"),
)
CHANNEL_BY_LEVEL = np.array(
    [
        [0.18, 0.24, 0.14, 0.12, 0.03, 0.12, 0.04, 0.13],
        [0.20, 0.26, 0.10, 0.09, 0.06, 0.12, 0.07, 0.10],
        [0.23, 0.24, 0.07, 0.07, 0.12, 0.10, 0.11, 0.06],
        [0.26, 0.21, 0.04, 0.05, 0.20, 0.07, 0.14, 0.03],
        [0.28, 0.17, 0.02, 0.04, 0.27, 0.04, 0.16, 0.02],
        [0.90, 0.00, 0.00, 0.10, 0.00, 0.00, 0.00, 0.00],
    ]
)
DEVICES = ("Desktop", "Phone", "Tablet", "Robot")
DEVICE_BY_LEVEL = np.array(
    [
        [0.45, 0.49, 0.06, 0], [0.52, 0.43, 0.05, 0], [0.62, 0.34, 0.04, 0],
        [0.72, 0.25, 0.03, 0], [0.80, 0.18, 0.02, 0], [0, 0, 0, 1.0],
    ]
)  # fmt: skip
USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
    "ExampleBot/1.0 (+https://bot.example)",
)
#: kinds of event: event, vendor, name, version
KINDS = (
    ("page_view", SNOWPLOW, "page_view"),
    ("page_ping", SNOWPLOW, "page_ping"),
    ("unstruct", MEDIA, "play_event"),
    ("unstruct", MEDIA, "percent_progress_event"),
    ("unstruct", MEDIA, "end_event"),
    ("unstruct", SNOWPLOW, "focus_form"),
    ("unstruct", SNOWPLOW, "change_form"),
    ("unstruct", SNOWPLOW, "submit_form"),
    ("unstruct", SNOWPLOW, "link_click"),
    ("unstruct", SNOWPLOW, "web_vitals"),
    ("unstruct", SNOWPLOW, "application_error"),
)
VIEW, PING, PLAY, PROGRESS, END, FOCUS, CHANGE, SUBMITTED, LINK, VITALS, ERROR = range(len(KINDS))
MOMENTS = (VIEW, PLAY, PROGRESS, END, FOCUS, CHANGE)  # at which a visitor may be scored
_FORM = {"formId": "request-demo", "formClasses": []}
_FIELD = {**_FORM, "elementId": "email", "nodeName": "INPUT", "elementClasses": [], "value": "****"}
BODIES: dict[str, dict[int, Any]] = {
    "unstruct_event_com_snowplowanalytics_snowplow_focus_form_1": {
        FOCUS: {**_FIELD, "elementType": "email"}
    },
    "unstruct_event_com_snowplowanalytics_snowplow_change_form_1": {
        CHANGE: {**_FIELD, "type": "email"}
    },
    "unstruct_event_com_snowplowanalytics_snowplow_submit_form_1": {
        SUBMITTED: {
            **_FORM,
            "elements": [{"name": "email", "value": "****", "nodeName": "INPUT", "type": "email"}],
        }
    },
    "contexts_com_snowplowanalytics_snowplow_media_player_2": {
        kind: [{"currentTime": 0, "paused": False, "ended": kind == END, "label": "one morning"}]
        for kind in (PLAY, PROGRESS, END)
    },
}


@dataclass(frozen=True)
class Simulation:
    """What happened, and what was bound to happen.

    Attributes:
        events: rows of atomic events, sorted by visitor, time and id.
        truth: ``domain_userid``, ``anchor_ts`` and ``p_true`` of every page view and every
            event of a film or a form: the probability of a submitted form in the next hour.
    """

    events: pa.Table
    truth: pa.Table


def simulate(
    visitors: int = 3000, days: int = 60, *, end: datetime, seed: int = 0, chunk: int = 0
) -> Simulation:
    """Events of ``visitors`` over the ``days`` before ``end`` (aware UTC); none after it.

    The same arguments give the same tables; ``chunk`` sets apart parts of a larger world.
    """
    rng = np.random.default_rng([seed, chunk])
    sessions = _sessions(rng, visitors, days)
    views = _views(rng, sessions)
    happened = _happenings(rng, sessions, views)
    start = np.datetime64((end - timedelta(days=days)).replace(tzinfo=None), "us")
    happened = {name: column[happened["at"] < days * 86400] for name, column in happened.items()}
    order = np.lexsort((happened["at"], sessions["visitor"][happened["session"]]))
    happened = {name: column[order] for name, column in happened.items()}
    events = _table(rng, sessions, happened, start)
    seen = np.isin(happened["kind"], MOMENTS)
    truth = events.select(["domain_userid", "derived_tstamp"]).filter(pa.array(seen))
    truth = truth.rename_columns(["domain_userid", "anchor_ts"])
    truth = truth.append_column("p_true", pa.array(happened["p_true"][seen]))
    by_visitor = [(name, "ascending") for name in ("domain_userid", "derived_tstamp", "event_id")]
    return Simulation(
        events.sort_by(by_visitor), truth.sort_by([*by_visitor[:1], ("anchor_ts", "ascending")])
    )


# --- the walk ----------------------------------------------------------------------------------


def transitions() -> Floats:
    """How a session goes on: P[level, page, next], the last two of next being submit and leave."""
    found = np.zeros((LEVELS + 1, len(PAGES), LEAVE + 1))
    #                    home prod pric cust blog vids demo
    interest = np.array([0.5, 1.0, 0.30, 0.45, 0.9, 0.35, 0.05])
    keen = np.array([0.4, 1.0, 1.30, 0.90, 0.4, 0.80, 0.75])
    for level in range(LEVELS):
        eager = level / (LEVELS - 1)
        for page in range(len(PAGES)):
            weight = (1 - eager) * interest + eager * keen
            weight[page] *= 0.3
            weight[DEMO] *= 2.0 if page == PAGES.index("pricing") else 1.0
            found[level, page, :SUBMIT] = weight / weight.sum() * (0.55 + 0.25 * eager)
            found[level, page, LEAVE] = 0.45 - 0.25 * eager
        submit = FORM_SENT[level]
        found[level, DEMO] *= 1 - submit
        found[level, DEMO, SUBMIT] = submit
    found[BOT, :, :SUBMIT] = 0.95 / len(PAGES)
    found[BOT, :, LEAVE] = 0.05
    return found


def chances() -> Floats:
    """Exact probability that the walk ends in a form: C[level, views still possible, page]."""
    matrix = transitions()
    found = np.zeros((LEVELS + 1, MAX_VIEWS, len(PAGES)))
    for left in range(MAX_VIEWS):
        goes_on = found[:, left - 1] if left else np.zeros((LEVELS + 1, len(PAGES)))
        found[:, left] = matrix[:, :, SUBMIT] + np.einsum(
            "lpn,ln->lp", matrix[:, :, :SUBMIT], goes_on
        )
    return found


def _sessions(rng: np.random.Generator, visitors: int, days: int) -> dict[str, Any]:
    level = rng.choice(LEVELS, visitors, p=LEVEL_SHARE)
    level[rng.random(visitors) < 0.03] = BOT
    count = rng.geometric(np.array([0.6, 0.5, 0.4, 0.33, 0.28, 0.5])[level])
    visitor = np.repeat(np.arange(visitors), count)
    first = np.r_[0, np.cumsum(count)[:-1]]
    index = np.arange(len(visitor)) - np.repeat(first, count)
    gap = 7200 + 3600 + rng.exponential(4.5 * 86400, len(visitor))
    gap[first] = rng.uniform(0, days * 86400, visitors)
    total = np.cumsum(gap)
    start = total - np.repeat(total[first] - gap[first], count)
    keener = (rng.random(len(visitor)) < 0.3) & (index > 0)
    steps = np.cumsum(keener)
    session_level = level[visitor] + steps - np.repeat(steps[first], count)
    session_level = np.where(level[visitor] == BOT, BOT, np.minimum(session_level, LEVELS - 1))
    return {
        "visitor": visitor,
        "index": index + 1,
        "start": _apart(_rhythm(rng, start), visitor, index),
        "level": session_level,
        "channel": _pick(rng, CHANNEL_BY_LEVEL[session_level]),
        "device": _pick(rng, DEVICE_BY_LEVEL[level])[visitor],
        "docs": rng.random(len(visitor)) < 0.12 - 0.02 * np.minimum(session_level, 4),
        "landing": rng.random(len(visitor)) < 0.4,
        "visitors": visitors,
    }


def _rhythm(rng: np.random.Generator, start: Floats) -> Floats:
    """Most sessions begin by day: within their day, times are drawn towards the afternoon."""
    day, second = np.divmod(start, 86400)
    moved = np.clip(rng.normal(14 * 3600, 3.5 * 3600, len(start)), 0, 82000)
    later = np.where(moved >= second, moved, second)
    result: Floats = day * 86400 + np.where(rng.random(len(start)) < 0.7, later, second)
    return result


def _apart(start: Floats, visitor: Ints, index: Ints) -> Floats:
    """Sessions of a visitor begin three hours apart: none is in another's hour."""
    floor = visitor * 1e9 - index * 10800.0
    result: Floats = np.maximum.accumulate(start + floor) - floor
    return result


def _views(rng: np.random.Generator, sessions: dict[str, Any]) -> dict[str, Any]:
    """Every page view of every session, one step of all sessions at a time."""
    cumulative = np.cumsum(transitions(), axis=2)
    chance = chances()
    alive = np.arange(len(sessions["level"]))
    entry = np.array([0.42, 0.18, 0.07, 0.07, 0.20, 0.06, 0.00])
    page = rng.choice(len(PAGES), len(alive), p=entry)
    clock = sessions["start"].copy()
    parts: list[dict[str, Any]] = []
    for step in range(MAX_VIEWS):
        level = sessions["level"][alive]
        mean = np.array([12, 18, 26, 36, 44, 2])[level]
        dwell = np.clip(rng.lognormal(np.log(mean), 0.8), 1.0, MAX_DWELL)
        after = (rng.random(len(alive))[:, None] > cumulative[level, page]).sum(axis=1)
        after = np.minimum(after, LEAVE)
        parts.append(
            {
                "session": alive,
                "page": page,
                "step": np.full(len(alive), step),
                "at": clock[alive],
                "dwell": dwell,
                "next": after,
                "p_true": chance[level, MAX_VIEWS - 1 - step, page],
            }
        )
        clock[alive] += dwell + 0.5
        on = after < SUBMIT
        alive, page = alive[on], after[on]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _happenings(
    rng: np.random.Generator, sessions: dict[str, Any], views: dict[str, Any]
) -> dict[str, Any]:
    """Page views and what else happens on each page, with moments in seconds."""
    level = sessions["level"][views["session"]]
    human, dwell, every = level != BOT, views["dwell"], np.arange(len(level))
    luck = {name: rng.random(len(level)) for name in ("film", "form", "link", "vitals", "error")}
    eager = np.minimum(level, LEVELS - 1) / (LEVELS - 1)
    film = human & (views["page"] == VIDEOS) & (luck["film"] < 0.35 + 0.5 * eager) & (dwell > 6)
    sent = views["next"] == SUBMIT
    begun = np.array([*FORM_BEGUN, 0.0])[level]
    form = human & (views["page"] == DEMO) & (sent | (luck["form"] < begun))
    found: list[tuple[int, Ints, Floats]] = [(VIEW, every, np.zeros(len(level)))]
    found += [(PING, every[human & (dwell > 10 * n)], np.array(10.0 * n)) for n in range(1, 16)]
    found += [
        (PLAY, every[film], np.array(2.0)),
        (PROGRESS, every[film], dwell[film] * 0.5),
        (END, every[film & (dwell > 25)], np.array(22.0)),
        (FOCUS, every[form], dwell[form] * 0.3),
        (CHANGE, every[form & (sent | (luck["link"] < 0.5))], np.array(0.9)),
        (SUBMITTED, every[sent], dwell[sent]),
        (LINK, every[human & (luck["link"] < 0.2)], np.array(0.8)),
        (VITALS, every[human & (luck["vitals"] < 0.25)], np.array(0.7)),
        (ERROR, every[luck["error"] < 0.01], np.array(0.6)),
    ]
    view = np.concatenate([at for _, at, _ in found])
    offset = np.concatenate([np.broadcast_to(after, len(at)) for _, at, after in found])
    kind = np.concatenate([np.full(len(at), kind) for kind, at, _ in found])
    return {
        **{name: column[view] for name, column in views.items()},
        "p_true": _knowing(kind, level[view], views["step"][view], views["p_true"][view]),
        "kind": kind,
        "at": views["at"][view] + np.minimum(offset, dwell[view]),
    }


def _knowing(kind: Ints, level: Ints, step: Ints, p_view: Floats) -> Floats:
    """The probability at an event of a form: who begins or fills it in is likelier to send it."""
    matrix, chance = transitions(), chances()
    left = MAX_VIEWS - 2 - step  # page views still possible after this one
    onward = np.einsum("ln,lkn->lk", matrix[:, DEMO, :SUBMIT], chance)
    goes_on = np.where(left >= 0, onward[level, np.maximum(left, 0)], 0.0)
    sent = matrix[level, DEMO, SUBMIT]
    known = p_view
    for event, share in ((FOCUS, 1.0), (CHANGE, 0.5)):
        begun = share * np.array([*FORM_BEGUN, 0.0])[level]
        informed = (sent + goes_on * begun) / np.maximum(sent + (1 - sent) * begun, 1e-12)
        known = np.where(kind == event, informed, known)
    result: Floats = known
    return result


# --- rows --------------------------------------------------------------------------------------


def _table(
    rng: np.random.Generator, sessions: dict[str, Any], happened: dict[str, Any], start: Any
) -> pa.Table:
    session, kind = happened["session"], happened["kind"]
    visitor_ids, session_ids = (
        _uuids(rng, sessions["visitors"]),
        _uuids(rng, len(sessions["level"])),
    )
    when = start + (happened["at"] * 1e6).astype("timedelta64[us]")
    app = np.where(sessions["docs"][session], 2, 0)
    entry = (happened["step"] == 0) & sessions["landing"][session] & (app == 0)
    app = np.where(entry & (sessions["channel"][session] >= 4), 1, app)
    channel = np.where(happened["step"] == 0, sessions["channel"][session], len(CHANNELS))
    columns: dict[str, Any] = {
        "app_id": _take(["website", "hs-landing", "docs"], app),
        "platform": _take(["web"], np.zeros_like(app)),
        **dict.fromkeys(
            ("collector_tstamp", "derived_tstamp", "dvce_created_tstamp"), pa.array(when)
        ),
        **{
            name: _take([row[i] for row in KINDS], kind)
            for i, name in enumerate(("event", "event_vendor", "event_name"))
        },
        "event_id": pa.array(_uuids(rng, len(kind))),
        "event_format": _take(["jsonschema"], np.zeros_like(app)),
        "event_version": _take(["1-0-0"], np.zeros_like(app)),
        "name_tracker": _take(["sp"], np.zeros_like(app)),
        "domain_userid": pa.array(visitor_ids).take(pa.array(sessions["visitor"][session])),
        "domain_sessionid": pa.array(session_ids).take(pa.array(session)),
        "domain_sessionidx": pa.array(sessions["index"][session].astype("int32")),
        **_web(channel, happened["page"], app),
        "useragent": _take(USER_AGENTS, sessions["device"][session]),
        "contexts_nl_basjes_yauaa_context_1": _take(
            [json.dumps([{"deviceClass": name}]) for name in DEVICES], sessions["device"][session]
        ),
        **{
            name: _take(
                [json.dumps(bodies[k]) if k in bodies else None for k in range(len(KINDS))], kind
            )
            for name, bodies in BODIES.items()
        },
    }
    return pa.table(columns)


def _web(channel: Ints, page: Ints, app: Ints) -> dict[str, pa.Array]:
    """Address and origin of each event; inside a session pages refer to one another."""
    origins = [*CHANNELS, (None, None, None, "internal", "samphire.example")]
    paths = ["/" if name == "home" else f"/{name}" for name in PAGES]
    combos = [(o, p, a) for o in range(len(origins)) for p in range(len(PAGES)) for a in range(3)]
    prefix = {0: "{}", 1: "/landing", 2: "/docs{}"}
    urls = [_url(origins[o], prefix[a].format(paths[p])) for o, p, a in combos]
    code = (channel * len(PAGES) + page) * 3 + app
    fields = ("mkt_medium", "mkt_source", "mkt_campaign", "refr_medium", "refr_urlhost")
    found = {name: _take([o[i] for o in origins], channel) for i, name in enumerate(fields)}
    referrers = [o[4] and f"https://{o[4]}/" for o in origins]
    return {
        "page_url": _take(urls, code),
        "page_title": _take([name.capitalize() for name in PAGES], page),
        "page_referrer": _take(referrers, channel),
        "refr_source": _take(
            [None if o[3] in ("internal", "unknown") else o[4] for o in origins], channel
        ),
        "page_urlhost": _take(["samphire.example"], np.zeros_like(page)),
        "page_urlpath": _take([url.removeprefix(SITE).split("?")[0] for url in urls], code),
        **found,
    }


def _url(origin: tuple[str | None, ...], path: str) -> str:
    medium, source, campaign, *_ = origin
    query = f"?utm_medium={medium}&utm_source={source}&utm_campaign={campaign}" if medium else ""
    return f"{SITE}{path}{query}"


def _take(values: Any, codes: Ints) -> pa.Array:
    return pa.array(list(values), pa.string()).take(pa.array(codes))


def _pick(rng: np.random.Generator, probabilities: Floats) -> Ints:
    """One category a row, by the row's probabilities."""
    cumulative = np.cumsum(probabilities, axis=1)
    drawn = (rng.random(len(cumulative))[:, None] > cumulative).sum(axis=1)
    result: Ints = np.minimum(drawn, probabilities.shape[1] - 1)
    return result


def _uuids(rng: np.random.Generator, count: int) -> list[str]:
    """Random ids in the form of UUIDs (version 4), from the seeded generator."""
    text = rng.bytes(16 * count).hex()
    parts = (text[i : i + 32] for i in range(0, len(text), 32))
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}" for t in parts]
