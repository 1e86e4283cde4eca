"""Mask what the collector must not store: values of forms, and e-mail addresses in URLs.

A website's tracker should mask form values itself; this is for the one that does not. What is
masked becomes ``***``; empty values stay, so that it is known whether a field was filled in. In a
rejected payload a form's value may be anywhere: only names and the tracker's plain fields stay.
"""

import base64
import json
import re
from typing import Any

from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.collector.fields import ENCODED, JSON_FIELDS, MAX_NESTED, PLAIN
from prospect_lib.sandbox.collector.payloads import readable

MASK = "***"
EXCERPT = 20_000  # characters of a rejected payload that are stored
FORM_EVENTS = {(SNOWPLOW, f"{action}_form") for action in ("focus", "change", "submit")}
#: Members of a form's event that are stored.
FORM_MEMBERS = {
    "formId", "formClasses", "elementId", "elementClasses", "elementType",
    "name", "nodeName", "type",
}  # fmt: skip

EMAIL_ADDRESS = re.compile(  # `@` may be %40, or %2540 in an address within an address
    r"(?<![\w.+'~-])(?<!%(?=(?!40)[0-9A-Fa-f]{2}))"  # only where a word begins: in linear time
    r"(?:[\w.+'~-]|(?!%(?:25){0,3}40)%[0-9A-Fa-f]{2}){1,256}+(?:@|%(?:25){0,3}40)"
    r"(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63})"
)
USERINFO = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#]*@")
ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|mailto:|[/?#]")
WORD_OF_BODY = re.compile(r"""[^\s{}\[\]:,\\"']+""")
BODY_WORDS = {*PLAIN, *JSON_FIELDS, "schema", "data"}


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
    return _masked(data, FORM_MEMBERS if (vendor, name) in FORM_EVENTS else None)


def excerpt(payload: Any) -> Any:
    """Return a rejected payload as it is stored: masked, readable JSON of limited size."""
    value = readable(payload)
    if isinstance(value, dict):
        value = {name: _masked_field(name, inner) for name, inner in value.items()}
    else:
        value = _masked(value, set())
    text = json.dumps(value)
    return value if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def masked_body(text: str) -> str:
    """Return the text of a body that cannot be read: its punctuation and names of fields."""
    return WORD_OF_BODY.sub(lambda word: word[0] if word[0] in BODY_WORDS else MASK, text)


def _masked(value: Any, kept: set[str] | None, name: str = "") -> Any:
    """Mask URLs; with ``kept``, also every value that is under none of these names."""
    if isinstance(value, dict):
        return {name: _masked(inner, kept, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, kept, name) for inner in value]
    is_schema = name == "schema" and isinstance(value, str) and value.startswith("iglu:")
    if not (kept is None or name in kept or is_schema or value in ("", None)):
        return MASK
    if isinstance(value, str) and ("@" in value or "40" in value) and ADDRESS.match(value):
        return masked_url(value[:MAX_NESTED])  # only a rejected payload has a longer one
    return value


def _masked_field(name: str, value: Any) -> Any:
    """Mask a tracker's field; all of it if its JSON cannot be read."""
    if not isinstance(value, str) or name not in (*PLAIN, *JSON_FIELDS):
        return _masked(value, set())
    if name in PLAIN:
        return _masked(value, None)
    try:
        plain = base64.urlsafe_b64decode(value + "==").decode() if name in ENCODED else value
        return json.dumps(_masked(readable(json.loads(plain)), set()))
    except (ValueError, RecursionError):
        return MASK
