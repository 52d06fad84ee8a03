"""Lines that a client sends: commands, and responses to a challenge.

A line ends in LF here, so that one with a bare LF is seen and refused as a whole. One that is too
long is read to its end and then refused, or its rest would be taken for a command; what has come of
it is forgotten meanwhile. One without an end ends the session.
"""

from typing import TYPE_CHECKING

from mailshed.mail import reply

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession

# RFC 5321, 4.5.3.1.4 asks for 512 octets and more for extensions; DSN alone adds 500 to RCPT
# (RFC 3461, 4.2). Postfix takes 2048.
COMMAND_OCTETS_MAX = 2048

# A line that passes this without an end is no mistake but an attack.
LINE_OCTETS_MAX = 64 * 1024


def take_line(session: "SmtpSession", octets_max: int) -> bytes | None:
    """Take the next line; empty if it was longer than that, None if no whole one is there.

    Where a line would begin is also where a session ends that has made too many errors, or that
    has nothing more to say when the service stops.
    """
    if session.conduct.errors >= session.limits.errors_max:
        session.end(reply.TOO_MANY_ERRORS)
        return None
    line = session.reader.take_line()
    if line is None:
        _wait_for_line(session, octets_max)
        return None
    session.timer.end_line()
    if session.octets_discarded:
        session.octets_discarded = 0
        return b""
    return line if len(line) <= octets_max else b""


def _wait_for_line(session: "SmtpSession", octets_max: int) -> None:
    buffered = session.reader.buffered
    if buffered > octets_max:
        session.octets_discarded += buffered
        session.reader.take_all()
        if session.octets_discarded > LINE_OCTETS_MAX:
            session.end(reply.TOO_MANY_ERRORS)
            return
        buffered = 0
    if not buffered and session.is_stopping and session.is_idle:
        session.end(reply.SHUTTING_DOWN)
    elif buffered or session.octets_discarded:
        session.timer.begin_line(session.limits.line_timeout)
