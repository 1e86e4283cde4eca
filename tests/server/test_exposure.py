"""The table "Who sees what" of docs/serving.md holds for every route, server and caller in it."""

from pathlib import Path

import pytest
from flask import Flask

from prospect_lib.server.app import Options
from tests.support.serving import DOWN, PUBLIC, VISITOR, MemoryAttributes, app_of

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
_, SECTION = PAGE.split("## Who sees what\n", 1)
HEADER, _, *LINES = (
    [cell.strip() for cell in line.strip("|").split(" |")]
    for line in SECTION.strip().split("\n\n")[0].splitlines()
)
ROUTES = [name.strip("`") for name in HEADER[2:]]


def rows() -> list[tuple[str, str, dict[str, str]]]:
    """The table's rows: server, caller, and what each route shows."""
    result, server = [], ""
    for first, caller, *cells in LINES:
        server = first or server
        result.append((server, caller, dict(zip(ROUTES, cells, strict=True))))
    return result


def servers(server: str, folder: Path) -> list[Options]:
    """The options of the servers that a row is about."""
    file = folder / "token"
    return {
        "`serve`": [Options()],
        "with a token: `--public`, `--token-file`, `--behind-proxy`": [
            Options(),
            Options(token_file=file),
            Options(token_file=file, behind_proxy=True),
        ],
        "`Options(public_scores=True)`": [
            Options(public_scores=True),
            Options(public_scores=True, behind_proxy=True),
        ],
    }[server]


def callers(caller: str, app: Flask) -> list[dict[str, str]]:
    """The headers of the callers that a row is about."""
    guard = app.extensions["prospect_guard"]
    pages = {"Authorization": f"Bearer {guard.token}"}
    return {
        "from this machine": [{}],
        "any other": [PUBLIC, {"Via": "1.1 proxy"}, {"Host": "scores"}],
        "without a token, from this machine too": [{}, PUBLIC, {"Authorization": "Bearer x"}],
        "with the token of pages": [pages, pages | PUBLIC],
        "with the operator's token": [guard.headers, guard.headers | PUBLIC],
        "any other, without a token": [PUBLIC, PUBLIC | {"Authorization": "Bearer None"}],
    }[caller]


def shown(app: Flask, attributes: MemoryAttributes, route: str, headers: dict[str, str]) -> str:
    """What a route shows, in the words of the table."""
    client = app.test_client()
    if route == "/predict":
        answer = client.post(route, json={"domain_userid": VISITOR}, headers=headers)
        if answer.status_code == 200:
            return "score" if answer.get_json()["signals"] is None else "everything"
    elif route == "/health":
        attributes.error = DOWN
        cause = client.get(route, headers=headers).get_json()["signals"]
        attributes.error = None
        return "everything" if cause == str(DOWN) else "summary"
    else:
        answer = client.get(route, headers=headers)
    return "yes" if answer.status_code == 200 else str(answer.status_code)


def test_the_table_has_every_route() -> None:
    rules = {rule.rule for rule in app_of().url_map.iter_rules()}
    assert set(ROUTES) == rules and len(ROUTES) == len(rules)


@pytest.mark.parametrize(("server", "caller", "cells"), rows())
def test_a_row_of_the_table_holds(
    server: str, caller: str, cells: dict[str, str], tmp_path: Path
) -> None:
    for options in servers(server, tmp_path):
        attributes = MemoryAttributes()
        app = app_of(attributes=attributes, options=options)
        if server.startswith("with a token"):
            app.extensions["prospect_guard"].issue_token()  # as a tunnel does
        for headers in callers(caller, app):
            assert {name: shown(app, attributes, name, headers) for name in cells} == cells
