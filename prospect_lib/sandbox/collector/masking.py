"""Mask what the collector must not store: values of forms, and e-mail addresses in URLs.

A website's tracker should mask form values itself; this is for the one that does not. What is
masked becomes ``***``; empty values stay, so that it is known whether a field was filled in.
"""

import base64
import json
import re
from typing import Any

from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.collector.limits import MAX_NESTED
from prospect_lib.sandbox.collector.payloads import readable

MASK = "***"
EXCERPT = 20_000  # characters of a rejected payload that are stored
FORM_EVENTS = {(SNOWPLOW, f"{action}_form") for action in ("focus", "change", "submit")}
EMAIL_ADDRESS = re.compile(  # `@` may be %40, or %2540 in an address within an address
    r"(?<![\w.+'~-])(?<!%(?=(?!40)[0-9A-Fa-f]{2}))"  # only where a word begins: in linear time
    r"(?:[\w.+'~-]|(?!%(?:25){0,3}40)%[0-9A-Fa-f]{2}){1,256}+(?:@|%(?:25){0,3}40)"
    r"(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63})"
)
USERINFO = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#]*@")
ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|mailto:|[/?#]")
ENCODED = ("ue_px", "cx")  # fields with JSON in base64
JSON_FIELDS = ("ue_pr", "co", *ENCODED)
JSON_FIELD = re.compile(r'("(?:ue_p[rx]|c[ox])"\s*:\s*")(?:[^"\\]|\\.)*')


def masked_url(url: str) -> str:
    """Return a URL without name and password, and with e-mail addresses masked.

    Example: ``masked_url("https://s.example/?to=ada%40example.com")`` -> ``"https://s.example/?to=***"``
    """
    if "@" not in url and "40" not in url:
        return url
    return EMAIL_ADDRESS.sub(MASK, USERINFO.sub(r"\1", url))


def masked_data(vendor: str, name: str, data: Any) -> Any:
    """Return the data of a self-describing event or entity as it may be stored.

    Args:
        vendor: of the schema.
        name: of the schema.
        data: readable JSON.
    """
    return _masked(data, values=(vendor, name) in FORM_EVENTS)


def excerpt(payload: Any) -> Any:
    """Return a rejected payload as it is stored: masked, readable JSON of limited size."""
    value = readable(payload)
    if isinstance(value, dict):
        value = {
            name: _masked_json(name, inner) if name in JSON_FIELDS else _masked(inner, values=True)
            for name, inner in value.items()
        }
    else:
        value = masked_body(value) if isinstance(value, str) else _masked(value, values=True)
    text = json.dumps(value)
    return value if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def masked_body(text: str) -> str:
    """Return the text of a body that cannot be read, without nested JSON and e-mail addresses."""
    return EMAIL_ADDRESS.sub(MASK, JSON_FIELD.sub(rf"\1{MASK}", text))


def _masked(value: Any, *, values: bool) -> Any:
    """Mask URLs and, with ``values``, all members called ``value``."""
    if isinstance(value, dict):
        return {
            name: MASK if values and name == "value" and inner else _masked(inner, values=values)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner, values=values) for inner in value]
    if isinstance(value, str) and ("@" in value or "40" in value) and ADDRESS.match(value):
        return masked_url(value[:MAX_NESTED])  # only a rejected payload has a longer one
    return value


def _masked_json(name: str, text: Any) -> Any:
    """Mask a field that holds JSON as text; the whole field if it cannot be read."""
    if not isinstance(text, str):
        return _masked(text, values=True)
    try:
        plain = base64.urlsafe_b64decode(text + "==").decode() if name in ENCODED else text
        return json.dumps(_masked(readable(json.loads(plain)), values=True))
    except (ValueError, RecursionError):
        return MASK
