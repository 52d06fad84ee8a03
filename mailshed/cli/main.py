"""Entry point of the `mailshed` command: parse, run one verb, turn its ending into an exit code.

Data goes to standard output, talk to standard error. Each verb imports what it needs when it runs,
so that `--help` and the verbs of the moment of trouble (`status`, `queue`) start fast and work
without the service's dependencies.
"""

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mailshed import __version__
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.verbs import (
    class_,
    config,
    explain,
    override,
    queue,
    serve,
    shed,
    simulate,
    status,
    surge,
)
from mailshed.errors import ConfigError, MailshedError, StartError

VERBS = (serve, status, queue, shed, class_, override, surge, explain, config, simulate)

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Parser(argparse.ArgumentParser):
    """A parser whose usage errors exit with EX_USAGE, and which takes no abbreviations."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = _Parser(
        prog="mailshed",
        description="Mail delivery load-shedding daemon, and the command line that operates it.",
    )
    parser.add_argument("--version", action="version", version=f"mailshed {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character is no reason to show nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # help, version or a usage error, already printed
        return int(stop.code or 0)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever reads us has seen enough
        _close_stdout()
        return ExitCode.OK
    except (VerbFailed, MailshedError, OSError) as error:
        return _fail(error)
    return code


def _open_standard_streams() -> None:
    """Put /dev/null where the caller closed 0, 1 or 2.

    Otherwise the next file or socket gets that number, and is written to as if it were the log.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(null, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _fail(error: Exception) -> ExitCode:
    """Say what went wrong and choose the exit code."""
    match error:
        case ConfigError():  # its text is a report of its own
            print(error, file=sys.stderr)
            return ExitCode.CONFIG
        case VerbFailed():
            code = error.code
        case StartError():
            code = ExitCode.UNAVAILABLE
        case _:
            code = ExitCode.IO_ERROR
            if _is_of_stdout(error):
                _close_stdout()
                why = error.strerror if isinstance(error, OSError) else None
                error = VerbFailed(f"cannot write to standard output: {why or error}", code)
    print(f"mailshed: {error}", file=sys.stderr)
    return code


def _is_of_stdout(error: Exception) -> bool:
    """Whether standard output is what failed: only a file that was opened by us has a name."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO}


def _close_stdout() -> None:
    """Let nothing be written any more, or the interpreter complains about it at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
