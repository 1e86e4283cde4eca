"""Connect to Signals with the SDK, and read live attributes over kept connections.

``connect`` returns the SDK's own client for calls that are made once (publish, test,
interventions). The server reads attributes for every score, and the SDK opens a TLS client
and a connection for each call (measured: 32 ms instead of 0.8 ms). ``AttributeReader``
therefore sends the same request through one ``requests`` session.

The console's token is valid for 24 hours. A process fetches one per API key, and every client
and reader sends it.

Example: ``reader(settings).read(visitor)`` ->
``{"domain_userid": "…", "latest_app_id": "website", "num_page_views_l7d": 3, …}``
"""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

import jwt
import requests
import urllib3
from requests.adapters import HTTPAdapter
from snowplow_signals import AttributeGroup, Signals, SignalsSandbox
from snowplow_signals.api_client import ApiClient
from snowplow_signals.signals import BaseSignalsWithApiClient

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.settings import SANDBOX_KEYS, SIGNALS_KEYS, Settings

#: Where the SDK exchanges an API key for a 24-hour token (snowplow_signals.api_client).
CONSOLE_URL = "https://console.snowplowanalytics.com/api/msc/v1/organizations"
TIMEOUT = 2.0  # seconds
CONSOLE_TIMEOUT = 10.0  # seconds; a reader's own deadline still holds
MAX_ANSWER = 1 << 20  # bytes
MAX_CALLS = 64  # at the same time,
MAX_CALLS_PER_KEY = 4  # and about one identifier
_RENEW_EARLY = 60.0  # seconds
_IDLE_SECONDS = 10.0  # after which a thread without a call ends
_T = TypeVar("_T")


def connect(settings: Settings) -> Signals | SignalsSandbox:
    """Return the SDK's client for the backend in use: Signals, its sandbox or the local one.

    Raises:
        SettingsError: a secret of that backend is missing, or the local sandbox has never
            been started; the message says what to do.
    """
    if settings.signals_backend == "signals":
        return _account_client(*settings.secrets(*SIGNALS_KEYS))
    if settings.signals_backend == "signals-sandbox":
        url, token = settings.secrets(*SANDBOX_KEYS)
        return SignalsSandbox(api_url=url, sandbox_token=token)
    return SignalsSandbox(api_url=settings.sandbox_url, sandbox_token=local_token(settings))


def reader(
    settings: Settings,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    *,
    timeout: float = TIMEOUT,
) -> "AttributeReader":
    """Return a reader of a problem's attributes, for the backend in use.

    Args:
        settings: the backend and its secrets.
        problem: the scoring problem, which names service and attribute key; or its group.
        timeout: seconds for the whole answer.
    Raises:
        SettingsError: as ``connect``.
        DefinitionError: ``problem`` is neither a scoring problem nor a group.
    """
    problem = problem_of(problem)
    if settings.signals_backend == "signals":
        url, key, key_id, org = settings.secrets(*SIGNALS_KEYS)
        token = _account_token(org, key_id, key)
    elif settings.signals_backend == "signals-sandbox":
        url, fixed = settings.secrets(*SANDBOX_KEYS)
        token = Token(lambda: fixed)
    else:
        url, token = settings.sandbox_url, Token(lambda: local_token(settings))
    return AttributeReader(url, token, problem.service.name, key=problem.key, timeout=timeout)


def local_token(settings: Settings) -> str:
    """Return the local sandbox's API token.

    Raises:
        SettingsError: the sandbox has never been started, or its token cannot be read.
    """
    path = settings.home / "token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"the local sandbox has no token at {path} ({error.strerror}). Start it with "
            "`python -m prospect_lib sandbox`, or set SP_API_URL (or SP_SANDBOX_URL) and the "
            "secrets beside it to use your own Signals."
        ) from error


