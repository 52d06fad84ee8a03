"""How a command ends: the numbers of sysexits.h, which mail people know, and their exception."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of every verb."""

    OK = 0
    NO_MATCH = 1
    """The question was answered, and the answer is 'nothing'."""
    USAGE = 64
    DATA = 65
    """Something that was to be read is damaged."""
    UNAVAILABLE = 69
    """The service cannot be reached, or cannot start."""
    IO_ERROR = 74
    TRY_AGAIN = 75
    """The service is there but has no time for us."""
    NO_PERMISSION = 77
    CONFIG = 78


class VerbFailed(Exception):
    """A verb cannot do its work; the text is for the person who typed it."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code
