"""Who may use the API: the sandbox's token, and what Snowplow's console gives for an API key.

Clients with an API key (``Signals(api_url, api_key, api_key_id, org_id)``) first ask the
console for a token of 24 hours. Here the sandbox is that console too: its own token serves as
the key, and what it gives is signed with it, so nothing has to be kept. The SDK has the
console's address built in; whoever wants to exercise it must lead that address here.
"""

import hmac
import ipaddress
import time
from urllib.parse import urlsplit

import jwt
from flask import Blueprint, Response, current_app, jsonify, request

credentials = Blueprint("credentials", __name__)
ALGORITHM = "HS256"
VALID = 24 * 3600  # seconds


@credentials.get("/api/msc/v1/organizations/<org>/credentials/v3/token")
def exchange(org: str) -> Response:
    """A token for the API key in ``X-API-Key``; 401 for any other key."""
    key, key_id = (request.headers.get(name, "") for name in ("X-API-Key", "X-API-Key-Id"))
    if not key_id or not _same(key, _secret()):
        response = jsonify(message="The API key or its id is wrong: the key is in PROSPECT_HOME.")
        response.status_code = 401
        return response
    now = int(time.time())
    claims = {"sub": key_id, "org": org, "iat": now, "exp": now + VALID}
    return jsonify(accessToken=jwt.encode(claims, _secret(), algorithm=ALGORITHM))


def authorised() -> bool:
    """Whether the request carries the sandbox's token, or one given for it and still valid."""
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if _same(sent, _secret()):
        return True
    try:
        jwt.decode(sent, _secret(), algorithms=[ALGORITHM], options={"require": ["exp"]})
    except (jwt.InvalidTokenError, ValueError):  # ValueError: text that is not even ASCII
        return False
    return True


def from_this_machine() -> bool:
    """Whether the caller is on this machine, and no page of another website sends it."""
    elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
        name = urlsplit(f"//{request.host}").hostname
    except ValueError:
        return False
    # a website that has its name resolved to 127.0.0.1 is betrayed by that name
    named = name in ("127.0.0.1", "::1", "localhost")
    return address.is_loopback and named and not elsewhere


def _secret() -> str:
    return str(current_app.config["TOKEN"])


def _same(one: str, two: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), two.encode())