class Calls:
    """Runs calls in threads, so that a whole answer has a deadline.

    The timeouts of ``requests`` are for each read: a server that sends one byte per second
    never exceeds them. Such a call keeps its thread until the connection ends, while its caller
    gets TimeoutError. If every thread is taken, further calls fail at once. The threads are
    daemons, unlike those of ThreadPoolExecutor: a call that hangs does not keep Python from
    ending. Idle threads end.

    Args:
        limit: calls at the same time.
        name: of the service, for messages.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit, self._name = limit, name
        self._free = threading.BoundedSemaphore(limit)
        self._per_key, self._counting = Counter[str](), threading.Lock()
        self._idle = threading.Semaphore(0)  # idle threads that no call has reserved
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def run(self, call: Callable[[], _T], timeout: float, key: str = "") -> _T:
        """Return the result of a call, or raise its error.

        Args:
            call: what to run.
            timeout: seconds.
            key: what the call is about; calls about one key never take all threads.
        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
            ServiceError: every thread is taken, or every one that the key may take.
        """
        with self._counting:
            if key and self._per_key[key] >= MAX_CALLS_PER_KEY:
                raise self._refusal(f"{MAX_CALLS_PER_KEY} calls about this identifier")
            if not self._free.acquire(blocking=False):
                raise self._refusal(f"{self._limit} calls")
            self._per_key[key] += 1
        future: Future[_T] = Future()
        future.add_done_callback(lambda _: self._ended(key))
        self._queue.put((future, call))
        if not self._idle.acquire(blocking=False):
            name = f"call to {self._name}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future.result(timeout)

    def _refusal(self, calls: str) -> ServiceError:
        return ServiceError(
            f"{calls} to {self._name} have not been answered yet, no more are made. Try again "
            "shortly."
        )

    def _ended(self, key: str) -> None:
        with self._counting:
            self._per_key[key] -= 1
            if not self._per_key[key]:
                del self._per_key[key]

    def _work(self) -> None:
        while True:
            try:
                future, call = self._queue.get(timeout=_IDLE_SECONDS)
            except Empty:
                if self._idle.acquire(blocking=False):
                    return
                continue  # a call has reserved this thread and arrives now
            try:
                settle = partial(future.set_result, call())
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                settle = partial(future.set_exception, error)
            self._idle.release()
            self._free.release()
            settle()


_console_calls = Calls(4, "Snowplow's console")


def console_token(
    org: str, key_id: str, key: str, *, console: str = CONSOLE_URL, timeout: float = TIMEOUT
) -> str:
    """Exchange an API key for the JWT that Signals accepts, valid for 24 hours.

    Raises:
        ServiceError: the console refuses the key or does not answer.
    """

    def fetch() -> requests.Response:
        with _kept_session(console, connections=1) as session:
            return session.get(
                f"{console}/{org}/credentials/v3/token",
                headers={"X-API-Key-Id": key_id, "X-API-Key": key},
                timeout=timeout,
                allow_redirects=False,  # the key is for the console only
            )

    try:
        response = _console_calls.run(fetch, timeout)
        if response.ok:
            return str(response.json()["accessToken"])
        reason = f"answered {response.status_code} to the API key. Check SP_API_KEY, SP_API_KEY_ID "
        reason += "and SP_ORG_ID."
    except (requests.RequestException, OSError, ValueError, KeyError, TypeError) as error:
        reason = f"gives no token ({type(error).__name__}). Try again."
    raise ServiceError(f"Snowplow's console {reason}")  # without the address, which has SP_ORG_ID


class Token:
    """A bearer token, fetched when first needed and renewed a minute before it expires.

    Args:
        fetch: returns a new token; one that is no JWT is kept until it is refused.
        clock: seconds since the epoch.
    """

    def __init__(self, fetch: Callable[[], str], *, clock: Callable[[], float] = time.time):
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._value, self._expires = "", 0.0

    def value(self) -> str:
        """Return the token to send; fetch one if there is none or it is about to expire."""
        with self._lock:
            if self._clock() >= self._expires - _RENEW_EARLY:
                self._value = self._fetch()
                self._expires = _expiry(self._value)
            return self._value

    def renew(self, refused: str) -> bool:
        """Fetch another token after a 401; return whether it differs from the refused one."""
        with self._lock:
            if self._value == refused:
                self._expires = 0.0
        return self.value() != refused


@cache
def _account_token(org: str, key_id: str, key: str) -> Token:
    """Return the one token of this process for an API key."""
    return Token(
        lambda: console_token(org, key_id, key, console=CONSOLE_URL, timeout=CONSOLE_TIMEOUT)
    )


class _AccountApi(ApiClient):
    """The SDK's HTTP client, with the process's token instead of one per client."""

    def __init__(self, url: str, key: str, key_id: str, org: str) -> None:
        self._shared = _account_token(org, key_id, key)
        super().__init__(url, key, key_id, org)

    @property
    def token(self) -> str | None:
        return self._shared.value()

    @token.setter
    def token(self, _: str | None) -> None:
        """Ignore the SDK's own copy."""


class _AccountSignals(Signals):
    def __init__(self, api: ApiClient) -> None:
        BaseSignalsWithApiClient.__init__(self, api_client=api)


@cache
def _account_client(url: str, key: str, key_id: str, org: str) -> Signals:
    """Return the one client of this process for an account."""
    return _AccountSignals(_AccountApi(url, key, key_id, org))


