"""What aiosmtpd's own class asks in the middle of its dialog: answered with our policy.

Each hook does what the command of the same name does in `commands`, with the same `MailHandler`,
`PendingTransaction` and `MailDataReceiver`, in the same order and in the same words. So there is
one policy and two dialogs. What the library has answered by itself does not come here.

Addresses come as the library has rewritten them, parameters in upper case, mail data un-stuffed and
whole; they are put into the form of the wire again, and judged as if the client had sent them so.
"""
# ruff: noqa: N802, D102 - names and meaning of the hooks are aiosmtpd's

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from mailshed.listener.mail_data import MailDataReceiver
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.content import Content
from mailshed.mail.reply import Reply
from mailshed.terms import Stage

if TYPE_CHECKING:
    from mailshed.listener.stock import StockSession


class StockHooks:
    """The hooks of one session."""

    def __init__(self, ours: "StockSession") -> None:
        self._ours = ours

    # Commands that are about nothing.

    async def handle_HELO(
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str
    ) -> bytes:
        self._forget()
        session.host_name = hostname
        return self._answer("helo", reply.make(250, server.hostname))

    async def handle_EHLO(
        self,
        _server: SMTP,
        session: Session,
        _envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        self._forget()
        session.host_name = hostname
        return responses

    async def handle_RSET(self, *_: Any) -> bytes:
        self._forget()
        return self._answer("rset", reply.OK)

    async def handle_NOOP(self, *_: Any) -> bytes:
        return self._answer("noop", reply.OK)

    async def handle_VRFY(self, *_: Any) -> bytes:
        return self._answer("vrfy", reply.CANNOT_VERIFY)

    async def handle_QUIT(self, *_: Any) -> bytes:
        return self._answer("quit", reply.BYE)

    async def handle_exception(self, error: Exception) -> bytes:
        ours = self._ours
        ours.loop.call_exception_handler(
            {"message": "SMTP session failed", "exception": error, "protocol": ours}
        )
        ours.end_soon()
        return self._answer("other", reply.INTERNAL)

    # The transaction.

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> bytes:
        ours = self._ours
        if ours.is_stopping:
            ours.end_soon()
            return self._answer("mail", reply.SHUTTING_DOWN)
        self._forget()  # the library tells nobody of mail data that it refuses itself
        argument = _argument("FROM", address, options)
        begun = ours.envelope.begin(
            argument, ours.limits, ours.loop.time(), is_trusted=ours.client.is_trusted
        )
        if begun.is_success:
            envelope.mail_from = address
            if rest := ours.handler.mail(ours.as_seen):
                await rest()
        else:
            ours.handler.rejected(ours.as_seen, Stage.MAIL, argument, begun)
        return self._answer("mail", begun)

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> bytes:
        ours, pending = self._ours, self._ours.envelope
        argument = _argument("TO", address, options)
        read = pending.read_recipient(argument, ours.limits)
        if isinstance(read, Reply):
            answer = read
            if pending.recipients_excess < 2:
                ours.handler.rejected(ours.as_seen, Stage.RCPT, argument, read)
        else:
            refused = ours.handler.recipient(ours.as_seen, read.mailbox)
            if refused is not None and not isinstance(refused, Reply):
                began = ours.loop.time()
                refused = await refused()
                pending.waited += ours.loop.time() - began
            answer = pending.add(read, refused)
        if answer.is_success:
            envelope.rcpt_tos.append(address)
        if answer.code == 421:
            ours.end_soon()
        return self._answer("rcpt", answer)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> bytes:
        ours = self._ours
        assert envelope.original_content is not None, "set before this hook is called"
        content = ours.handler.new_content(ours.as_seen)
        refusal = await self._receive(content, envelope.original_content)
        answer: Reply | None
        if refusal is not None:
            content.close()
            ours.handler.discarded(ours.as_seen, len(envelope.original_content), refusal)
            answer = refusal
        else:
            answered: asyncio.Future[Reply | None] = ours.loop.create_future()
            ours.handler.content(ours.as_seen, content, partial(_settle, answered))
            answer = await answered
        if answer is None:
            # The client has left. The library's way to say nothing at all.
            raise asyncio.CancelledError
        self._forget()
        if ours.is_stopping:
            ours.loop.call_soon(ours.stop)
        return self._answer("dot", answer)

    async def _receive(self, content: Content, unstuffed: bytes) -> Reply | None:
        """Judge mail data by all that counts for it, as if it came from the client just now."""
        ours = self._ours
        receiver = MailDataReceiver(
            ours.limits,
            is_normalising=ours.client.address in ours.limits.normalize_networks,
            now=ours.loop.time,
        )
        stuffed = (b"\r\n" + unstuffed).replace(b"\r\n.", b"\r\n..")[2:]
        spill = receiver.feed(content, stuffed + b".\r\n")
        if spill is not None:
            await spill()
        return receiver.refusal

    def _forget(self) -> None:
        self._ours.envelope = PendingTransaction()

    def _answer(self, verb: str, answer: Reply) -> bytes:
        """The reply as the library is given it, which adds the last CRLF."""
        ours = self._ours
        ours.handler.replied(ours.as_seen, verb, answer)
        return answer.wire[:-2]


def _settle(answered: "asyncio.Future[Reply | None]", answer: Reply | None) -> None:
    if not answered.done():  # else the library has given up on the client
        answered.set_result(answer)


def _argument(keyword: str, address: str, options: list[str]) -> bytes:
    """What follows MAIL or RCPT, as far as the library has left it as it was."""
    path = address if address == "<>" else f"<{address}>"
    return " ".join([f"{keyword}:{path}", *options]).encode("ascii", "surrogateescape")
