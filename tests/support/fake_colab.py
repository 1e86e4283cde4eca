"""A stand-in for ``google.colab`` that raises the same errors, under the same names.

Colab's classes are plain Exceptions; a blank name is a ValueError. The proxy's address is
derived from the port.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the environment with Colab's versions has no pytest
    import pytest


class SecretNotFoundError(Exception):
    """The panel has no secret of that name."""


class NotebookAccessError(Exception):
    """The notebook has no access to the secret."""


class TimeoutException(Exception):  # noqa: N818 - its name in Colab
    """No page of the notebook is open."""


class UserData:
    """Colab's secrets panel.

    Attributes:
        granted: the secrets that the notebook may read.
        withheld: the names of the secrets that it may not read.
        page: whether the notebook's page is open.
        requested: the names passed to ``get``, in order.
    """

    SecretNotFoundError = SecretNotFoundError
    NotebookAccessError = NotebookAccessError
    TimeoutException = TimeoutException

    def __init__(self, granted: dict[str, str], withheld: set[str], page: bool) -> None:
        self.granted, self.withheld, self.page = granted, withheld, page
        self.requested: list[str] = []

    def get(self, name: str) -> str:
        self.requested.append(name)
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
    """The part of ``google.colab.output`` that returns the proxy's address of a port.

    Attributes:
        framed: the ports that are shown below a cell.
    """

    def __init__(self) -> None:
        self.framed: list[int] = []

    def serve_kernel_port_as_iframe(self, port: int, *, height: str) -> None:
        assert height.isdigit()
        self.framed.append(port)

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
    """Make this process a Colab kernel for one test."""
    colab = ModuleType("google.colab")
    userdata = UserData(granted or {}, withheld or set(), page)
    colab.userdata, colab.output = userdata, Output()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    return userdata
