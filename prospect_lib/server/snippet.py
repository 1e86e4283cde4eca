"""The browser client for a page: as script elements, for the console, and for a tag manager.

Example: ``print(Snippet("http://127.0.0.1:9091"))`` prints all three. The page's origin has to
be among ``Options.origins``; docs/website.md says what each of them needs.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from prospect_lib.web_addresses import parse_address

#: The browser client.
CLIENT = Path(__file__).parent / "prospect.js"
#: Attribute keys whose identifier the Snowplow tracker knows.
KEYS_OF_THE_TRACKER = ("domain_userid", "domain_sessionid", "user_id")
_PAGE = """\
<script defer src="%(url)s/prospect.js"></script>
<script type="module">
  if (window.prospect) %(start)s;
  else console.warn("prospect.js did not load: open %(url)s/prospect.js in a tab. If it shows \
JavaScript, this page's Content-Security-Policy needs %(url)s under script-src, or the browser \
does not let this page call that address.");
</script>"""
# in the JavaScript of 2009, because tag managers refuse newer syntax. Fetched, because a script
# element cannot send the header that skips the warning page of ngrok's free plan
_TAG = """\
<script>
(function () {
  var url = "%(url)s";
  function warn(error) { console.warn("prospect.js did not load: " + error.message); }
  fetch(url + "/prospect.js", { headers: { "ngrok-skip-browser-warning": "1" } })
    .then(function (answer) {
      if (/javascript/.test(answer.headers.get("Content-Type"))) return answer.blob();
      throw Error(url + " answers with another page (status " + answer.status + "): does the \
server run, and is this its address?");
    }, function () {
      throw Error(url + " cannot be reached: does it run? This page's Content-Security-Policy \
needs it under connect-src, and the browser has to let this page call it.");
    })
    .then(function (client) {
      var script = document.createElement("script"), own = document.querySelector("script[nonce]");
      if (own) script.nonce = own.nonce;
      script.src = URL.createObjectURL(client);
      script.onload = function () { %(start)s; };
      script.onerror = function () { warn(Error("this page's Content-Security-Policy needs \
blob: under script-src, or a nonce.")); };
      document.head.appendChild(script);
    })
    .catch(warn);
})();
</script>"""


@dataclass(frozen=True)
class Snippet:
    """What a page needs to request scores; as text, all ways to load it.

    Attributes:
        url: the prediction server.
        token: of the server; not needed on the same machine.
        tracker: namespace of the page's Snowplow tracker; by default its first tracker.
        every: seconds between scores.
        key: name of the server's attribute key.
        identifier: JavaScript of the visitor's identifier, such as ``window.customer?.id``;
            needed for a key that the tracker does not know. Without it, the snippet has a
            place to write it.

    Raises:
        SettingsError: the URL is no address of a server.

    Example: ``Snippet(url, key="customer_id", identifier="window.customer?.id").page()``
    """

    url: str
    token: str | None = field(default=None, repr=False)
    tracker: str | None = None
    every: float = 10
    key: str = "domain_userid"
    identifier: str | None = None

    def __post_init__(self) -> None:
        """Refuse a URL that is none, and write it as browsers do."""
        object.__setattr__(self, "url", parse_address(self.url))

    def page(self) -> str:
        """Return script elements for the site's HTML.

        A script element cannot skip the warning page of ngrok's free plan: for an address of
        ngrok they are those of :meth:`tag`.
        """
        host = urlsplit(self.url).hostname or ""
        return self.tag() if "ngrok" in host else _PAGE % self._parts()

    def tag(self) -> str:
        """Return a script element for a tag manager's custom HTML."""
        return _TAG % self._parts()

    def console(self) -> str:
        """Return JavaScript for the browser's console, the client included.

        It loads nothing, so that it works whatever scripts the page's Content-Security-Policy
        allows.
        """
        return f"{CLIENT.read_text(encoding='utf-8')}\n{self._start()};"

    def __str__(self) -> str:
        page, tag = self.page(), self.tag()
        html = f"In the site's HTML:\n\n{page}\n\nIn a tag manager, as custom HTML:\n\n{tag}"
        if page == tag:
            html = f"In the site's HTML, or in a tag manager as custom HTML:\n\n{tag}"
        return (
            f"{html}\n\nIn the browser's console on a page of the site, paste the text of "
            f"{self.url}/prospect.js, then\n\n{self._start()};"
        )

    def _parts(self) -> dict[str, str]:
        return {"url": self.url, "start": self._start()}

    def _start(self) -> str:
        chosen: dict[str, object] = {"url": self.url, "token": self.token, "tracker": self.tracker}
        chosen |= {"every": self.every, "key": self.key}
        options = json.dumps({name: value for name, value in chosen.items() if value is not None})
        identifier = self.identifier
        if identifier is None and self.key not in KEYS_OF_THE_TRACKER:
            identifier = f"null /* write here where the page has its visitor's {self.key} */"
        own = "" if identifier is None else f", id: function () {{ return {identifier}; }}"
        # "<" could end the script element
        return f"prospect.start({options[:-1]}{own}}})".replace("</", "<\\/")
