"""Read a tracker's payloads from the bytes of a request, whatever those bytes are.

What cannot be read is rejected with a reason. If only a part of a batch cannot be read, only
that part is lost: a bad event does not take its neighbours along.
"""

import json
import re
import zlib
from typing import Any

MAX_PAYLOAD = 10 << 20  # bytes, as sent and as unpacked
MAX_DEPTH = 64  # of nested JSON; trackers send a few levels
LARGEST = 1e300  # the sum of a few larger numbers would overflow
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class BadPayloadError(ValueError):
    """A payload cannot become an event; the reason is stored with it."""


def payloads_of(body: bytes, encoding: str = "") -> list[Any]:
    """Return the events of a ``payload_data`` body, not yet checked.

    Args:
        body: as it was received.
        encoding: the request's ``Content-Encoding``: empty, ``identity`` or ``gzip``.

    Raises:
        BadPayloadError: no part of it can be read.

    Example: ``payloads_of(b'{"data": [{"e": "pv"}]}')`` -> ``[{"e": "pv"}]``
    """
    text = _unpacked(body, encoding.strip().lower())
    try:
        payload_data = _loads(text)
    except RecursionError:
        payload_data = _without_depths(text)
    except ValueError as error:
        raise BadPayloadError(f"body is not JSON: {error}"[:300]) from None
    data = payload_data.get("data") if isinstance(payload_data, dict) else None
    if not isinstance(data, list):
        raise BadPayloadError("body is not a payload_data object: expected a list in 'data'")
    return data


def readable(value: Any, *, strict: bool = False, depth: int = 0) -> Any:
    """Return a copy that every JSON reader can read: no lone surrogate, NaN or great depth.

    Args:
        strict: raise, instead of replacing what is too deep or too large by text.

    Raises:
        BadPayloadError: with ``strict``, if it is nested too deeply or a number is too large.
    """
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        if strict:
            raise BadPayloadError(f"nested deeper than {MAX_DEPTH} levels")
        return "(nested deeper)"
    if isinstance(value, dict):
        return {
            without_surrogates(name): readable(inner, strict=strict, depth=depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [readable(inner, strict=strict, depth=depth + 1) for inner in value]
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nor is NaN
        if strict:
            raise BadPayloadError(f"{str(value)[:40]} is too large for a number")
        return str(value)
    return value


def without_surrogates(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def any_integer(text: str) -> int | float:
    """Return an integer of JSON; one that no column can hold becomes infinite."""
    return int(text) if len(text) <= 300 else float(text)


def _loads(text: bytes) -> Any:
    return json.loads(text, parse_int=any_integer)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise BadPayloadError(f"Content-Encoding is {encoding[:40]!r}, expected gzip or none")
    packed = zlib.decompressobj(31)
    try:
        text = packed.decompress(body, MAX_PAYLOAD)
    except zlib.error as error:
        raise BadPayloadError(f"body is not gzip: {error}") from None
    if not packed.eof:
        problem = f"larger than {MAX_PAYLOAD} bytes" if len(text) >= MAX_PAYLOAD else "cut short"
        raise BadPayloadError(f"gzip body is {problem}")
    return text


def _without_depths(text: bytes) -> Any:
    """Return the parsed JSON, with ``null`` for what is too deep for the parser."""
    pieces, depth, start = [], 0, 0
    for token in _TOKENS.finditer(text):
        if token[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH:
                pieces.append(text[start : token.start()])
        elif token[0] in b"]}":
            if depth == MAX_DEPTH:
                pieces.append(b"null")
                start = token.end()
            depth -= 1
    if depth < MAX_DEPTH:
        pieces.append(text[start:])
    try:
        return _loads(b"".join(pieces))
    except (ValueError, RecursionError):
        raise BadPayloadError("body is not JSON, and nested too deeply") from None
