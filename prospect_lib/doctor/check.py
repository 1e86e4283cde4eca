"""The result of one check of this machine or of an account.

Example: ``str(Check("Python", "ok", "3.11.7"))`` -> ``"ok       Python         3.11.7"``
"""

from dataclasses import dataclass
from typing import Literal

from prospect_lib.errors import ProspectError

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked, such as ``"Python"``.
        state: ``"ok"``, ``"warning"`` or ``"failure"``.
        observed: what is there, such as ``"3.11.7"``.
        do: what to do about it; empty if it is well.
    """

    name: str
    state: State
    observed: str
    do: str = ""

    def __str__(self) -> str:
        line = f"{self.state:8} {self.name:14} {self.observed}"
        return f"{line}\n{'':8} -> {self.do}" if self.do else line


def failure(name: str, error: ProspectError) -> Check:
    """Return the failure of a check that raises an error: its first sentence, and what to do."""
    observed, _, do = " ".join(str(error).split()).partition(". ")
    return Check(name, "failure", observed, do)
