"""The errors that the library raises on purpose, each with the exit code of the command line.

Every message is one line: the value, what was expected and how to correct it. The command
line prints it without a traceback and exits with the error's ``exit_code``; a notebook prints it
above the traceback.
"""

import traceback


class ProspectError(Exception):
    """A problem that the user can correct; the message says how."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook prints: the message, and below it where it was raised.

        IPython asks for it: https://ipython.readthedocs.io/en/stable/config/integrating.html
        """
        message = f"{type(self).__name__}: {self}"
        return [message, "", *traceback.format_exception(self)]


class SettingsError(ProspectError):
    """A secret, a setting or the machine is not as required."""

    exit_code = 2


class DefinitionError(ProspectError):
    """An attribute or a group is defined in a way that cannot be computed."""

    exit_code = 3


class DataError(ProspectError):
    """Events, anchors or a training set cannot be used as they are."""

    exit_code = 4


class TooFewError(DataError):
    """There is too little to train or test a model on; the message says what would be enough."""

    exit_code = 11  # of ``train``: nothing to promote


class ModelError(ProspectError):
    """A model bundle is damaged, or does not fit the attributes given to it."""

    exit_code = 5


class ServiceError(ProspectError):
    """Signals, the sandbox, the warehouse or the tunnel failed or gave an invalid answer."""

    exit_code = 6


def one_line(text: object, length: int = 200) -> str:
    """Return a library's message, or a value, as one line of limited length.

    >>> one_line("SQL compilation error:\\n  invalid identifier 'NOTHING'", 40)
    'SQL compilation error: invalid identifi…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "score"), counted(1200, "score")
    ('1 score', '1,200 scores')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def wrong_type(what: str, value: object, expected: str) -> DataError:
    """Return the error of an argument of another type, without a repr of its value.

    Example:
        >>> str(wrong_type("split", [1, 2], "a Split: honest_split(table)"))
        'split is a list, expected a Split: honest_split(table).'
    """
    kind = type(value).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    return DataError(f"{what} is {article} {kind}, expected {expected}.")