def _expiry(token: str) -> float:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return float(claims["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        return math.inf


class AttributeReader:
    """Reads the attributes of one service. Safe to share by threads.

    The result is that of the SDK's ``get_service_attributes``.

    Args:
        api_url: as given to the SDK.
        token: sent as the bearer token.
        service: name of the service.
        key: name of the attribute key.
        timeout: seconds for the whole answer, with its token and a second attempt.
        max_calls: calls at the same time, and connections kept open.
    """

    def __init__(
        self,
        api_url: str,
        token: Token,
        service: str,
        *,
        key: str = "domain_userid",
        timeout: float = TIMEOUT,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.service, self.key, self.timeout = service, key, timeout
        self._url = f"{api_url.rstrip('/')}/api/v1/get-online-attributes"
        self._token = token
        self._session = _kept_session(api_url, max_calls)
        self._calls = Calls(max_calls, "Signals")

    def read(self, identifier: str) -> dict[str, Any]:
        """Return every attribute of the service, ``None`` where there is no value.

        Raises:
            ServiceError: Signals is down, slow, refuses the token or the service, or its
                answer has another format; the message says which, and never the token.
        """
        deadline = time.monotonic() + self.timeout
        try:
            status, body = self._calls.run(
                lambda: self._ask(identifier, deadline), self.timeout, identifier
            )
        except (requests.Timeout, TimeoutError):
            raise ServiceError(
                f"Signals did not answer within {self.timeout:g} s. Try again shortly."
            ) from None
        except (requests.RequestException, OSError) as error:
            raise ServiceError(
                f"Signals cannot be reached ({type(error).__name__}). Check that its address "
                "is right and that it runs."
            ) from None
        if status not in (200, 201, 202):
            self._refuse(status)
        return self._parse(body, identifier)

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _ask(self, identifier: str, deadline: float) -> tuple[int, bytes]:
        """Send the request, again with another token if Signals refuses the first."""
        token = self._token.value()
        status, body = self._post(identifier, token, deadline)
        if status == 401 and self._token.renew(token):
            status, body = self._post(identifier, self._token.value(), deadline)
        return status, body

    def _post(self, identifier: str, token: str, deadline: float) -> tuple[int, bytes]:
        try:
            return self._send(identifier, token, deadline)
        except (requests.ConnectionError, ConnectionError) as error:
            if isinstance(error, requests.Timeout):
                raise
            return self._send(identifier, token, deadline)  # a kept connection was dropped

    def _send(self, identifier: str, token: str, deadline: float) -> tuple[int, bytes]:
        with self._session.post(
            self._url,
            json={
                "service": self.service,
                "attribute_keys": {self.key: [identifier]},
                "full_attribute_names": False,
            },
            headers={"Authorization": f"Bearer {token}"},
            timeout=_seconds_until(deadline),
            stream=True,
            allow_redirects=False,
        ) as response:
            return response.status_code, _body(response, deadline)

    def _refuse(self, status: int) -> NoReturn:
        advice = {
            401: "It refuses the token. Check the secrets of the Signals in use.",
            403: "The token may not read attributes. Check the key's permissions.",
            404: f"It has no service {self.service!r}. Publish it: python -m prospect_lib publish.",
            422: f"It cannot use the request. Check the service {self.service!r} and its key.",
        }
        raise ServiceError(f"Signals answered {status}. {advice.get(status, 'Try again shortly.')}")

    def _parse(self, body: bytes, identifier: str) -> dict[str, Any]:
        try:
            columns = json.loads(body, parse_constant=_refuse_constant)
            if columns.get(self.key, [identifier])[0] != identifier:
                raise ValueError("the answer is about another identifier")
            return {name: _single(values) for name, values in columns.items()}
        except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
            raise ServiceError(
                f"the answer of Signals is not a table of attributes ({type(error).__name__}). "
                "Check that the API address is that of Signals."
            ) from None


def _kept_session(address: str, connections: int) -> requests.Session:
    """Return a session that keeps a number of connections to an address open."""
    session = requests.Session()
    # Proxies are looked up once. With trust_env, requests would look them up for every call
    # and let a ~/.netrc replace our Authorization header.
    session.trust_env = False
    session.proxies.update(requests.utils.get_environ_proxies(address))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=connections))
    return session


def _seconds_until(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _body(response: requests.Response, deadline: float) -> bytes:
    """Return the body of a streamed response, if all of it arrives before the deadline."""
    body = b""
    try:
        while chunk := response.raw.read1(MAX_ANSWER, decode_content=True):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise ServiceError(
                    f"the answer of Signals is larger than {MAX_ANSWER >> 20} MiB. Limit the "
                    "attributes that list values: each visitor's have to be fewer."
                )
            _seconds_until(deadline)
    except urllib3.exceptions.ReadTimeoutError as error:
        raise TimeoutError from error
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError("the answer broke off") from error
    return body


def _single(values: Any) -> Any:
    if not isinstance(values, list) or len(values) > 1:
        raise TypeError("expected a list with one entry for the identifier")
    return values[0] if values else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
