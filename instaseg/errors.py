"""The errors a user can cause or meet; only :mod:`instaseg.cli` turns them into exit codes.

Every message says what was expected, what was found, where, and what to do.
"""


class InstasegError(Exception):
    """Base of all errors that are reported as one line instead of a traceback."""


class ConfigError(InstasegError):
    """A wrong command line or configuration; found before anything is written."""


class DataError(InstasegError):
    """Images, labels or arrays that are missing, broken or do not fit the configuration."""


class StageError(InstasegError):
    """A stage cannot run or did not finish; names the stage and, where there is one, the sample."""


class CheckpointError(InstasegError):
    """A checkpoint that is missing, damaged or made by another architecture."""
