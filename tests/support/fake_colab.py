"""A stand-in for ``google.colab`` that raises what the real one raises, by the same names.

The real classes are plain Exceptions, apart from TimeoutException; ``get`` of a blank name
is a ValueError. An address of its proxy is made from the port.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a kernel that stands for Colab's has no pytest
    import pytest


class SecretNotFoundError(Exception):
    """There is no secret of that name."""


class NotebookAccessError(Exception):
    """There is one, but the notebook was not given access to it."""


class TimeoutException(Exception):  # noqa: N818 - its name in Colab
    """No page of the notebook answers."""


class UserData:
    """Colab's secrets panel.

    Attributes:
        granted: secrets that the notebook may read.
        withheld: names of those that it may not.
        page: whether a page is open to ask.
        asked: the names that were asked for.
    """

    SecretNotFoundError = SecretNotFoundError
    NotebookAccessError = NotebookAccessError
    TimeoutException = TimeoutException

    def __init__(self, granted: dict[str, str], withheld: set[str], page: bool) -> None:
        self.granted, self.withheld, self.page = granted, withheld, page
        self.asked: list[str] = []

    def get(self, name: str) -> str:
        self.asked.append(name)
        if not name.strip():
            raise ValueError("A secret's name must not be blank")
        if not self.page:
            raise TimeoutException
        if name in self.withheld:
            raise NotebookAccessError(name)
        if name not in self.granted:
            raise SecretNotFoundError(name)
        return self.granted[name]


class Output:
    """The part of ``google.colab.output`` that gives an address of the proxy."""

    @staticmethod
    def eval_js(code: str) -> str:
        port = code.removeprefix("google.colab.kernel.proxyPort(").removesuffix(")")
        return f"https://{int(port)}-colab.example/"


def enter(
    monkeypatch: "pytest.MonkeyPatch",
    *,
    granted: dict[str, str] | None = None,
    withheld: set[str] | None = None,
    page: bool = True,
) -> UserData:
    """Make this process a kernel of Colab for one test."""
    colab = ModuleType("google.colab")
    found = UserData(granted or {}, withheld or set(), page)
    colab.userdata, colab.output = found, Output()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    return found
