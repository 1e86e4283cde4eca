"""A website of somebody else: an origin of its own, Snowplow's tag, any headers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prospect_lib.sandbox.website.routes import BUNDLE, NODE_MODULES

QUEUE = Path(__file__).with_name("sp.js")
#: Snowplow's tag, as its documentation has it, for a global and the address of sp.js.
TAG = """<script>
;(function(p,l,o,w,i,n,g){if(!p[i]){p.GlobalSnowplowNamespace=p.GlobalSnowplowNamespace||[];
p.GlobalSnowplowNamespace.push(i);p[i]=function(){(p[i].q=p[i].q||[]).push(arguments)};
p[i].q=p[i].q||[];n=l.createElement(o);g=l.getElementsByTagName(o)[0];n.async=1;n.src=w;
g.parentNode.insertBefore(n,g)}}(window,document,"script","/sp.js","%s"));
</script>"""


def bundle(package: str) -> bytes:
    """Return one of Snowplow's bundles from npm."""
    return (NODE_MODULES / package / BUNDLE).read_bytes()


def tracked(name: str = "snowplow", *calls: str) -> str:
    """Return a tag and calls of its global, such as ``'"newTracker", "sp", collector'``."""
    calls = calls or ('"newTracker", "sp", location.origin, {cookieSecure: false}',)
    lines = "\n".join(f"{name}({call});" for call in calls)
    return f"{TAG % name}<script>const collector = location.origin;\n{lines}</script>"


@dataclass
class ForeignSite:
    """Pages on a port of their own; ``answers`` are path -> headers and body."""

    port: int = 0
    answers: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)

    def page(self, html: str, *, host: str = "localhost", policy: str = "") -> str:
        """Add a page, and return its address.

        Args:
            policy: its Content-Security-Policy.
        """
        path = f"/{len(self.answers)}/"
        headers = {"Content-Type": "text/html; charset=utf-8"}
        if policy:
            headers["Content-Security-Policy"] = policy
        self.answers[path] = headers, f"<!doctype html><title>Shop</title>{html}".encode()
        return f"http://{host}:{self.port}{path}"


@contextmanager
def foreign_site() -> Iterator[ForeignSite]:
    """Serve a site whose tracker is the real one and whose collector accepts everything."""
    site = ForeignSite()
    script = {"Content-Type": "text/javascript"}
    site.answers["/sp.js"] = script, bundle("@snowplow/browser-tracker") + QUEUE.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers, body = site.answers.get(self.path, ({}, b""))
            asks = self.command == "OPTIONS"  # before a request of another origin
            self.send_response(204 if asks else int(headers.get("status", 200)))
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_OPTIONS = do_GET  # noqa: N815

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()
