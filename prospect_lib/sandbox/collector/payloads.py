"""From the bytes of a request to a tracker's payloads, whatever those bytes are.

What cannot be read is refused with a reason; what can be read in part loses only the part
that cannot, so that a bad event never takes its neighbours in the batch along.
"""

import json
import re
import zlib
from typing import Any

MAX_BODY = 10 << 20  # bytes, as sent and as unpacked
MAX_DEPTH = 64  # of nested JSON; no tracker comes near it
LARGEST = 1e300  # beyond it, adding a few numbers up would overflow
KEPT = 20_000  # characters of a rejected payload that are kept
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class BadPayloadError(ValueError):
    """Why a payload cannot become an event; the text goes to the bad-events log."""


def payloads_of(body: bytes, encoding: str = "") -> list[Any]:
    """The events of a ``payload_data`` body, each still to be checked.

    Args:
        body: as it came.
        encoding: the request's ``Content-Encoding``: empty, ``identity`` or ``gzip``.
    Raises:
        BadPayloadError: nothing of it can be read.

    Example: ``payloads_of(b'{"data": [{"e": "pv"}]}')`` -> ``[{"e": "pv"}]``
    """
    text = _unpacked(body, encoding.strip().lower())
    try:
        found = _loads(text)
    except RecursionError:
        found = _without_depths(text)
    except ValueError as error:
        raise BadPayloadError(f"body is not JSON: {error}"[:300]) from None
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list):
        raise BadPayloadError("body is not a payload_data object: expected a list in 'data'")
    return data


def readable(value: Any, *, strict: bool = False, depth: int = 0) -> Any:
    """A copy that every JSON reader can read: no lone surrogate, NaN or great depth.

    Raises:
        BadPayloadError: ``strict`` and it is nested too deeply or a number is too large.
    """
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        if strict:
            raise BadPayloadError(f"nested deeper than {MAX_DEPTH} levels")
        return "(nested deeper)"
    if isinstance(value, dict):
        return {
            whole_text(name): readable(inner, strict=strict, depth=depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [readable(inner, strict=strict, depth=depth + 1) for inner in value]
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nor is NaN
        if strict:
            raise BadPayloadError(f"{str(value)[:40]} is too large for a number")
        return str(value)
    return value


def whole_text(text: str) -> str:
    """The text with U+FFFD in place of halves of characters, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def excerpt(payload: Any) -> Any:
    """A rejected payload as the bad log keeps it: readable JSON of bounded size."""
    kept = readable(payload)
    text = json.dumps(kept)
    return kept if len(text) <= KEPT else f"{text[:KEPT]}…"


def whole_number(text: str) -> int | float:
    """JSON's integers; those that no column holds become infinite, which is refused later."""
    return int(text) if len(text) <= 300 else float(text)


def _loads(text: bytes) -> Any:
    return json.loads(text, parse_int=whole_number)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise BadPayloadError(f"Content-Encoding is {encoding[:40]!r}, expected gzip or none")
    packed = zlib.decompressobj(31)
    try:
        text = packed.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise BadPayloadError(f"body is not gzip: {error}") from None
    if not packed.eof:
        wrong = f"larger than {MAX_BODY} bytes" if len(text) >= MAX_BODY else "cut short"
        raise BadPayloadError(f"gzip body is {wrong}")
    return text


def _without_depths(text: bytes) -> Any:
    """The JSON with ``null`` for whatever lies too deep for the parser."""
    kept, depth, start = [], 0, 0
    for token in _TOKENS.finditer(text):
        if token[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH:
                kept.append(text[start : token.start()])
        elif token[0] in b"]}":
            if depth == MAX_DEPTH:
                kept.append(b"null")
                start = token.end()
            depth -= 1
    if depth < MAX_DEPTH:
        kept.append(text[start:])
    try:
        return _loads(b"".join(kept))
    except (ValueError, RecursionError):
        raise BadPayloadError("body is not JSON, and nested too deeply") from None
