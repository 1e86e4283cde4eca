"""A stand-in for the ngrok agent: an executable that pyngrok starts instead of the real one.

It prints the agent's log lines and answers its local API. Like ngrok, it forwards requests to
its "public" address (a free port of this machine) to the upstream, with the public host name
and ``X-Forwarded-For``, and answers browsers with the warning page of the free plan, unless they
send a header or the cookie of a visitor who has agreed. If a static domain is requested, that is
the address it reports.

A token such as ``ERR_NGROK_107`` is answered with that error of ngrok: at sign-in, for 334 when the
tunnel is opened, for 725 by every request to the public address. As ngrok does, some of them
repeat the token.
"""

import stat
import sys
import textwrap
from pathlib import Path

AGENT = r"""
import http.client, http.server, json, pathlib, sys, threading, urllib.parse

here = pathlib.Path(__file__).parent
(here / "arguments").write_text(" ".join(sys.argv))
config = json.loads(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
token = config["agent"]["authtoken"]
code = token if token.startswith("ERR_NGROK_") else ""
if code and code not in ("ERR_NGROK_334", "ERR_NGROK_725"):
    text = f"The authtoken is wrong.\\nYour authtoken: {token}\\r\\n\\r\\n{code}\\r\\n"
    error = f'err="authentication failed: {text}"'
    print(f'lvl=eror msg="failed to reconnect session" obj=tunnels.session {error}')
    print(f'lvl=eror msg="terminating with error" obj=app {error}')
    print(f'lvl=crit msg="command failed" {error}', flush=True)
    sys.exit(1)
endpoints = {}

class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def log_message(self, *args): pass
    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

class Public(Quiet):
    def page_of_ngrok(self):
        if code:
            return 403, code
        agreed = "abuse_interstitial=" in self.headers.get("Cookie", "")
        browser = self.headers.get("User-Agent", "").startswith("Mozilla/")
        if self.command != "OPTIONS" and browser and not agreed:
            if "ngrok-skip-browser-warning" not in self.headers:
                return 200, "ERR_NGROK_6024"
    def forward(self):
        if page := self.page_of_ngrok():
            headers = [("Content-Type", "text/html"), ("ngrok-error-code", page[1])]
            self.body()
            return self.reply(page[0], f"<title>ngrok</title>{page[1]}".encode(), headers)
        upstream = next(iter(endpoints.values()))["upstream"]["url"]
        link = http.client.HTTPConnection(urllib.parse.urlsplit(upstream).netloc, timeout=5)
        headers = dict(self.headers) | {"Host": "abc.ngrok.app", "X-Forwarded-Proto": "https"}
        headers["X-Forwarded-For"] = "203.0.113.9"
        link.request(self.command, self.path, self.body(), headers)
        answer = link.getresponse()
        kept = [h for h in answer.getheaders() if h[0] != "Content-Length"]
        self.reply(answer.status, answer.read(), kept)
    do_GET = do_POST = do_OPTIONS = forward

public = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Public)
threading.Thread(target=public.serve_forever, daemon=True).start()

class Api(Quiet):
    def do_POST(self):
        endpoint = {"url": f"http://127.0.0.1:{public.server_port}"} | json.loads(self.body())
        endpoints[endpoint["name"]] = endpoint
        self.reply(201, json.dumps(endpoint).encode())
    def do_GET(self):
        self.reply(200, json.dumps({"endpoints": list(endpoints.values())}).encode())
    def do_DELETE(self):
        endpoints.pop(self.path.rpartition("/")[2], None)
        self.reply(204, b"")

api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
(here / "port").write_text(str(public.server_port))
(here / "pid").write_text(str(__import__("os").getpid()))
print(f'lvl=info msg="starting web service" obj=web addr=127.0.0.1:{api.server_port}', flush=True)
print('lvl=info msg="client session established"', flush=True)
print('lvl=info msg="tunnel session started"', flush=True)
api.serve_forever()
"""


def write_agent(folder: Path) -> Path:
    """Write the executable; when it runs, it writes ``pid``, ``arguments`` and its public
    ``port`` next to it."""
    agent = folder / "ngrok"
    agent.write_text(f"#!{sys.executable}\n{textwrap.dedent(AGENT)}")
    agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
    return agent
