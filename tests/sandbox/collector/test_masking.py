"""What visitors type and e-mail addresses in URLs are not stored, in good events or bad ones."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.collector.masking import masked_url
from tests.support.sandbox import page_view

TP2 = "/com.snowplowanalytics.snowplow/tp2"
TYPED = "Ada Lovelace"
FORM = {
    "change_form": {"elementId": "name", "value": TYPED},
    "focus_form": {"elementId": "name", "value": TYPED},
    "submit_form": {"elements": [{"name": "name", "value": TYPED}, {"name": "n", "value": ""}]},
}


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://s.example/?to=ada@example.com&n=1", "https://s.example/?to=***&n=1"),
        ("https://s.example/?to=ada%40example.com#x", "https://s.example/?to=***#x"),
        ("https://s.example/u/a.b+c%2Bd@mail.example.co.uk/edit", "https://s.example/u/***/edit"),
        ("https://s.example/#to=jos%C3%A9@xn--d1acpjx3f.xn--p1ai", "https://s.example/#to=***"),
        ("https://s.example/?e=ada%2540example.com&n=1", "https://s.example/?e=***&n=1"),
        (
            "https://s.example/?next=https%3A%2F%2Fa.example%2F%3Femail%3Dada%2540example.com",
            "https://s.example/?next=***",
        ),
        ("https://ada:secret@s.example/p?q=a@b", "https://s.example/p?q=a@b"),
        ("https://ada@example.com/p", "https://example.com/p"),
        ("mailto:ada@example.com?subject=x", "mailto:***?subject=x"),
        (
            "/?next=%2Fa%3Fto%3Dada%40example.com%26b%3Da%40ada@example.com",
            "/?next=***%26b%3Da%***",
        ),
        ("https://s.example/@ada/maps/@48.85,2.35/pkg@1.2.30", None),
        ("https://s.example:81/?utm_medium=cpc", None),
        ("", None),
    ],
)
def test_addresses_in_urls_are_masked_and_the_rest_stays(url: str, stored: str | None) -> None:
    assert masked_url(url) == (url if stored is None else stored)


def form_event(name: str, *, encoded: bool = False, **fields: str) -> dict[str, str]:
    inner = {"schema": f"iglu:{SNOWPLOW}/{name}/jsonschema/1-0-0", "data": FORM[name]}
    text = json.dumps({"schema": "s", "data": inner})
    nested = {"ue_px": base64.urlsafe_b64encode(text.encode()).decode()} if encoded else {}
    return page_view() | {"e": "ue"} | (nested or {"ue_pr": text}) | fields


def in_any_shape(data: Any) -> list[dict[str, Any]]:
    """Rejected payloads with a form's values: as event and entity, in each encoding, damaged."""
    inner = [{"schema": f"iglu:{SNOWPLOW}/{name}/jsonschema/1-0-0", "data": data} for name in FORM]
    payloads: list[dict[str, Any]] = [{"e": "ue", "f_typed": TYPED}]
    for plain, encoded, values in (("ue_pr", "ue_px", inner[:1]), ("co", "cx", [inner])):
        for value in values:
            text = json.dumps({"schema": "s", "data": value})
            payloads += [{encoded: base64.urlsafe_b64encode(text.encode()).decode()}]
            payloads += [{plain: each} for each in (text, text[:-2], {"data": value}, [value])]
    return [page_view() | {"e": "ue"} | payload | {"eid": "no UUID"} for payload in payloads]


@pytest.mark.parametrize(
    "data", [TYPED, [TYPED], {"email": TYPED}, {"elements": [TYPED]}, {"schema": TYPED}, 18151210]
)
def test_no_value_of_a_rejected_form_is_stored_whatever_its_shape(
    client: FlaskClient, data: Any
) -> None:
    bad = [*in_any_shape(data), TYPED, [data], data]
    assert client.post(TP2, data=json.dumps({"data": bad})).status_code == 200
    for body in (
        json.dumps({"data": bad})[:-1],
        f"name={TYPED}",
        f'{{"value": "{TYPED}", "e": x}}',
    ):
        assert client.post(TP2, data=body).status_code == 200
    kept = client.get("/micro/bad", query_string={"limit": len(bad) + 3}).get_data(as_text=True)
    codes = [payload[name] for payload in bad[1:11] for name in ("ue_px", "cx") if name in payload]
    for typed in ("Ada", "Lovelace", "18151210", *codes):
        assert typed not in kept
    assert "submit_form" in kept and r"{\"***\": \"*** ***\", \"e\": ***}" in kept


def test_nothing_personal_reaches_the_disk(client: FlaskClient) -> None:
    """Sent unmasked: in good events, in bad ones, and in bodies that cannot be read."""
    url = "https://s.example/orders?email=ada@example.com&utm_campaign=ada%40example.com"
    link = {"schema": f"iglu:{SNOWPLOW}/link_click/jsonschema/1-0-1",
            "data": {"targetUrl": "mailto:ada@example.com"}}  # fmt: skip
    good: list[dict[str, str]] = [
        page_view(url=url, refr=url),
        page_view(co=json.dumps({"schema": "s", "data": [link]})),
        *(form_event(name, encoded=encoded) for name in FORM for encoded in (False, True)),
    ]
    bad: list[Any] = [
        *(payload | {"eid": "no UUID"} for payload in good),
        form_event("submit_form") | {"ue_pr": form_event("submit_form")["ue_pr"][:-3]},
        {"e": "ue", "ue_pr": {"data": FORM["change_form"]}},
        json.dumps(form_event("change_form")),
        [FORM["submit_form"]],
    ]
    assert client.post(TP2, data=json.dumps({"data": [*good, *bad]})).status_code == 200
    cut = json.dumps({"data": [form_event("change_form", url=url)]})[:-2]
    assert client.post(TP2, data=cut).status_code == 200
    assert client.get("/micro/all").get_json()["good"] == len(good)
    stored = [event["event"] for event in client.get("/micro/good").get_json()]
    assert {row["mkt_campaign"] for row in stored if "mkt_campaign" in row} == {"***"}
    names = [row["event_name"] for row in stored]
    assert sorted(names[:6]) == sorted([*FORM] * 2)
    submitted = stored[names.index("submit_form")][
        f"unstruct_event_{SNOWPLOW.replace('.', '_')}_submit_form_1"
    ]
    assert [element["value"] for element in submitted["elements"]] == ["***", ""]
    home = Path(client.application.config["PROSPECT_HOME"])
    client.application.extensions["sandbox"].events.close()
    [content] = [path.read_bytes() for path in home.glob("events.sqlite")]
    typed = base64.urlsafe_b64encode(json.dumps(FORM["change_form"]).encode())[8:24]
    for personal in (b"Lovelace", b"ada@", b"ada%40", typed):
        assert personal not in content
