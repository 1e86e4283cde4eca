"""How the Signals API says no."""

from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than success: status and ``detail``."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
