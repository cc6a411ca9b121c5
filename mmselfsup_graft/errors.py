"""Errors with messages for users.

Everything that a user can cause (a wrong file, a mistyped key, missing data) is raised as a :class:`GraftError`
whose message states what is wrong, what was expected and what to do. The commands print it as one line and
exit with a non-zero code; see :func:`mmselfsup_graft.cli.running.run_tool`.
"""


class GraftError(Exception):
    """Base of all errors with messages for users.

    Attributes:
        exit_code: Exit code of a command that ends with it.
    """

    exit_code = 1


class CheckpointError(GraftError):
    """A checkpoint cannot be read, has the wrong kind or does not fit the model."""


class FormatMismatchError(CheckpointError):
    """A checkpoint has another format than the given one; as a wrong argument, a command ends with 2."""

    exit_code = 2


class ConfigError(GraftError):
    """A config or a command line requests something impossible or has a mistyped key."""


class DataError(GraftError):
    """Data is missing, empty, malformed or unreadable."""


class DiskFullError(GraftError):
    """A file could not be written because its disk is full."""


class NonFiniteError(DataError):
    """An encoder's features hold NaN or infinity: its weights do, or its training diverged."""


class NonFiniteWeightsError(CheckpointError, NonFiniteError):
    """The weights in a checkpoint hold NaN or infinity."""


class MissingOperatorError(GraftError):
    """A model calls an operator of mmcv that only its compiled extension has."""
