"""What strace saw: the begins and ends of system calls, in order.

strace follows all threads (`-f`), names the file behind each descriptor (`-y`) and prints a call
that another one overtook as two lines, "unfinished" and "resumed". Here each call is two events,
so that "returned before" and "begun after" can be asked for. `-D` makes strace a grandchild: the
process that a test started, signals and waits for is the traced one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import require
from tests.support.processes import wait_until

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Event:
    """The begin or the end of one system call."""

    name: str
    is_end: bool
    arguments: str
    """Of the call, with the path of its file."""
    result: str = ""

    @property
    def file(self) -> str:
        """The first argument: a descriptor, with the path of its file or the kind of socket."""
        return self.arguments.partition(",")[0]


def command(trace: Path, calls: str, *options: str) -> Sequence[str]:
    """The words to put in front of a command so that `calls` are written to `trace`."""
    return (
        *(str(require("strace")), "-D", "-f", "-y", "-e", f"trace={calls}"),
        *("-o", str(trace), *options),
    )


def read(trace: Path) -> str:
    """The trace of a process that has ended, once strace has written the last of it."""
    wait_until(
        lambda: trace.read_bytes().rstrip().endswith(b"+++"), "strace writes the end of its trace"
    )
    return trace.read_text()


def events(trace: str) -> Iterator[Event]:
    """Begins and ends of all calls in the order in which strace saw them."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if resumed := _RESUMED.fullmatch(line):
            arguments = begun.pop(resumed["pid"])
            yield Event(resumed["name"], True, arguments, _result(resumed["rest"]))
        elif call := _CALL.fullmatch(line):
            name, rest = call["name"], call["rest"]
            yield Event(name, False, rest)
            if rest.endswith("<unfinished ...>"):
                begun[call["pid"]] = rest
            else:
                yield Event(name, True, rest, _result(rest))


def _result(rest: str) -> str:
    """What a call returned; that it was made to take longer is not part of it."""
    return rest.rpartition("= ")[2].removesuffix(" (DELAYED)")
