"""The browser client for a page that does not include it: pasted, tagged or bookmarked.

Example: ``print(console("http://127.0.0.1:9091"))``, pasted into the browser's console on a
website whose origin is among ``Options.origins``, requests scores of that page's visitor. A
site whose Content-Security-Policy forbids other connections has to include the client itself.
"""

import json


def console(url: str, *, token: str | None = None, tracker: str = "sp", every: int = 10) -> str:
    """Return JavaScript for a page's console, a tag manager, or the site itself.

    Args:
        url: the prediction server.
        token: of its tunnel; not needed on the same machine.
        tracker: namespace of the page's Snowplow tracker.
        every: seconds between scores.
    """
    options = {"url": url, "token": token, "tracker": tracker, "every": every}
    # fetched, not linked: a script tag cannot send the header that skips ngrok's warning page
    return (
        f'fetch("{url}/prospect.js", {{headers: {{"ngrok-skip-browser-warning": "1"}}}})\n'
        "  .then((answer) => answer.text())\n"
        "  .then((code) => { (0, eval)(code); prospect.start("
        f"{json.dumps(options)}); }});"
    )


def bookmarklet(url: str, *, token: str | None = None, tracker: str = "sp", every: int = 10) -> str:
    """Return the snippet as the address of a bookmark, for websites of others."""
    code = console(url, token=token, tracker=tracker, every=every)
    return f"javascript:void({code.replace(chr(10), '').replace('%', '%25').rstrip(';')})"
