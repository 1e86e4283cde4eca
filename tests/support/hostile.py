"""Hostile input: payloads, JSON and text as an attacker or a broken client sends them."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hypothesis import strategies as st

from tests.support.fuzzing import drawing
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MANY = drawing(200)
#: Text that runs a script in a page that does not escape it.
SCRIPTS = "\"'><img src=x onerror='alert(1)'><script>alert(2)</script>"
SCRIPT_ADDRESS = "javascript:alert(3)"
VALID = {
    "e": "ue", "eid": "", "duid": "u", "aid": "website", "dtm": "1767606000000",
    "stm": "1767606001000", "vid": "3", "url": "https://s.example/?utm_medium=cpc",
    "refr": "https://t.co/", "res": "9x9", "pp_mix": "1", "se_va": "2", "ua": "Chrome",
}  # fmt: skip

texts = st.text(max_size=12) | st.sampled_from(
    ["\ud800", "a\x00b", "9" * 5000, "1e999", "NaN", "-1", "http://[", "https://h:99999/", "'\";--"]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts
    | st.sampled_from([10**400, 10**299, -1e308, float("nan"), float("inf")])
)  # fmt: skip
names = st.sampled_from([*VALID, "ue_pr", "ue_px", "co", "cx", "ttm", "data", "schema"]) | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
schemas = texts | st.builds(
    "iglu:{}/{}/jsonschema/{}-0-0".format,
    st.sampled_from(["com.acme", "x" * 300, "a.B-c_", "contexts", "com_acme", "é", '"; DROP']),
    st.sampled_from(["n", "event_id", "y" * 300, "Select", "a b", "ADDToCart"]),
    st.sampled_from(["1", "0", "01", "99999999999999999999", "-1"]),
)
described = st.fixed_dictionaries({"schema": schemas, "data": anything})


@st.composite
def payloads(draw: st.DrawFn) -> Any:
    """Mostly valid, with some fields exchanged for anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(anything)
    payload: dict[str, Any] = {**VALID, "eid": str(uuid4())}
    event, entities = draw(described), draw(st.lists(described | anything, max_size=2))
    payload["ue_pr"] = json.dumps({"schema": "s", "data": event})
    payload["co"] = json.dumps({"schema": "s", "data": entities})
    if draw(st.booleans()):
        code = base64.urlsafe_b64encode(payload.pop("co").encode()).decode()
        payload["cx"] = code[: draw(st.integers(0, len(code)))]
    payload.update(draw(st.dictionaries(names, texts | anything, max_size=2)))
    return payload


@contextmanager
def page_that_runs_no_script(browser: "Browser") -> Iterator["Page"]:
    """A page in which text of strangers is shown; the end of the block checks that none ran."""
    ran: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        page.set_content(SCRIPTS)
        wait_for(lambda: page.evaluate("document.images.length") and ran)
        ran.clear()  # it runs where it is not escaped
        yield page
        assert ran == []
