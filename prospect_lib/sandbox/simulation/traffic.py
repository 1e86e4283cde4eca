"""Send events of simulated visitors to a collector, as Snowplow's trackers do."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import requests
from tqdm import tqdm

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.server.announcement import Announcement, announced
from prospect_lib.settings import Settings

Payload = dict[str, str]
PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
SNOWPLOW_SCHEMAS = "iglu:com.snowplowanalytics.snowplow"
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
MASKED = "***"
WAITING = 100  # score requests that wait at most
CLOSING_SECONDS = 2.0  # seconds that closing leaves to them


def send(collector: str, payloads: Sequence[Payload], *, user_agent: str = USER_AGENT) -> None:
    """POST a batch; return when the collector has stored it.

    Args:
        collector: its address, such as ``http://127.0.0.1:9090``.
        payloads: tracker fields of each event.
        user_agent: of the browser.

    Raises:
        ServiceError: the collector does not answer, or refuses the batch.
    """
    body = {"schema": PAYLOAD_DATA, "data": list(payloads)}
    address = f"{collector}/com.snowplowanalytics.snowplow/tp2"
    try:
        answer = requests.post(address, json=body, headers={"User-Agent": user_agent}, timeout=10)
    except requests.RequestException as error:
        raise ServiceError(
            f"no collector answers at {collector} ({type(error).__name__}). Start the sandbox: "
            "python -m prospect_lib sandbox."
        ) from error
    if answer.status_code != 200:
        raise ServiceError(f"{address} answered {answer.status_code}: {answer.text[:200]}")


def happening_now(payloads: Sequence[Payload]) -> list[Payload]:
    """Return payloads with the current time, in their order, so that the next score counts them."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    result = []
    for ago, payload in zip(range(len(payloads) - 1, -1, -1), payloads, strict=True):
        stamps = ("dtm", "stm", "ttm") if "ttm" in payload else ("dtm", "stm")
        result.append(payload | dict.fromkeys(stamps, str(now - ago)))
    return result


def scripted_visitor(
    domain_userid: str, session_id: str, base_url: str, *, start: datetime
) -> Iterator[tuple[str, list[Payload]]]:
    """Yield the steps of a visitor who asks for a demo: a name, and what the tracker sends.

    They come from an advertisement, look at the pricing, watch the film, look at the pricing
    again, and fill in and send the form. They take the time that interested people take; the
    events of a step include the page pings since the step before.

    Args:
        domain_userid: id of the visitor.
        session_id: id of the session.
        base_url: address of the website.
        start: time of the last event (aware); the others happened in the minutes before.
    """
    steps = _visit(base_url)
    end = steps[-1][1][-1][0]
    for name, events in steps:
        yield (
            name,
            [
                _payload(
                    domain_userid, session_id, start - timedelta(seconds=end - at), kind, fields
                )
                for at, kind, fields in events
            ],
        )


_Event = tuple[float, str, Payload]  # seconds after the visit's begin, kind, fields


def _visit(base: str) -> list[tuple[str, list[_Event]]]:
    home, pricing, videos, demo, thanks = (
        f"{base}{path}" for path in ("/", "/pricing", "/videos", "/demo", "/thank-you")
    )
    form = {"formId": "request-demo"}
    field = {**form, "elementId": "email", "nodeName": "INPUT", "elementClasses": [],
             "value": MASKED}  # fmt: skip
    sent = {**form, "formClasses": [], "elements": [
        {"name": "email", "value": MASKED, "nodeName": "INPUT", "type": "email"}]}  # fmt: skip
    focus = _form(demo, "focus_form", {**field, "elementType": "email"})
    change = _form(demo, "change_form", {**field, "type": "email"})
    advertisement = _page(f"{home}?utm_medium=cpc&utm_campaign=brand", "Home")
    return [
        ("sees the home page", [(0, "pv", advertisement)]),
        ("looks at pricing", [*_pings(home, 0, 2), (26, "pv", _page(pricing, "Pricing"))]),
        (
            "watches a video",
            [
                *_pings(pricing, 26, 3),
                (62, "pv", _page(videos, "Videos")),
                (64, "ue", _film(videos, "play_event")),
                (72, "pp", _ping(videos)),
                (74, "ue", _film(videos, "percent_progress_event")),
            ],
        ),
        (
            "looks at pricing again",
            [
                (82, "pp", _ping(videos)),
                (84, "ue", _film(videos, "end_event")),
                (88, "pv", _page(pricing, "Pricing")),
            ],
        ),
        ("opens the demo form", [*_pings(pricing, 88, 2), (114, "pv", _page(demo, "Demo"))]),
        ("begins to fill it in", [(120, "ue", focus)]),
        ("fills in a field", [*_pings(demo, 114, 2), (142, "ue", change)]),
        (
            "sends the form",
            [
                *_pings(demo, 134, 2),
                (164, "ue", _form(demo, "submit_form", sent)),
                (164.5, "pv", _page(thanks, "Thank-you")),
            ],
        ),
    ]


