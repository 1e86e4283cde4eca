"""The browser client for a page that does not include it: pasted, tagged or bookmarked.

Example: ``print(console("http://127.0.0.1:9091"))``, pasted into the browser's console on a
website whose origin is among ``Options.origins``, requests scores of that page's visitor. A
site whose Content-Security-Policy forbids other connections has to include the client itself.
"""

import json
from typing import Any

#: Attribute keys whose identifier the Snowplow tracker knows.
KEYS_OF_THE_TRACKER = ("domain_userid", "domain_sessionid", "user_id")


def console(
    url: str,
    *,
    token: str | None = None,
    tracker: str = "sp",
    every: int = 10,
    key: str = "domain_userid",
    identifier: str | None = None,
) -> str:
    """Return JavaScript for a page's console, a tag manager, or the site itself.

    Args:
        url: the prediction server.
        token: of its tunnel; not needed on the same machine.
        tracker: namespace of the page's Snowplow tracker.
        every: seconds between scores.
        key: name of the server's attribute key.
        identifier: JavaScript of the visitor's identifier, such as ``window.customer.id``;
            needed for a key that the tracker does not know. Without it, the snippet has a
            place to write it.

    Example: ``console(url, key="customer_id", identifier="window.customer?.id")``
    """
    options = {"url": url, "token": token, "tracker": tracker, "every": every, "key": key}
    if identifier is None and key not in KEYS_OF_THE_TRACKER:
        identifier = f"null /* write here where the page has its visitor's {key} */"
    own = "" if identifier is None else f", id: () => {identifier}"
    # fetched, not linked: a script tag cannot send the header that skips ngrok's warning page
    return (
        f'fetch("{url}/prospect.js", {{headers: {{"ngrok-skip-browser-warning": "1"}}}})\n'
        "  .then((answer) => answer.text())\n"
        "  .then((code) => { (0, eval)(code); prospect.start("
        f"{json.dumps(options)[:-1]}{own}}}); }});"
    )


def bookmarklet(url: str, **options: Any) -> str:
    """Return the snippet as the address of a bookmark, for websites of others.

    The arguments are those of :func:`console`.
    """
    code = console(url, **options)
    return f"javascript:void({code.replace(chr(10), '').replace('%', '%25').rstrip(';')})"
