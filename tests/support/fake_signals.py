"""A tiny stand-in for Signals on a free port, which can also misbehave."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "secret-of-the-tests-1234567890"


class FakeSignals:
    """Serves ``attributes`` to anyone; ``mode`` says how it misbehaves.

    Modes: "ok", "slow" (answers after ``delay``), "drop" (closes without an answer),
    "drip" (a byte at a time), "headers" (headers that never end, byte by byte), "body"
    (answers ``body``), or a status as text ("503").
    """

    def __init__(self, attributes: dict[str, Any], *, token: str = TOKEN) -> None:
        self.attributes, self.token = attributes, token
        self.mode, self.delay, self.body = "ok", 0.0, b""
        self.modes: list[str] = []  # used up first, one a request
        self.calls: list[tuple[str, Any]] = []
        self.connections = 0
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
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "FakeSignals":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        length = int(call.headers.get("Content-Length", 0))
        asked = json.loads(call.rfile.read(length) or b"null")
        self.calls.append((call.path, asked))
        mode = self.modes.pop(0) if self.modes else self.mode
        if call.headers.get("Authorization") != f"Bearer {self.token}":
            mode = "401"
        if mode == "drop":
            call.close_connection = True
            return
        if mode == "slow":
            time.sleep(self.delay)
        if mode == "headers":
            self._never_end(call)
            return
        status = int(mode) if mode.isdigit() else 200
        body = self.body if mode == "body" else self._columns(asked, status)
        call.send_response(status)
        call.send_header("Content-Type", "application/json")
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        pieces = [body[i : i + 1] for i in range(len(body))] if mode == "drip" else [body]
        for piece in pieces:
            call.wfile.write(piece)
            if mode == "drip":
                call.wfile.flush()
                time.sleep(0.05)

    def _never_end(self, call: BaseHTTPRequestHandler) -> None:
        call.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            call.wfile.write(b"x")
            call.wfile.flush()
            time.sleep(0.05)

    def _columns(self, asked: Any, status: int) -> bytes:
        if status != 200:
            return b'{"detail": "no"}'
        if not asked or "attribute_keys" not in asked:
            return b'{"status": "success"}'
        (visitor,) = asked["attribute_keys"]["domain_userid"]
        row = {"domain_userid": visitor, **self.attributes}
        return json.dumps({name: [value] for name, value in row.items()}).encode()