def _pings(url: str, begin: float, count: int) -> list[_Event]:
    return [(begin + 10.0 * n, "pp", _ping(url)) for n in range(1, count + 1)]


def _film(url: str, name: str) -> Payload:
    player = {"currentTime": 0, "paused": False, "ended": name == "end_event",
              "label": "one morning"}  # fmt: skip
    schema = f"{SNOWPLOW_SCHEMAS}.media/{name}/jsonschema/1-0-0"
    return {"url": url, **_event(schema, {}), **_player([player])}


def _form(url: str, name: str, data: dict[str, Any]) -> Payload:
    return {"url": url, **_event(f"{SNOWPLOW_SCHEMAS}/{name}/jsonschema/1-0-0", data)}


def _page(url: str, title: str) -> Payload:
    return {"url": url, "page": title, "refr": "https://www.google.com/"}


def _ping(url: str) -> Payload:
    return {"url": url, "pp_mix": "0", "pp_max": "0", "pp_miy": "0", "pp_may": "640"}


def _event(schema: str, data: dict[str, Any]) -> Payload:
    outer = {
        "schema": f"{SNOWPLOW_SCHEMAS}/unstruct_event/jsonschema/1-0-0",
        "data": {"schema": schema, "data": data},
    }
    return {"ue_pr": json.dumps(outer)}


def _player(players: list[dict[str, Any]]) -> Payload:
    """Return the state of the media element, which trackers add to each of its events."""
    schema = f"{SNOWPLOW_SCHEMAS}/media_player/jsonschema/2-0-0"
    outer = {
        "schema": f"{SNOWPLOW_SCHEMAS}/contexts/jsonschema/1-0-1",
        "data": [{"schema": schema, "data": player} for player in players],
    }
    return {"co": json.dumps(outer)}


def _payload(visitor: str, session: str, at: datetime, kind: str, fields: Payload) -> Payload:
    created = str(int(at.timestamp() * 1000))
    return {
        "e": kind, "eid": str(uuid4()), "tv": "js-4.10.1", "tna": "sp",
        "aid": "website", "p": "web",
        "dtm": created, "ttm": created, "stm": str(int(datetime.now(UTC).timestamp() * 1000)),
        "duid": visitor, "sid": session, "vid": "1", "tz": "UTC", "lang": "en",
        "res": "1440x900", "vp": "1440x760", "ds": "1440x2400", "cs": "UTF-8", **fields,
    }  # fmt: skip


def live(
    settings: Settings, *, visitors_per_minute: float, duration: float, seed: int | None = None
) -> int:
    """Send simulated sessions, with pauses shortened tenfold, until Ctrl-C or their end.

    Args:
        settings: the sandbox's address, and its home, where a prediction server is announced.
        visitors_per_minute: how many sessions begin per minute.
        duration: in seconds.
        seed: of what visitors do; random by default. Their ids are new in every run, because a
            collector drops events that it has stored.

    Returns:
        How many events were sent.

    Raises:
        ServiceError: the collector does not answer.
        DataError: the pace or the duration is not positive.
    """
    for name, value in (("visitors_per_minute", visitors_per_minute), ("duration", duration)):
        if not value > 0:
            raise DataError(f"{name}={value} of live traffic: expected more than 0.")
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    rng = np.random.default_rng(seed)
    count = max(1, round(visitors_per_minute * duration / 60))
    queue = _schedule(rng, count, duration, seed)
    start, sent, scores = time.monotonic(), 0, ScoreRequests(settings)
    try:
        for due, payload, agent in tqdm(queue, desc="live events", unit="event"):
            time.sleep(max(0.0, due - (time.monotonic() - start)))
            send(settings.sandbox_url, happening_now([payload]), user_agent=agent)
            sent += 1
            if payload["e"] != "pp":
                scores.submit(payload)
    except KeyboardInterrupt:
        return sent
    finally:
        scores.close()
    return sent


