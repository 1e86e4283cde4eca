"""Turn what a tracker sends into a row of atomic events, as Snowplow's pipeline does.

Protocol: https://docs.snowplow.io/docs/events/going-deeper/http-protocol/ (fields ``e``,
``eid``, ``dtm`` ...); rows: https://docs.snowplow.io/docs/fundamentals/canonical-event/.
"""

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any
from uuid import UUID

from prospect_lib.aggregation.properties import schema_column
from prospect_lib.attributes import SNOWPLOW
from prospect_lib.sandbox.collector.addresses import page_columns
from prospect_lib.sandbox.collector.fields import (
    MAX_NESTED,
    NUMBERS,
    SIZES,
    TEXTS,
    check_lengths,
)
from prospect_lib.sandbox.collector.masking import masked_data, masked_url
from prospect_lib.sandbox.collector.payloads import (
    BadPayloadError,
    any_integer,
    readable,
    without_surrogates,
)
from prospect_lib.sandbox.events import Row, stamp

#: code in field ``e`` -> event, vendor and name of the schema
EVENT_TYPES = {
    "pv": ("page_view", SNOWPLOW, "page_view"),
    "pp": ("page_ping", SNOWPLOW, "page_ping"),
    "se": ("struct", "com.google.analytics", "event"),
    "ue": ("unstruct", "", ""),
}
SCHEMA = re.compile(  # lengths that no registry exceeds: the names become a column's
    r"iglu:([a-zA-Z0-9._-]{1,128})/([a-zA-Z0-9_-]{1,128})/jsonschema/"
    r"([1-9][0-9]{0,3})-([0-9]{1,4})-([0-9]{1,4})"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def enrich(
    payload: Any, *, at: datetime, user_agent: str = "", network_userid: str | None = None
) -> Row:
    """Return one event of a tracker as a row of atomic events, timestamps as UTC text.

    E-mail addresses in URLs and the values of forms are masked.

    Args:
        payload: the tracker's fields; every value is text.
        at: when the collector received it (aware).
        user_agent: of the request; a field ``ua`` takes precedence.
        network_userid: id in the collector's cookie; fields ``tnuid``, ``nuid`` take precedence.

    Returns:
        Values by column; columns without a value are left out.

    Raises:
        BadPayloadError: the message names the field, its value and what was expected.

    Example: ``enrich({"e": "pv", "eid": "6b86b273-…"}, at=now)["event_name"]`` -> ``"page_view"``
    """
    if not isinstance(payload, Mapping):
        kind = type(payload).__name__
        raise BadPayloadError(f"expected an object of tracker fields, got {kind}")
    not_text = [name for name, value in payload.items() if not isinstance(value, str)]
    if not_text:
        raise BadPayloadError(f"field {not_text[0]!r:.60}: expected text, as trackers send it")
    fields = {name: without_surrogates(value) for name, value in payload.items() if value != ""}
    for name in ("url", "refr"):
        if name in fields:
            check_lengths({TEXTS[name]: fields[name]})
            fields[name] = masked_url(fields[name])
    row: Row = {**_event_type(fields), "event_id": _event_id(fields), **_times(fields, at)}
    row.update({column: fields[name] for name, column in TEXTS.items() if name in fields})
    row.update({column: _whole(name, fields) for name, column in NUMBERS.items() if name in fields})
    for name, columns in SIZES.items():
        row.update(_size(name, columns, fields))
    row.setdefault("network_userid", network_userid)
    if "cookie" in fields:
        row["br_cookies"] = fields["cookie"] == "1"
    if "se_va" in fields:
        row["se_value"] = _number("se_va", fields["se_va"])
    row.update(page_columns(fields.get("url"), fields.get("refr")))
    row["useragent"] = fields.get("ua", user_agent)[:1000] or None
    row.update(_nested(fields))
    row.setdefault(
        "contexts_nl_basjes_yauaa_context_1", [{"deviceClass": device_class(row["useragent"])}]
    )
    check_lengths(row)
    return {name: value for name, value in row.items() if value is not None}


def _event_type(fields: Mapping[str, str]) -> Row:
    code = fields.get("e", "")
    if code not in EVENT_TYPES:
        codes = ", ".join(EVENT_TYPES)
        raise BadPayloadError(f"field 'e' is {code!r:.60}, expected one of {codes}")
    event, vendor, name = EVENT_TYPES[code]
    return {
        "event": event,
        "event_vendor": vendor,
        "event_name": name,
        "event_format": "jsonschema",
        "event_version": "1-0-0",
    }


def _event_id(fields: Mapping[str, str]) -> str:
    try:
        return str(UUID(fields["eid"]))
    except (KeyError, ValueError):
        raise BadPayloadError(
            f"field 'eid' is {fields.get('eid')!r:.60}, expected a UUID"
        ) from None


def _times(fields: Mapping[str, str], at: datetime) -> Row:
    """Return the timestamps.

    ``derived_tstamp`` is the true time if it was sent, else the device's time if that is before
    the time of sending (some trackers cut the latter to whole seconds), corrected for the
    difference between its clock and the collector's.
    """
    created, sent, true = (_time(name, fields) for name in ("dtm", "stm", "ttm"))
    try:
        waited = sent - created if created and sent and created < sent else timedelta()
        derived = true or at - waited
        if derived < EPOCH:
            raise OverflowError
    except OverflowError:
        raise BadPayloadError(
            f"fields 'dtm' {fields.get('dtm')!r} and 'stm' {fields.get('stm')!r}: "
            "expected clocks that put the event after 1970"
        ) from None
    times = {
        "collector_tstamp": at,
        "derived_tstamp": derived,
        "dvce_created_tstamp": created,
        "dvce_sent_tstamp": sent,
        "true_tstamp": true,
    }
    return {name: stamp(time) for name, time in times.items() if time}


def _time(name: str, fields: Mapping[str, str]) -> datetime | None:
    if name not in fields:
        return None
    try:
        time = datetime.fromtimestamp(int(fields[name]) / 1000, UTC)
        if time < EPOCH:
            raise OverflowError
        return time
    except (ValueError, OverflowError, OSError):
        raise BadPayloadError(
            f"field {name!r} is {fields[name][:40]!r}, expected milliseconds since 1970"
        ) from None


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
        if not isfinite(number):  # JSON has no NaN and no infinity
            raise ValueError
        return number
    except ValueError:
        raise BadPayloadError(f"field {name!r} is {text[:40]!r}, expected a number") from None


def _whole(name: str, fields: Mapping[str, str]) -> int:
    number = _number(name, fields[name])
    if not -(2**31) < number < 2**31:
        raise BadPayloadError(f"field {name!r} is {fields[name][:40]!r}, expected a 32-bit integer")
    return round(number)


def _size(name: str, columns: tuple[str, str], fields: Mapping[str, str]) -> Row:
    size = re.fullmatch(r"(\d{1,9})x(\d{1,9})", fields.get(name, ""))
    return {column: int(size[i + 1]) for i, column in enumerate(columns)} if size else {}


def _nested(fields: Mapping[str, str]) -> Row:
    """Return the self-describing event and the entities, each in the column of its schema."""
    row: Row = {}
    if fields["e"] == "ue":
        outer = _json("ue_pr", "ue_px", fields)
        vendor, name, version, data = _self_describing(outer.get("data"))
        row.update(event_vendor=vendor, event_name=name, event_version=version)
        row[schema_column("unstruct_event", vendor, name, version.split("-")[0])] = data
    if "co" in fields or "cx" in fields:
        entities = _json("co", "cx", fields).get("data")
        if not isinstance(entities, list):
            raise BadPayloadError("field 'co': expected a list of entities in 'data'")
        for entity in entities:
            vendor, name, version, data = _self_describing(entity)
            column = schema_column("contexts", vendor, name, version.split("-")[0])
            row.setdefault(column, []).append(data)
    return row


def _json(plain: str, encoded: str, fields: Mapping[str, str]) -> dict[str, Any]:
    length = len(fields.get(plain) or fields.get(encoded, ""))
    if length > MAX_NESTED:
        raise BadPayloadError(
            f"field {plain!r} or {encoded!r} has {length:,} characters, expected at most "
            f"{MAX_NESTED:,}"
        )
    try:
        text = fields.get(plain) or base64.urlsafe_b64decode(fields[encoded] + "==").decode()
        value = json.loads(text, parse_constant=_no_constant, parse_int=any_integer)
        value = readable(value, strict=True)
    except KeyError:
        raise BadPayloadError(f"neither field {plain!r} nor {encoded!r} was sent") from None
    except (ValueError, RecursionError) as error:
        raise BadPayloadError(
            f"field {plain!r} or {encoded!r} is not JSON: {error}"[:200]
        ) from None
    if not isinstance(value, dict):
        raise BadPayloadError(f"field {plain!r}: expected a JSON object with schema and data")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _self_describing(value: Any) -> tuple[str, str, str, Any]:
    schema = value.get("schema") if isinstance(value, dict) else None
    parts = SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if not parts or not isinstance(value.get("data"), dict):
        shown = repr(schema[:80]) if isinstance(schema, str) else f"is a {type(schema).__name__}"
        raise BadPayloadError(
            f"schema {shown}: expected iglu:vendor/name/jsonschema/1-0-0 and an object"
        )
    data = masked_data(parts[1], parts[2], value["data"])
    return parts[1], parts[2], "-".join(parts.groups()[2:]), data


@lru_cache(maxsize=4096)
def device_class(user_agent: str | None) -> str:
    """Return the device class that YAUAA, Snowplow's parser, would give a user agent."""
    if not user_agent:
        return "Unknown"
    import ua_parser

    agent = ua_parser.parse(user_agent)
    family = (agent.device.family if agent.device else "") or ""
    system = (agent.os.family if agent.os else "") or ""
    if family == "Spider" or re.search(r"bot|crawl|spider|headless", user_agent, re.IGNORECASE):
        return "Robot"
    if re.search(r"iPad|Tablet|Kindle", f"{family} {user_agent}"):
        return "Tablet"
    if system == "iOS" or (system == "Android" and "Mobile" in user_agent):
        return "Phone"
    if re.search(r"\bTV\b|Tizen|Web0S|BRAVIA", user_agent):
        return "TV"
    return "Tablet" if system == "Android" else "Desktop"
