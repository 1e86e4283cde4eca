"""Turn simulated actions into rows of atomic events, as the collector stores them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.simulation.walk import PAGES, IntArray

SITE = "https://samphire.example"
MEDIA = f"{SNOWPLOW}.media"
#: campaign's medium, source and name; referrer's medium and host
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
DEVICES = ("Desktop", "Phone", "Tablet", "Robot")
USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
    "ExampleBot/1.0 (+https://bot.example)",
)
#: event, vendor and name of each kind of action
SIMULATED_EVENTS = (
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
VIEW, PING, PLAY, PROGRESS, END, FOCUS, CHANGE, SUBMITTED, LINK, VITALS, ERROR = range(
    len(SIMULATED_EVENTS)
)
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


def events_table(
    rng: np.random.Generator,
    sessions: dict[str, Any],
    actions: dict[str, Any],
    start: Any,
    part: tuple[int, int],
) -> pa.Table:
    """Return actions as atomic events.

    Args:
        rng: source of the ids.
        sessions: columns of the sessions, see :func:`~.walk.sessions_of`.
        actions: columns of the actions: their session, kind, page, step and time.
        start: start of the period (``numpy.datetime64``); times are in seconds after it.
        part: number of this part, and of all parts: visitors' ids of later parts are larger.
    """
    session, kind = actions["session"], actions["kind"]
    visitor_ids, session_ids = (
        _uuids(rng, sessions["visitors"], part),
        _uuids(rng, len(sessions["level"])),
    )
    when = start + (actions["at"] * 1e6).astype("timedelta64[us]")
    app = np.where(sessions["docs"][session], 2, 0)
    entry = (actions["step"] == 0) & sessions["landing"][session] & (app == 0)
    app = np.where(entry & (sessions["channel"][session] >= 4), 1, app)
    channel = np.where(actions["step"] == 0, sessions["channel"][session], len(CHANNELS))
    columns: dict[str, Any] = {
        "app_id": _take(["website", "hs-landing", "docs"], app),
        "platform": _take(["web"], np.zeros_like(app)),
        **dict.fromkeys(
            ("collector_tstamp", "derived_tstamp", "dvce_created_tstamp"), pa.array(when)
        ),
        **{
            name: _take([action[i] for action in SIMULATED_EVENTS], kind)
            for i, name in enumerate(("event", "event_vendor", "event_name"))
        },
        "event_id": pa.array(_uuids(rng, len(kind))),
        "event_format": _take(["jsonschema"], np.zeros_like(app)),
        "event_version": _take(["1-0-0"], np.zeros_like(app)),
        "name_tracker": _take(["sp"], np.zeros_like(app)),
        "domain_userid": pa.array(visitor_ids).take(pa.array(sessions["visitor"][session])),
        "domain_sessionid": pa.array(session_ids).take(pa.array(session)),
        "domain_sessionidx": pa.array(sessions["index"][session].astype("int32")),
        **_web(channel, actions["page"], app),
        "useragent": _take(USER_AGENTS, sessions["device"][session]),
        "contexts_nl_basjes_yauaa_context_1": _take(
            [json.dumps([{"deviceClass": name}]) for name in DEVICES], sessions["device"][session]
        ),
        **{
            name: _take(
                [
                    json.dumps(bodies[k]) if k in bodies else None
                    for k in range(len(SIMULATED_EVENTS))
                ],
                kind,
            )
            for name, bodies in BODIES.items()
        },
    }
    return pa.table(columns)


def _web(channel: IntArray, page: IntArray, app: IntArray) -> dict[str, pa.Array]:
    """Return address and origin of each event; within a session, pages refer to one another."""
    origins = [*CHANNELS, (None, None, None, "internal", "samphire.example")]
    paths = ["/" if name == "home" else f"/{name}" for name in PAGES]
    combos = [(o, p, a) for o in range(len(origins)) for p in range(len(PAGES)) for a in range(3)]
    prefix = {0: "{}", 1: "/landing", 2: "/docs{}"}
    urls = [_url(origins[o], prefix[a].format(paths[p])) for o, p, a in combos]
    code = (channel * len(PAGES) + page) * 3 + app
    fields = ("mkt_medium", "mkt_source", "mkt_campaign", "refr_medium", "refr_urlhost")
    origin = {name: _take([o[i] for o in origins], channel) for i, name in enumerate(fields)}
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
        **origin,
    }


def _url(origin: tuple[str | None, ...], path: str) -> str:
    medium, source, campaign, *_ = origin
    query = f"?utm_medium={medium}&utm_source={source}&utm_campaign={campaign}" if medium else ""
    return f"{SITE}{path}{query}"


def _take(values: Any, codes: IntArray) -> pa.Array:
    return pa.array(list(values), pa.string()).take(pa.array(codes))


def _uuids(rng: np.random.Generator, count: int, part: tuple[int, int] = (0, 1)) -> list[str]:
    """Return random ids in the form of UUIDs (version 4), from the seeded generator."""
    text = rng.bytes(16 * count).hex()
    number, total = part
    parts = (text[i : i + 32] for i in range(0, len(text), 32))
    heads = ((int(t[:8], 16), t) for t in parts)
    return [
        f"{(number * 16**8 + head) // total:08x}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}"
        for head, t in heads
    ]
