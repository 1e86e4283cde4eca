"""Visitors and addresses as the board may show them: nobody is known by them."""

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
READ, LONGEST = 200, 48  # characters of a path: looked at, shown


@dataclass(frozen=True)
class Disguise:
    """How the board calls a visitor.

    Attributes:
        key: tells visitors apart; the identifier cannot be had from it.
        name: made up; two of a thousand visitors may share one.
        hue: of the visitor's colour, in degrees.
    """

    key: str
    name: str
    hue: int


def disguised(identifier: str) -> Disguise:
    """The same visitor is always called the same.

    Example: ``disguised("u1").name`` -> two words such as ``"Teal Otter"``
    """
    digest = hashlib.sha256(f"board {identifier}".encode("utf-8", "replace")).digest()
    name = f"{COLOURS[digest[0] % len(COLOURS)]} {ANIMALS[digest[1] % len(ANIMALS)]}"
    return Disguise(digest[2:10].hex(), name, (digest[10] * 256 + digest[11]) % 360)


def plain_path(path: object) -> str:
    """A path with ``…`` for whatever is not a plain word: numbers, names, addresses.

    Example: ``plain_path("/blog/last-loaf/ada@example.com")`` -> ``"/blog/last-loaf/…"``
    """
    return _plain(path[:READ]) if isinstance(path, str) and path else ""


@lru_cache(maxsize=4096)
def _plain(path: str) -> str:
    steps = [step for step in path.split("/") if step]
    kept = "/".join(step if WORD.fullmatch(step) else "…" for step in steps[:6])
    return f"/{kept}"[:LONGEST]
