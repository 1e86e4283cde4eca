"""Visitors and addresses as the board may show them: without personal data."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

COLOURS = [
    "Amber", "Azure", "Coral", "Crimson", "Golden", "Hazel", "Indigo", "Ivory", "Jade",
    "Lilac", "Mint", "Ochre", "Olive", "Pearl", "Plum", "Rosy", "Ruby", "Rusty", "Saffron",
    "Scarlet", "Silver", "Teal", "Umber", "Violet",
]  # fmt: skip
ANIMALS = [
    "Badger", "Beaver", "Bison", "Crane", "Dolphin", "Falcon", "Ferret", "Finch", "Fox",
    "Gecko", "Hare", "Hedgehog", "Heron", "Ibex", "Jackdaw", "Kestrel", "Lark", "Lynx",
    "Marten", "Mole", "Newt", "Otter", "Owl", "Panda", "Puffin", "Quail", "Raven", "Robin",
    "Seal", "Stork", "Swift", "Tapir", "Toad", "Vole", "Weasel", "Wren",
]  # fmt: skip
WORD = re.compile(r"[A-Za-z]{1,24}([-_][A-Za-z]{1,24}){0,5}")
MAX_READ, MAX_SHOWN = 200, 48  # characters of a path


@dataclass(frozen=True)
class Disguise:
    """A made-up identity of a visitor on the board.

    Attributes:
        key: distinguishes visitors; the identifier cannot be derived from it.
        name: two words; two of a thousand visitors may share a name.
        hue: of the visitor's colour, in degrees.
    """

    key: str
    name: str
    hue: int


def disguised(identifier: str) -> Disguise:
    """Return the disguise of a visitor, which is always the same.

    Example: ``disguised("u1").name`` -> two words such as ``"Teal Otter"``
    """
    digest = hashlib.sha256(f"board {identifier}".encode("utf-8", "replace")).digest()
    name = f"{COLOURS[digest[0] % len(COLOURS)]} {ANIMALS[digest[1] % len(ANIMALS)]}"
    return Disguise(digest[2:10].hex(), name, (digest[10] * 256 + digest[11]) % 360)


def plain_path(path: object) -> str:
    """Return a path with ``…`` for steps that are not plain words, such as numbers or addresses.

    Example: ``plain_path("/blog/last-loaf/ada@example.com")`` -> ``"/blog/last-loaf/…"``
    """
    return _plain(path[:MAX_READ]) if isinstance(path, str) and path else ""


@lru_cache(maxsize=4096)
def _plain(path: str) -> str:
    steps = [step for step in path.split("/") if step]
    plain = "/".join(step if WORD.fullmatch(step) else "…" for step in steps[:6])
    return f"/{plain}"[:MAX_SHOWN]
