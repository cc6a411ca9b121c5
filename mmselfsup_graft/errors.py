"""Errors that are meant for the user.

Everything that a user can cause (a wrong file, a mistyped key, missing data) is raised as a :class:`GraftError`
whose message names the thing, what was expected and what to do. The tools print that message as one line and
leave with a non-zero code; see :func:`mmselfsup_graft.cli.running.run_tool`.
"""


class GraftError(Exception):
    """Base of all errors whose message is written for the user of a tool.

    Attributes:
        exit_code: What a tool that ends with it returns to the shell.
    """

    exit_code = 1


class CheckpointError(GraftError):
    """A checkpoint cannot be read, is of the wrong kind or does not fit the model."""


class FormatMismatchError(CheckpointError):
    """A checkpoint is of another kind than the one that was named; as a wrong argument it ends a tool with 2."""

    exit_code = 2


class ConfigError(GraftError):
    """A config or a command line asks for something impossible or mistypes a key."""


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
