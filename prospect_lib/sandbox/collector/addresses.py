"""Split the addresses of a page and its referrer into the columns that Snowplow fills."""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from prospect_lib.sandbox.collector.payloads import BadPayloadError
from prospect_lib.sandbox.events import Row

CAMPAIGN = {
    f"utm_{part}": f"mkt_{part}" for part in ("medium", "source", "term", "content", "campaign")
}
SEARCH = re.compile(r"(^|\.)(google|bing|duckduckgo|yahoo|ecosia|baidu|yandex|qwant)\.")
SOCIAL = re.compile(r"(^|\.)(linkedin|facebook|twitter|x|reddit|instagram|youtube|t)\.(com|co)$")
EMAIL = re.compile(r"(^|\.)(mail|outlook|gmail)\.")


def page_columns(url: str | None, referrer: str | None) -> Row:
    """Return the columns of a page's address and of the address that led to it.

    Raises:
        BadPayloadError: one of them is not a URL.
    """
    row: Row = {}
    page = _split("page_url", url)
    if page:
        row = {
            "page_urlscheme": page.scheme,
            "page_urlhost": page.hostname,
            "page_urlport": _port("page_url", page),
            "page_urlpath": page.path or "/",
            "page_urlquery": page.query or None,
            "page_urlfragment": page.fragment or None,
        }
        query = dict(parse_qsl(page.query))
        row |= {column: query.get(name) for name, column in CAMPAIGN.items()}
    source = _split("page_referrer", referrer)
    if source and source.hostname:
        medium = _medium(source.hostname, page.hostname if page else None)
        row |= {
            "refr_urlscheme": source.scheme,
            "refr_urlhost": source.hostname,
            "refr_urlport": _port("page_referrer", source),
            "refr_urlpath": source.path,
            "refr_urlquery": source.query or None,
            "refr_urlfragment": source.fragment or None,
            "refr_medium": medium,
            "refr_source": None if medium in ("internal", "unknown") else source.hostname,
        }
    return row


def _split(name: str, url: str | None) -> SplitResult | None:
    try:
        return urlsplit(url) if url else None
    except ValueError:
        raise BadPayloadError(f"{name} is {str(url)[:80]!r}, expected a URL") from None


def _port(name: str, address: SplitResult) -> int | None:
    try:
        return address.port or {"http": 80, "https": 443}.get(address.scheme)
    except ValueError:
        raise BadPayloadError(f"{name} has a port that is not a number") from None


def _medium(host: str, own_host: str | None) -> str:
    if host == own_host:
        return "internal"
    for medium, pattern in (("email", EMAIL), ("search", SEARCH), ("social", SOCIAL)):
        if pattern.search(host):
            return medium
    return "unknown"
