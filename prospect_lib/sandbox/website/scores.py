"""The prediction server under the website's own address, for browsers on another machine.

Colab's proxy gives each port an origin of its own and demands a cookie, which pages of another
origin do not send. There, the panel requests scores here, and the website passes them on. The
prediction server decides whom it answers, as for every request that a proxy has forwarded.
"""

import threading
from pathlib import Path

import requests
from flask import Blueprint, Response, current_app, request

from prospect_lib.sandbox.answers import Refusal
from prospect_lib.server.announcement import announced

remote_scores = Blueprint("remote_scores", __name__)
PATIENCE = 10.0  # seconds
MAX_PASSED_ON = 8  # at the same time: each occupies one of the sandbox's threads
_free = threading.BoundedSemaphore(MAX_PASSED_ON)
FORWARDED = ("Authorization", "Content-Type")
RETURNED = ("Content-Type", "Retry-After", "Cache-Control")


@remote_scores.get("/scores/prospect.js", defaults={"path": "prospect.js"})
@remote_scores.post("/scores/predict", defaults={"path": "predict"})
def pass_on(path: str) -> Response:
    """Return the announced prediction server's answer; 503 if there is none."""
    announcement = announced(Path(current_app.config["PROSPECT_HOME"]))
    if announcement.predict_url is None:
        raise Refusal(503, announcement.problem or "The prediction server has stopped.")
    headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
    headers["X-Forwarded-For"] = str(request.remote_addr)
    if not _free.acquire(blocking=False):
        raise Refusal(503, "The prediction server is slow, and others wait for it already.")
    try:
        answer = requests.request(
            request.method,
            f"{announcement.predict_url}/{path}",
            headers=headers,
            data=request.get_data(),
            timeout=PATIENCE,
            allow_redirects=False,
        )
    except requests.RequestException:
        raise Refusal(503, "The prediction server does not answer.") from None
    finally:
        _free.release()
    returned = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
    return Response(answer.content, answer.status_code, returned)
