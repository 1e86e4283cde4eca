"""How a "Your turn" is checked: an attempt is praised, or a hint says what is missing.

Example: ``@exercise("the first hint") def check(attempt): ...`` with ``NotYetError`` inside.
"""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

P = ParamSpec("P")


class NotYetError(Exception):
    """An attempt is not right yet; the message is a hint."""


def exercise(
    hint: str,
) -> Callable[[Callable[Concatenate[Any, P], str]], Callable[Concatenate[Any, P], bool]]:
    """Make a check of a function that praises an attempt or raises ``NotYetError``.

    Whatever else an attempt makes it raise is shown as a part of the hint: the notebook
    goes on.
    """

    def decorate(check: Callable[Concatenate[Any, P], str]) -> Callable[Concatenate[Any, P], bool]:
        @functools.wraps(check)
        def checked(attempt: Any, /, *args: P.args, **kwargs: P.kwargs) -> bool:
            if attempt is None or attempt is ...:
                print(f"Not yet: {hint}")
                return False
            try:
                print(f"Right. {check(attempt, *args, **kwargs)}")
            except NotYetError as wrong:
                print(f"Not yet: {wrong}")
            except Exception as error:  # noqa: BLE001 - of code that a learner is still writing
                print(f"Not yet: {hint} (It raised {type(error).__name__}: {error})")
            else:
                return True
            return False

        return checked

    return decorate
