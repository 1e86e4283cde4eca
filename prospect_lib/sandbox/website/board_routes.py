"""``/board``, the state that it polls each second, and the scores that are sent to it."""

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, render_template

from prospect_lib.sandbox.answers import Refusal, json_object
from prospect_lib.sandbox.credentials import authorised
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.state import current
from prospect_lib.sandbox.website.board import Board

board_pages = Blueprint("board", __name__)
RESTORED = 1000  # events that a new process puts on the board
TAIL = 1 << 20  # bytes of today's served scores that it reads for that
OWN_FILES_ONLY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


@board_pages.get("/board")
def show_board() -> Response:
    """Return the page, which loads files of this site only."""
    response = Response(render_template("board.html"), mimetype="text/html")
    response.headers["Content-Security-Policy"] = OWN_FILES_ONLY
    return response


@board_pages.get("/board/state")
def state() -> Response:
    """Return what the board shows now."""
    response = jsonify(current().board.state(current().clock()))
    response.headers["Cache-Control"] = "no-store"
    return response


@board_pages.post("/sandbox/scores")
def scores() -> Response:
    """Take a score that the prediction server has just served."""
    if not authorised():
        raise Refusal(401, "The bearer token is missing or wrong: it is in PROSPECT_HOME/token.")
    current().board.add_score(json_object(), current().clock())
    return jsonify(status="ok")


def restored_board(events: EventStore, home: Path, now: datetime) -> Board:
    """Return a board that shows the latest events and scores of an earlier process."""
    board = Board()
    logs = sorted(home.glob(f"served*/{now.date()}.ndjson"))  # a folder per scoring problem
    records = [record for log in logs for record in _served(log)]
    board.restore(reversed(events.latest(RESTORED)), records, now)
    return board


def _served(path: Path) -> list[Any]:
    """Return the last records of a day's log, without lines that cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    records = []
    for line in lines:  # the first and the last may be cut
        with contextlib.suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    return records
