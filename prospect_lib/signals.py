"""Connect to Signals with the SDK, and read live attributes over a kept connection.

``connect`` gives the SDK's own client for everything that is done once (publish,
test, interventions). The server reads attributes for every score, and the SDK builds
a TLS client and a connection on each call (measured: 32 ms against 0.8 ms), so
``AttributeReader`` makes the same request through a pooled ``requests`` session.

Example: ``reader(settings).read(visitor)`` ->
``{"domain_userid": "…", "latest_app_id": "website", "num_page_views_l7d": 3, …}``
"""

import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jwt
import requests
import urllib3
from snowplow_signals import Service, Signals, SignalsSandbox

from prospect_lib.attributes import prospect_service
from prospect_lib.deadline import kept_session, until
from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.settings import SANDBOX_KEYS, SIGNALS_KEYS, Settings

#: Where the SDK exchanges an API key for a 24-hour token (snowplow_signals.api_client).
CONSOLE_URL = "https://console.snowplowanalytics.com/api/msc/v1/organizations"
TIMEOUT = 2.0
MAX_ANSWER = 1 << 20
_RENEW_EARLY = 60.0


def connect(settings: Settings) -> Signals | SignalsSandbox:
    """The SDK's client for the backend in use: Signals, a Signals sandbox or the local one.

    Raises:
        SettingsError: a secret of that backend is missing, or the local sandbox has
            never been started; the message says what to do.
    """
    if settings.signals_backend == "signals":
        url, key, key_id, org = settings.secrets(*SIGNALS_KEYS)
        return Signals(api_url=url, api_key=key, api_key_id=key_id, org_id=org)
    if settings.signals_backend == "signals-sandbox":
        url, token = settings.secrets(*SANDBOX_KEYS)
        return SignalsSandbox(api_url=url, sandbox_token=token)
    return SignalsSandbox(api_url=settings.sandbox_url, sandbox_token=local_token(settings))


def reader(
    settings: Settings, service: Service = prospect_service, *, timeout: float = TIMEOUT
) -> "AttributeReader":
    """A pooled reader of one service's attributes, for the backend in use.

    Raises:
        SettingsError: as ``connect``.
    """
    if settings.signals_backend == "signals":
        url, key, key_id, org = settings.secrets(*SIGNALS_KEYS)
        token = Token(lambda: console_token(org, key_id, key))
    elif settings.signals_backend == "signals-sandbox":
        url, fixed = settings.secrets(*SANDBOX_KEYS)
        token = Token(lambda: fixed)
    else:
        url, token = settings.sandbox_url, Token(lambda: local_token(settings))
    return AttributeReader(url, token, service.name, timeout=timeout)


