"""``/board`` and what it asks for each second; scores come in here."""

import json
import os
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, render_template

from prospect_lib.sandbox.answers import Refusal, json_object
from prospect_lib.sandbox.credentials import authorised
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.state import current
from prospect_lib.sandbox.website.board import Board

board_pages = Blueprint("board", __name__)
RESTORED = 1000  # events at a start
TAIL = 1 << 20  # bytes of the day's served scores at a start
OWN_FILES_ONLY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


@board_pages.get("/board")
def show() -> Response:
    """The page: own files only, nothing personal on it."""
    response = Response(render_template("board.html"), mimetype="text/html")
    response.headers["Content-Security-Policy"] = OWN_FILES_ONLY
    return response


@board_pages.get("/board/state")
def state() -> Response:
    """What is to be seen now."""
    response = jsonify(current().board.state())
    response.headers["Cache-Control"] = "no-store"
    return response


@board_pages.post("/sandbox/scores")
def scores() -> Response:
    """A score that the prediction server has just given."""
    if not authorised():
        return Response(status=401)
    try:
        current().board.scored(json_object(), datetime.now(UTC))
    except Refusal as refusal:
        return Response(str(refusal.detail), status=refusal.status)
    return jsonify(status="ok")


def restored_board(events: EventStore, home: Path) -> Board:
    """Return a board with what the last process had on it."""
    board, now = Board(), datetime.now(UTC)
    rows = reversed(events.latest(RESTORED))
    board.take_over(rows, _served(home / "served" / f"{now.date()}.ndjson"), now)
    return board


def _served(path: Path) -> list[Any]:
    """The last records of a day's log; lines that cannot be read are passed over."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found = []
    for line in islice(lines, 1 if len(lines) > 1 and not lines[0].startswith(b"{") else 0, None):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return found
