"""``/board``, the state that it polls each second, and the scores that are sent to it."""

from flask import Blueprint, Response, jsonify, render_template

from prospect_lib.sandbox.answers import Refusal, json_object
from prospect_lib.sandbox.credentials import authorised
from prospect_lib.sandbox.state import current

board_pages = Blueprint("board", __name__)
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