def local_token(settings: Settings) -> str:
    """The local sandbox's API token.

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


def console_token(
    org: str, key_id: str, key: str, *, console: str = CONSOLE_URL, timeout: float = TIMEOUT
) -> str:
    """Exchange an API key for the JWT that Signals accepts, valid for 24 hours.

    Raises:
        ServiceError: the console refuses the key or does not answer.
    """
    try:
        with until(time.monotonic() + timeout), kept_session(console, connections=1) as session:
            answer = session.get(
                f"{console}/{org}/credentials/v3/token",
                headers={"X-API-Key-Id": key_id, "X-API-Key": key},
                timeout=timeout,
                allow_redirects=False,  # the key is for the console alone
            )
        answer.raise_for_status()
        return str(answer.json()["accessToken"])
    except requests.HTTPError as error:
        raise ServiceError(
            f"Snowplow's console answered {error.response.status_code} to the API key. Check "
            "SP_API_KEY, SP_API_KEY_ID and SP_ORG_ID."
        ) from None
    except (requests.RequestException, OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"no token from Snowplow's console ({type(error).__name__}). Try again."
        ) from None


class Token:
    """A token fetched when first needed, kept, and renewed a minute before it expires.

    Args:
        fetch: gives a fresh token; one that is no JWT is kept until it is refused.
        clock: seconds since the epoch.
    """

    def __init__(self, fetch: Callable[[], str], *, clock: Callable[[], float] = time.time):
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._value, self._until = "", 0.0

    def value(self) -> str:
        """The token to send; fetches one where none is kept or it is about to expire."""
        with self._lock:
            if self._clock() >= self._until - _RENEW_EARLY:
                self._value = self._fetch()
                self._until = _expiry(self._value)
            return self._value

    def refused(self, value: str) -> bool:
        """Forget a token that got a 401; true if the one fetched in its place is another."""
        with self._lock:
            if self._value == value:
                self._until = 0.0
        return self.value() != value


def _expiry(token: str) -> float:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return float(claims["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        return math.inf


class AttributeReader:
    """Reads one service's attributes of one identifier, as the SDK's
    ``get_service_attributes`` does and with the same result. Safe to share by threads.

    Args:
        api_url: as given to the SDK.
        token: what to send as the bearer token.
        service: name of the service.
        key: name of the attribute key.
        timeout: seconds within which an answer must be there, retries included.
        connections: kept open at most; more are opened and closed when needed.
    """

    def __init__(
        self,
        api_url: str,
        token: Token,
        service: str,
        *,
        key: str = "domain_userid",
        timeout: float = TIMEOUT,
        connections: int = 64,
    ) -> None:
        self.service, self.key, self.timeout = service, key, timeout
        self._url = f"{api_url.rstrip('/')}/api/v1/get-online-attributes"
        self._token = token
        self._session = kept_session(api_url, connections)

    def read(self, identifier: str) -> dict[str, Any]:
        """Every attribute of the service, ``None`` where there is no value.

        Raises:
            ServiceError: Signals is down, slow, refuses the token or the service, or
                answers what is not its format; the message says which, never the token.
        """
        deadline = time.monotonic() + self.timeout
        token = self._token.value()
        status, body = self._post(identifier, token, deadline)
        if status == 401 and self._token.refused(token):
            status, body = self._post(identifier, self._token.value(), deadline)
        if status not in (200, 201, 202):
            self._refuse(status)
        return self._parse(body, identifier)

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _post(self, identifier: str, token: str, deadline: float) -> tuple[int, bytes]:
        body = {
            "service": self.service,
            "attribute_keys": {self.key: [identifier]},
            "full_attribute_names": False,
        }
        headers = {"Authorization": f"Bearer {token}"}
        try:
            try:
                return self._send(body, headers, deadline)
            except (requests.ConnectionError, ConnectionError) as error:
                if isinstance(error, requests.Timeout):
                    raise
                return self._send(body, headers, deadline)  # a kept connection was dropped
        except (requests.Timeout, TimeoutError):
            raise ServiceError(
                f"Signals did not answer within {self.timeout:g} s. Try again shortly."
            ) from None
        except (requests.RequestException, OSError) as error:
            raise ServiceError(
                f"Signals cannot be reached ({type(error).__name__}). Check that its address "
                "is right and that it runs."
            ) from None

    def _send(
        self, body: dict[str, Any], headers: dict[str, str], deadline: float
    ) -> tuple[int, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        with (
            until(deadline),
            self._session.post(
                self._url,
                json=body,
                headers=headers,
                timeout=left,
                stream=True,
                allow_redirects=False,
            ) as answer,
        ):
            return answer.status_code, _content(answer)

    def _refuse(self, status: int) -> NoReturn:
        advice = {
            401: "It refuses the token. Check the secrets of the Signals in use.",
            403: "The token may not read attributes. Check the key's permissions.",
            404: f"It has no service {self.service!r}. Publish it, as notebook 01 does.",
            422: f"It cannot use the request. Check the service {self.service!r} and its key.",
        }
        raise ServiceError(f"Signals answered {status}. {advice.get(status, 'Try again shortly.')}")

    def _parse(self, body: bytes, identifier: str) -> dict[str, Any]:
        try:
            columns = json.loads(body, parse_constant=_no_constant)
            if columns.get(self.key, [identifier])[0] != identifier:
                raise ValueError("the answer is about another identifier")
            return {name: _single(values) for name, values in columns.items()}
        except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
            raise ServiceError(
                f"Signals answered what is not a table of attributes ({type(error).__name__}). "
                "Check that the API address is that of Signals."
            ) from None


def _content(answer: requests.Response) -> bytes:
    """The body; ``until`` sees to it that it comes in time."""
    body = b""
    try:
        while chunk := answer.raw.read1(MAX_ANSWER, decode_content=True):
            body += chunk
            if len(body) > MAX_ANSWER:
                raise requests.RequestException("answer too large")
    except urllib3.exceptions.ReadTimeoutError as error:
        raise TimeoutError from error
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError("the answer broke off") from error
    return body


def _single(values: Any) -> Any:
    if not isinstance(values, list) or len(values) > 1:
        raise TypeError("expected a list with one entry for the identifier")
    return values[0] if values else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
