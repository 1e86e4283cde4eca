"""Turn simulated actions into rows of atomic events, as the collector stores them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.simulation.intent import PAGES, IntArray

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
#: how the channels show in ``mkt_campaign`` and ``refr_urlhost``, joined by a space
ORIGINS = tuple(f"{campaign or ''} {host or ''}" for _, _, campaign, _, host in CHANNELS)
#: the YAUAA entity of each device
DEVICE_NAMES = tuple(
    json.dumps([{"deviceClass": name}]) for name in ("Desktop", "Phone", "Tablet", "Robot")
)
PATHS = tuple("/" if name == "home" else f"/{name}" for name in PAGES)
APPS = {"landing": "hs-landing", "docs": "docs"}  # of these pages; the others are of the website
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
    views: dict[str, Any],
    actions: dict[str, Any],
    start: Any,
    part: tuple[int, int],
) -> pa.Table:
    """Return actions as atomic events.

    Args:
        rng: source of the ids.
        views: columns of the page views, see :func:`~.walk.walk`.
        actions: of each action its page view (a row of ``views``), its kind, and its time in
            seconds after the start.
        start: start of the period (``numpy.datetime64``).
        part: number of this part, and of all parts: visitors' ids of later parts are larger.
    """
    kind = actions["kind"]
    visitor, session, step, page, channel, device = (
        views[name][actions["view"]]
        for name in ("visitor", "session", "step", "page", "channel", "device")
    )
    new_session = np.diff(visitor * 10_000 + session, prepend=-1) != 0
    visitor_ids = _uuids(rng, visitor.max() + 1, part)
    session_ids = _uuids(rng, int(new_session.sum()))
    when = start + (actions["at"] * 1e6).astype("timedelta64[us]")
    columns: dict[str, Any] = {
        "app_id": _take([APPS.get(name, "website") for name in PAGES], page),
        "platform": _take(["web"], np.zeros_like(page)),
        **dict.fromkeys(
            ("collector_tstamp", "derived_tstamp", "dvce_created_tstamp"), pa.array(when)
        ),
        **{
            name: _take([action[i] for action in SIMULATED_EVENTS], kind)
            for i, name in enumerate(("event", "event_vendor", "event_name"))
        },
        "event_id": pa.array(_uuids(rng, len(kind))),
        "event_format": _take(["jsonschema"], np.zeros_like(page)),
        "event_version": _take(["1-0-0"], np.zeros_like(page)),
        "name_tracker": _take(["sp"], np.zeros_like(page)),
        "domain_userid": pa.array(visitor_ids).take(pa.array(visitor)),
        "domain_sessionid": pa.array(session_ids).take(pa.array(np.cumsum(new_session) - 1)),
        "domain_sessionidx": pa.array(session.astype("int32")),
        **_web(np.where(step == 0, channel, len(CHANNELS)), page),
        "useragent": _take(USER_AGENTS, device),
        "contexts_nl_basjes_yauaa_context_1": _take(DEVICE_NAMES, device),
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


def _web(channel: IntArray, page: IntArray) -> dict[str, pa.Array]:
    """Return address and origin of each event; within a session, pages refer to one another."""
    origins = [*CHANNELS, (None, None, None, "internal", "samphire.example")]
    urls = [_url(origin, path) for origin in origins for path in PATHS]
    fields = ("mkt_medium", "mkt_source", "mkt_campaign", "refr_medium", "refr_urlhost")
    origin = {name: _take([o[i] for o in origins], channel) for i, name in enumerate(fields)}
    referrers = [o[4] and f"https://{o[4]}/" for o in origins]
    return {
        "page_url": _take(urls, channel * len(PAGES) + page),
        "page_title": _take([name.capitalize() for name in PAGES], page),
        "page_referrer": _take(referrers, channel),
        "refr_source": _take(
            [None if o[3] in ("internal", "unknown") else o[4] for o in origins], channel
        ),
        "page_urlhost": _take(["samphire.example"], np.zeros_like(page)),
        "page_urlpath": _take(PATHS, page),
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
