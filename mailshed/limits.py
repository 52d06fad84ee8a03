"""Limits that the kernel sets to this process.

Called once at start, before any socket is opened. Each session takes a descriptor, so does each
connection to the backend and each message that is too large for memory; the usual soft limit of
1024 is for programs that use select(2), which we do not. Where the limit is too low for the
configured sessions, accept(2) fails, and clients hang instead of hearing 421.

The kernel's table of open files begins with room for 64 and is made twice as large whenever it is
full. In a process with several threads it then waits until every processor has let go of the old
one (RCU). That takes some 16 ms, in the middle of an accept(2), and all sessions wait. A table that
was made large before there was a second thread never grows again.

Sources: getrlimit(2); systemd's file-hierarchy and `LimitNOFILE=` leave the soft limit low and the
hard one high for exactly this use. `expand_fdtable` in fs/file.c of Linux.
"""

import fcntl
import os
import resource

FILES_EXPECTED = 65_536
"""Room that is made at once: 9 octets of kernel memory each. More than that is no usual site."""


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard limit; return the soft limit in force.

    Never fails: a kernel that refuses leaves the limit as it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def make_room_for_files(limit: int) -> None:
    """Have the kernel's table hold as many files as may be open, before there is another thread.

    Never fails: without it the table grows when it has to.
    """
    last = min(limit, FILES_EXPECTED) - 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return
    try:
        os.close(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, last))
    except OSError:  # whatever has that number, the table is as large as this then
        pass
    finally:
        os.close(null)
