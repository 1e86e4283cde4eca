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
MASKED = "****"
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


def happening_now(payload: Payload) -> Payload:
    """Return a payload with the current time, so that the next score counts it."""
    now = str(int(datetime.now(UTC).timestamp() * 1000))
    stamps = {"dtm": now, "stm": now} | ({"ttm": now} if "ttm" in payload else {})
    return payload | stamps


def scripted_visitor(
    domain_userid: str, session_id: str, base_url: str, *, start: datetime
) -> Iterator[tuple[str, Payload]]:
    """Yield the steps of an interested visitor: what they do, and what the tracker sends.

    The visitor reads about the product and its customers, looks at the pricing twice, watches a
    film and starts to fill in the form.

    Args:
        domain_userid: id of the visitor.
        session_id: id of the session.
        base_url: address of the website.
        start: time of the last step (aware); the others happened in the minute before.
    """
    steps = _visit(base_url)
    for number, (name, kind, fields) in enumerate(steps):
        at = start - timedelta(seconds=6 * (len(steps) - 1 - number))
        yield name, _payload(domain_userid, session_id, at, kind, fields)


def conversion(domain_userid: str, session_id: str, base_url: str, *, at: datetime) -> Payload:
    """Return the payload of a submitted form; what was typed is masked."""
    element = {"name": "email", "value": MASKED, "nodeName": "INPUT", "type": "email"}
    data = {"formId": "request-demo", "formClasses": [], "elements": [element]}
    fields = {
        "url": f"{base_url}/demo",
        **_event(f"{SNOWPLOW_SCHEMAS}/submit_form/jsonschema/1-0-0", data),
    }
    return _payload(domain_userid, session_id, at, "ue", fields)


def _visit(base: str) -> list[tuple[str, str, Payload]]:
    field = {"formId": "request-demo", "elementId": "email", "nodeName": "INPUT",
             "elementClasses": [], "value": MASKED}  # fmt: skip
    form = f"{base}/demo"
    focus = _event(
        f"{SNOWPLOW_SCHEMAS}/focus_form/jsonschema/1-0-0", {**field, "elementType": "email"}
    )
    change = _event(f"{SNOWPLOW_SCHEMAS}/change_form/jsonschema/1-0-0", {**field, "type": "email"})
    player = {"currentTime": 0, "paused": False, "ended": False, "label": "one morning"}
    play = _event(f"{SNOWPLOW_SCHEMAS}.media/play_event/jsonschema/1-0-0", {}) | _player([player])
    return [
        ("sees the home page", "pv", _page(f"{base}/?utm_medium=cpc&utm_campaign=brand", "Home")),
        ("looks at the product", "pv", _page(f"{base}/product", "Product")),
        ("reads on", "pp", _ping(f"{base}/product")),
        ("looks at customers", "pv", _page(f"{base}/customers", "Customers")),
        ("looks at pricing", "pv", _page(f"{base}/pricing", "Pricing")),
        ("reads on", "pp", _ping(f"{base}/pricing")),
        ("opens a video", "pv", _page(f"{base}/videos", "Videos")),
        ("plays it", "ue", {"url": f"{base}/videos", **play}),
        ("looks at pricing again", "pv", _page(f"{base}/pricing", "Pricing")),
        ("opens the demo form", "pv", _page(form, "Demo")),
        ("begins to fill it in", "ue", {"url": form, **focus}),
        ("fills in a field", "ue", {"url": form, **change}),
    ]


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
            send(settings.sandbox_url, [happening_now(payload)], user_agent=agent)
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