_FIELDS = {"domain_userid": "duid", "domain_sessionid": "sid", "user_id": "uid"}


class ScoreRequests:
    """Request scores as the website's pages do, while a prediction server is announced.

    They go out in the background, one after the other, because no event waits for a score.
    """

    def __init__(self, settings: Settings) -> None:
        self._home, self._pending = settings.home, set[Future[None]]()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="score-requests")
        self._session = requests.Session()
        self._session.trust_env = False

    def submit(self, payload: Payload) -> None:
        """Request the score of an event's visitor, if the server is about such visitors.

        The request is dropped while ``WAITING`` others wait, or if it fails.
        """
        announcement = announced(self._home)
        self._pending = {request for request in self._pending if not request.done()}
        field = _FIELDS.get(announcement.predict_key, "")
        if announcement.predict_url and field in payload and len(self._pending) < WAITING:
            self._pending.add(self._pool.submit(self._request, payload[field], announcement))

    def close(self) -> None:
        """Give the requests that wait ``CLOSING_SECONDS`` seconds, and drop the rest."""
        wait(self._pending, timeout=CLOSING_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def _request(self, visitor: str, announcement: Announcement) -> None:
        token = announcement.predict_token
        with contextlib.suppress(requests.RequestException):
            self._session.post(
                f"{announcement.predict_url}/predict",
                json={announcement.predict_key: visitor},
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=5,
            )


def _schedule(
    rng: np.random.Generator, count: int, duration: float, seed: int
) -> list[tuple[float, Payload, str]]:
    """Return the events of first sessions that begin at random times, in order of time.

    Each one has its second, its payload and its user agent.
    """
    rows = simulate(count, 1, end=datetime.now(UTC), seed=seed).events.to_pylist()
    salt = uuid4().hex[:8]
    starts: dict[str, tuple[float, datetime]] = {}
    queue: list[tuple[float, Payload, str]] = []
    for row in rows:
        if row["domain_sessionidx"] != 1:
            continue
        begin, first = starts.setdefault(
            row["domain_userid"], (float(rng.uniform(0, duration)), row["derived_tstamp"])
        )
        due = begin + (row["derived_tstamp"] - first).total_seconds() / 10
        queue.append((due, _replayed(row, salt), row["useragent"]))
    return sorted(queue, key=lambda item: (item[0], item[1]["eid"]))


def _replayed(row: dict[str, Any], salt: str) -> Payload:
    """Return a simulated row as the tracker sends it, with ids of this run."""
    kinds = {"page_view": "pv", "page_ping": "pp", "unstruct": "ue"}
    payload: Payload = {
        "e": kinds[row["event"]], "eid": salt + row["event_id"][8:],
        "tv": "js-4.10.1", "tna": "sp",
        "aid": row["app_id"], "p": "web", "url": row["page_url"], "page": row["page_title"],
        "duid": salt + row["domain_userid"][8:], "vid": "1",
        "sid": salt + row["domain_sessionid"][8:],
        **({"refr": row["page_referrer"]} if row["page_referrer"] else {}),
    }  # fmt: skip
    if row["event"] == "unstruct":
        column = f"unstruct_event_com_snowplowanalytics_snowplow_{row['event_name']}_1"
        schema = f"iglu:{row['event_vendor']}/{row['event_name']}/jsonschema/{row['event_version']}"
        payload |= _event(schema, json.loads(row.get(column) or "{}"))
    if players := row["contexts_com_snowplowanalytics_snowplow_media_player_2"]:
        payload |= _player(json.loads(players))
    return payload
