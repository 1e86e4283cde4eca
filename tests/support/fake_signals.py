"""A small stand-in for Signals on a free port, which can also misbehave."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "secret-of-the-tests-1234567890"
_PAUSE = 0.05  # seconds between the bytes of an answer that drips


class FakeSignals:
    """Serves the same attributes for every visitor; ``mode`` selects how it misbehaves.

    Modes: "ok", "slow" (answers after ``delay``), "drop" (closes without an answer), "drip"
    (one byte at a time), "headers" (a header that never ends, one byte at a time), "body"
    (answers ``body``), or a status as text ("503"). Slow answers end when the block ends.

    Attributes:
        modes: used before ``mode``, one per request.
        raw: bytes that are the answer about a visitor, and what follows them: "close" or "hang".
        calls: path and parsed body of each request.
        connections: number of connections accepted.
    """

    def __init__(self, attributes: dict[str, Any], *, token: str = TOKEN) -> None:
        self.attributes, self.token = attributes, token
        self.mode, self.delay, self.body = "ok", 60.0, b""
        self.modes: list[str] = []
        self.raw: dict[str, tuple[bytes, str]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.connections = 0
        self._ending = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one write for headers and body

            def setup(self) -> None:
                super().setup()
                fake.connections += 1

            def do_POST(self) -> None:
                fake.answer(self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *_args: object) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "FakeSignals":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        """Answer one request as the mode says."""
        length = int(call.headers.get("Content-Length", 0))
        request = json.loads(call.rfile.read(length) or b"null")
        self.calls.append((call.path, request))
        mode = self.modes.pop(0) if self.modes else self.mode
        if call.headers.get("Authorization") != f"Bearer {self.token}":
            mode = "401"
        if mode == "drop":
            call.close_connection = True
            return
        if mode == "slow":
            self._ending.wait(self.delay)
        if mode == "headers":
            self.send_endless_headers(call)
            return
        visitors = (request or {}).get("attribute_keys", {}).get("domain_userid", [])
        if raw := next((self.raw[v] for v in visitors if v in self.raw), None):
            call.wfile.write(raw[0])
            call.wfile.flush()
            if raw[1] == "hang":
                self._ending.wait(self.delay)
            call.close_connection = True
            return
        status = int(mode) if mode.isdigit() else 200
        body = self.body if mode == "body" else self._columns(request, status)
        call.send_response(status)
        call.send_header("Content-Type", "application/json")
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        pieces = [body[i : i + 1] for i in range(len(body))] if mode == "drip" else [body]
        for piece in pieces:
            call.wfile.write(piece)
            if mode == "drip":
                call.wfile.flush()
                self._ending.wait(_PAUSE)

    def send_endless_headers(self, call: BaseHTTPRequestHandler) -> None:
        """Send a header that ends with the test, or when the caller has left."""
        call.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self._ending.wait(_PAUSE):
            call.wfile.write(b"x")
            call.wfile.flush()
        call.close_connection = True

    def _columns(self, request: Any, status: int) -> bytes:
        if status != 200:
            return b'{"detail": "no"}'
        if not request or "attribute_keys" not in request:
            return b'{"status": "success"}'
        (visitor,) = request["attribute_keys"]["domain_userid"]
        row = {"domain_userid": visitor, **self.attributes}
        return json.dumps({name: [value] for name, value in row.items()}).encode()


class FakeConsole(FakeSignals):
    """Snowplow's console: exchanges one API key for a token; 401 for any other.

    Attributes:
        fetched: the tokens that it issued so far.
    """

    def __init__(self, *, key: str, token: str) -> None:
        super().__init__({}, token=token)
        self.key, self.fetched = key, list[str]()

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        """Answer one request for a token."""
        right = call.headers["X-API-Key"] == self.key
        if right:
            self.fetched.append(self.token)
        body = json.dumps({"accessToken": self.token} if right else {"message": "no"}).encode()
        call.send_response(200 if right else 401)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)
