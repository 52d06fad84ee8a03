"""Mail servers of others, each with a configuration of a few lines, on a port of 127.0.0.1.

All take mail for the domains of `Way`, offer STARTTLS, and know one login; for the domain of
`Way.AUTH` they want it (but for Dovecot, whose LMTP has no logins). What they take is put into a
folder, a file for each recipient.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from tests.interop.backends.backend import Backend, Pair
from tests.interop.backends.dovecot import dovecot
from tests.interop.backends.exim import exim
from tests.interop.backends.haraka import haraka
from tests.interop.backends.opensmtpd import opensmtpd
from tests.interop.backends.postfix import postfix

BACKENDS: Mapping[str, Callable[[Path, Pair], AbstractContextManager[Backend]]] = {
    "Postfix": postfix,
    "Exim": exim,
    "OpenSMTPD": opensmtpd,
    "Dovecot LMTP": dovecot,
    "Haraka": haraka,
}
"""Each is given an empty folder, and a certificate with its key."""

__all__ = ["BACKENDS", "Backend", "Pair"]
