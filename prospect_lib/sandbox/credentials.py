"""Who may use the API: callers with the sandbox's token, or a token issued for an API key.

Clients with an API key (``Signals(api_url, api_key, api_key_id, org_id)``) first ask Snowplow's
console for a token of 24 hours. The sandbox stands in for the console too: its own token serves
as the API key, and it signs the tokens that it issues, so it need not store them. The address of
the console is built into the SDK; a test has to redirect it to the sandbox.
"""

import jwt
from flask import Blueprint, Response, current_app, jsonify, request

from prospect_lib.sandbox.answers import Refusal
from prospect_lib.sandbox.state import current
from prospect_lib.server.local_callers import is_equal, is_on_this_machine

credentials = Blueprint("credentials", __name__)
ALGORITHM = "HS256"
VALID = 24 * 3600  # seconds


@credentials.get("/api/msc/v1/organizations/<org>/credentials/v3/token")
def exchange(org: str) -> Response:
    """Return a token for the API key in ``X-API-Key``; 401 for any other key."""
    key, key_id = (request.headers.get(name, "") for name in ("X-API-Key", "X-API-Key-Id"))
    if not key_id or not is_equal(key, _secret()):
        raise Refusal(401, "The API key or its id is wrong: the key is in PROSPECT_HOME/token.")
    now = int(current().clock().timestamp())
    claims = {"sub": key_id, "org": org, "iat": now, "exp": now + VALID}
    return jsonify(accessToken=jwt.encode(claims, _secret(), algorithm=ALGORITHM))


def authorised() -> bool:
    """Return whether the request has the sandbox's token, or an issued one that is valid."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if is_equal(bearer, _secret()):
        return True
    # the time is the sandbox's; a token that was issued before its clock was set back is valid
    try:
        claims = jwt.decode(
            bearer,
            _secret(),
            algorithms=[ALGORITHM],
            options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
        )
        return float(claims["exp"]) > current().clock().timestamp()
    except (jwt.InvalidTokenError, ValueError):  # ValueError: text that is not ASCII
        return False


def from_this_machine() -> bool:
    """Return whether the caller is on this machine, and is not a page of another website."""
    other_site = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    other_site |= request.headers.get("Origin", request.host_url[:-1]) != request.host_url[:-1]
    return is_on_this_machine(request.environ) and not other_site


def _secret() -> str:
    return str(current_app.config["TOKEN"])
