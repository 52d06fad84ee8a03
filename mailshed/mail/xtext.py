"""xtext: any octets as printable ASCII without spaces, for values in SMTP commands (RFC 3461, 4).

`+` and two capital hexadecimal digits stand for an octet that may not stand for itself: controls,
space, `+`, `=` and everything outside ASCII. `mail.parameters` reads what clients write so.

Pure.
"""

import re

_UNSAFE = re.compile(rb"[^!-*,-<>-~]")


def encode(octets: bytes) -> bytes:
    """Write `octets` as xtext: never a control, a space, `=` or 8-bit octet in it."""
    return _UNSAFE.sub(lambda found: b"+%02X" % found[0][0], octets)
