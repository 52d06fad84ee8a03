"""Limits that the kernel sets to this process.

Called once at start, before any socket is opened. Each session takes a descriptor, so does each
connection to the backend and each message that is too large for memory; the usual soft limit of
1024 is for programs that use select(2), which we do not. Where the limit is too low for the
configured sessions, accept(2) fails, and clients hang instead of hearing 421.

Source: getrlimit(2); systemd's file-hierarchy and `LimitNOFILE=` leave the soft limit low and the
hard one high for exactly this use.
"""

import resource


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
