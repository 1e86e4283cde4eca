"""A stand-in for Colab's port proxy, over https.

Each port of the machine has an origin of its own. Every request needs that origin's cookie, which
opening ``address(port)`` sets, as Colab's page does; a page of another origin does not send it,
and a preflight never does. ``notebook`` is a page of a third origin that shows a port in a frame.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from werkzeug.serving import generate_adhoc_ssl_context

COOKIE = "colab-runtime-proxy"
OWN = {"connection", "content-length", "transfer-encoding", "server", "date"}


@dataclass
class ColabProxy:
    """A running proxy.

    Attributes:
        port: of the proxy itself.
        rewrites: whether the machine's programs see a request of their own machine, without
            headers of a proxy; otherwise they see the public host and ``X-Forwarded-For``.
        requested: port, path and status of each request.
        links: to the machine's programs; those of pages that were left may wait for a stream.
    """

    port: int = 0
    rewrites: bool = False
    requested: list[tuple[int, str, int]] = field(default_factory=list)
    links: list[http.client.HTTPConnection] = field(default_factory=list)

    def address(self, port: int, path: str = "/") -> str:
        """Return the address that signs a browser in."""
        return f"https://{port}-m.colab.example:{self.port}{path}?authuser=0"

    def notebook(self, port: int, path: str) -> str:
        """Return the address of a notebook's page that shows a port in a frame."""
        return f"https://notebook.example:{self.port}/{port}{path}"


class _Handler(BaseHTTPRequestHandler):
    proxy: ColabProxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers["Host"]
        if host.startswith("notebook."):
            port, path = self.path[1:].split("/", 1)
            frame = self.proxy.address(int(port), f"/{path}")
            html = f"<link rel=icon href=data:,><iframe src={frame} height=800 width=1200>"
            return self.reply(200, f"<!doctype html>{html}")
        port = int(host.partition("-")[0])
        if self.path.endswith("?authuser=0"):
            self.send_response(302)
            cookie = f"{COOKIE}=yes; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"
            self.send_header("Set-Cookie", cookie)
            self.send_header("Location", self.path.partition("?")[0])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if COOKIE not in self.headers.get("Cookie", ""):
            self.proxy.requested.append((port, self.path, 403))
            return self.reply(403, "<!doctype html><title>403</title>Not signed in")
        return self.forward(port, body)

    do_POST = do_OPTIONS = do_GET  # noqa: N815 - their names in http.server

    def forward(self, port: int, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        if self.proxy.rewrites:
            headers |= {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        else:
            headers |= {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.proxy.links.append(link)
        link.request(self.command, self.path, body, headers)
        answer = link.getresponse()
        self.proxy.requested.append((port, self.path, answer.status))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while part := answer.read1():  # a stream of interventions arrives piece by piece
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass  # the page was left
        link.close()

    def reply(self, status: int, html: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(html)))
        self.end_headers()
        self.wfile.write(html.encode())

    def log_message(self, *_args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_args: object) -> None:
        pass  # a browser closes connections in the middle of a handshake


@contextmanager
def colab_proxy() -> Iterator[ColabProxy]:
    """Run the stand-in; names that end with ``.example`` have to lead to this machine."""
    proxy = ColabProxy()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    context = generate_adhoc_ssl_context()
    assert isinstance(context, ssl.SSLContext)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield proxy
    for link in proxy.links:
        if link.sock is not None:
            link.sock.shutdown(socket.SHUT_RDWR)
    server.shutdown()
    server.server_close()
    thread.join()
