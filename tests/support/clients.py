"""Clients of different habits that send many messages over one connection.

`send_lock_step` is smtplib, which waits for every reply. `send_pipelined` writes the mail data of
one message and the whole envelope of the next in one piece (RFC 2920, 3.1: DATA ends a group),
which is the most that a client may do, and where a server that loses its place shows it.
"""

import smtplib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tests.support.corpus import dot_stuffed
from tests.support.load import PATIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One message to one recipient; `wire` is not dot-stuffed."""

    sender: str
    recipient: str
    wire: bytes

    @property
    def mail_command(self) -> str:
        """MAIL with the parameters that the content needs."""
        body = "" if self.wire.isascii() else " BODY=8BITMIME"
        return f"MAIL FROM:<{self.sender}>{body}"


def send_lock_step(port: int, items: Sequence[Item]) -> list[str]:
    """Send with smtplib over one connection; the reply to each final dot, in order."""
    replies = []
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        client.ehlo("workstation.example")
        for item in items:
            for command in (item.mail_command, f"RCPT TO:<{item.recipient}>"):
                code, text = client.docmd(command)
                assert code == 250, text
            code, text = client.data(item.wire)
            replies.append(f"{code} {text.decode('latin-1')}")
    return replies


def send_pipelined(port: int, items: Sequence[Item]) -> list[str]:
    """Send with pipelining over one connection; the reply to each final dot, in order."""
    replies = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        connection.makefile("rb") as reader,
    ):
        _expect(reader, "220")
        connection.sendall(b"EHLO relay.example\r\n")
        assert "PIPELINING" in _expect(reader, "250"), "the server does not offer PIPELINING"
        connection.sendall(_envelope(items[0]))
        for index, item in enumerate(items):
            for code in ("250", "250", "354"):
                _expect(reader, code)
            is_last = index + 1 == len(items)
            following = b"QUIT\r\n" if is_last else _envelope(items[index + 1])
            connection.sendall(dot_stuffed(item.wire) + b".\r\n" + following)
            replies.append(_reply(reader))
        _expect(reader, "221")
    return replies


def _envelope(item: Item) -> bytes:
    return f"{item.mail_command}\r\nRCPT TO:<{item.recipient}>\r\nDATA\r\n".encode()


def _reply(reader: BinaryIO) -> str:
    lines: list[str] = []
    while True:
        line = reader.readline().decode("latin-1")
        assert line.endswith("\r\n"), f"connection closed after {lines}"
        lines.append(line.rstrip())
        if line[3] == " ":
            return " / ".join(lines)


def _expect(reader: BinaryIO, code: str) -> str:
    reply = _reply(reader)
    assert reply.startswith(code), reply
    return reply
