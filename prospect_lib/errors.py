"""The few kinds of error the library raises on purpose.

Every message names the value, what was expected and what to do, so the command
line prints it alone, without a traceback, and exits with the kind's ``exit_code``.
"""


class ProspectError(Exception):
    """Something the user can put right; the message says how."""

    exit_code = 1


class SettingsError(ProspectError):
    """A secret, a setting or this machine is not as needed."""

    exit_code = 2


class DefinitionError(ProspectError):
    """An attribute or a group asks for something that cannot be computed."""

    exit_code = 3


class DataError(ProspectError):
    """Events, anchors or a training set cannot be used as they are."""

    exit_code = 4


class ModelError(ProspectError):
    """A model bundle is damaged or does not fit the attributes it is given."""

    exit_code = 5


class ServiceError(ProspectError):
    """Signals, the sandbox, the warehouse or the tunnel did not answer as agreed."""

    exit_code = 6
