"""`StockBackend`: a mail server behind us, spoken to by aiosmtplib as it is, nothing overridden.

It is what `SmtpBackend` is compared with: by the differential tests, and by an operator who wants
to know whether a strange behaviour is our doing (`mailshed serve --engine stock`). The library's
client reads the greeting, says EHLO, begins TLS and runs the transaction with its own methods, one
command at a time and on a connection for each message. Only the socket is ours (`dial`), and so is
all judgement: what to say and what a reply means is `envelope`'s, as with `SmtpBackend`.

What the library makes different:

- It stuffs dots and writes line endings itself. So mail data is un-stuffed for it, is all in memory
  at once, and leaves as it came if it is clean and not empty.
- `data()` is DATA, the mail data and the dot in one, and does not say which of them failed. A
  refusal counts as one of the dot; a dialog that broke in there is in doubt, dot or not.
- It rewrites addresses. A message with one that would not leave as it is, is not sent at all.
- It is told of an end only by exceptions, so a 2xx that it did not expect is no success.

LMTP, a login and telling the backend whose message it gets are not done here; the start refuses
them (`engine`). Nothing is tried twice: TLS that is offered and fails defers the message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException, SMTPTimeoutError
from aiosmtplib.email import quote_address
from aiosmtplib.response import SMTPResponse

from mailshed.clock import Clock
from mailshed.errors import BackendError, ClientGone, ConnectionLost, ProtocolViolation, TimedOut
from mailshed.mail.delivery import Deferred, NoReply, StageTimes, TransactionResult, everyone
from mailshed.mail.reply import Reply, from_backend
from mailshed.relay import unready
from mailshed.relay.backend import BackendConnections, OutboundMessage
from mailshed.relay.connection import QUIT_TIMEOUT, Address, Timeouts, connect_client
from mailshed.relay.envelope import judge, mail_command, outcome, own_choice, rcpt_command
from mailshed.relay.international import lacks_smtputf8
from mailshed.relay.offers import Offers
from mailshed.relay.security import BackendTls
from mailshed.terms import Stage

_NOT_AS_IT_IS = "aiosmtplib would rewrite one of its addresses (--engine stock)"
# How the library fails; uvloop adds RuntimeError, for a write to a connection that is closed.
_FAILURES = (SMTPException, OSError, RuntimeError)


class StockBackend:
    """A mail server. Implements `mailshed.relay.backend.Backend`; `on_result` as `SmtpBackend`."""

    def __init__(
        self,
        name: str,
        address: Address,
        timeouts: Timeouts,
        *,
        clock: Clock,
        on_result: Callable[[OutboundMessage, TransactionResult], None],
    ) -> None:
        self._name = name
        self._address = address
        self._timeouts = timeouts
        self._clock = clock
        self._on_result = on_result
        self._open: set[SMTP] = set()
        self._opened = self._failed = 0
        self._is_over = False

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return self._name

    @property
    def answers_each_recipient(self) -> bool:
        """That is LMTP, see the module."""
        return False

    def connections(self) -> BackendConnections:
        """How the connections stand now; none is ever idle."""
        return BackendConnections(
            busy=len(self._open), opened_total=self._opened, failed_total=self._failed
        )

    def abandon(self) -> None:
        """End all dialogs now; see `Backend.abandon`."""
        self._is_over = True
        for client in self._open:
            client.close()

    async def close(self) -> None:
        """Begin nothing more; no connection outlives its message."""
        self._is_over = True

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Run one mail transaction to its end; see `Backend.deliver`."""
        began = self._clock.monotonic()
        client = self._new_client()
        self._open.add(client)
        try:
            offers = await self._begin(client)
            connect = self._clock.monotonic() - began
            if isinstance(offers, Deferred):
                self._failed += 1
                return TransactionResult(
                    recipients=everyone(offers, len(message.recipients)),
                    times=StageTimes(connect=connect),
                    is_backend_away=True,
                )
            self._opened += 1
            lacks_utf8 = await lacks_smtputf8(message, offers)
            choice = own_choice(message, self._clock.wall(), lacks_utf8=lacks_utf8)
            choice = choice or _rewritten(message)
            if choice is not None:
                return TransactionResult(recipients=everyone(choice, len(message.recipients)))
            result = await self._transact(client, message, offers, connect)
            self._on_result(message, result)
            with suppress(*_FAILURES):
                await client.quit(timeout=QUIT_TIMEOUT)
            return result
        finally:
            self._open.discard(client)
            client.close()

    # The beginning.

    def _new_client(self) -> SMTP:
        security, address = self._address.security, self._address
        is_implicit = security.policy.tls is BackendTls.IMPLICIT
        return SMTP(
            hostname=security.policy.name if is_implicit else address.host,
            port=None,  # the socket knows
            local_hostname=address.hostname,
            use_tls=is_implicit,
            start_tls=False,  # not before EHLO has been answered
            tls_context=security.material.context if is_implicit else None,
            timeout=self._timeouts.command,
        )

    async def _begin(self, client: SMTP) -> Offers | Deferred:
        """From nothing to where MAIL may be said: what the server offers, or what is wrong."""
        place, security = self._address.place, self._address.security
        if self._is_over:
            return unready.stopping()
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await connect_client(client, self._address, self._timeouts)
        except SMTPResponseException as error:
            return unready.not_greeted(place, error)
        except (*_FAILURES, ValueError) as error:
            return unready.not_connected(place, error, security.policy.name)
        return await self._say_hello(client)

    async def _say_hello(self, client: SMTP) -> Offers | Deferred:
        """Say EHLO, and once more after STARTTLS."""
        place, security = self._address.place, self._address.security
        try:
            answer = await client.ehlo()
            if self._has_starttls(client):
                await client.starttls(
                    server_hostname=security.policy.name, tls_context=security.material.context
                )
                answer = await client.ehlo()
        except SMTPHeloError as error:
            refused = _reply(error.code, error.message)
            if refused is not None:
                return unready.unwelcome(place, refused)
            return unready.closed(place, Stage.EHLO, "sent no SMTP reply to EHLO")
        except _FAILURES as error:
            return unready.closed(f"{place}:", Stage.EHLO, str(error))
        lines = answer.message.split("\n")[1:]
        self._address.on_hello(lines)
        return Offers.from_extensions(lines)

    def _has_starttls(self, client: SMTP) -> bool:
        """Whether STARTTLS is to be said: it has to be, or it is offered and may be."""
        match self._address.security.policy.tls:
            case BackendTls.STARTTLS:
                return True
            case BackendTls.OPPORTUNISTIC:
                return client.supports_extension("STARTTLS")
            case _:
                return False

    # The transaction.

    async def _transact(
        self, client: SMTP, message: OutboundMessage, offers: Offers, connect: float
    ) -> TransactionResult:
        began, dialog = self._clock.monotonic(), _Dialog()
        await self._negotiate(client, message, offers, dialog)
        verdicts = judge(
            dialog.replies, dialog.fault, len(message.recipients), partial_ok=message.partial_ok
        )
        answered = self._clock.monotonic()
        if None in verdicts:
            dialog = await self._send(client, message)
            answer = dialog.replies[0] if dialog.replies else None
            settled = outcome(answer, dialog.fault, is_dot_sent=True)
            verdicts = [settled if verdict is None else verdict for verdict in verdicts]
        service = self._clock.monotonic() - began
        return TransactionResult(
            recipients=tuple(verdict for verdict in verdicts if verdict is not None),
            times=StageTimes(connect=connect, envelope=answered - began, service=service),
            passed_on=offers.keywords,
        )

    async def _negotiate(
        self, client: SMTP, message: OutboundMessage, offers: Offers, dialog: "_Dialog"
    ) -> None:
        """Say MAIL and each RCPT, as far as there is a point in going on."""
        mail = mail_command(replace(message, reverse_path=b""), offers, self._clock.wall())
        sender, options = message.reverse_path.decode(), _options(mail)
        await dialog.hear(Stage.MAIL, client.mail(sender, options=options, encoding="utf-8"))
        for path, parameters in message.recipients:
            if dialog.fault is not None or not dialog.replies[0].is_success:
                return
            recipient, options = path.decode(), _options(rcpt_command(b"", parameters, offers))
            await dialog.hear(Stage.RCPT, client.rcpt(recipient, options=options, encoding="utf-8"))

    async def _send(self, client: SMTP, message: OutboundMessage) -> "_Dialog":
        """Say DATA and send the mail data with its dot."""
        wire = b"".join([chunk async for chunk in message.stream()])
        unstuffed = (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:]
        if not message.may_send_dot():
            raise ClientGone("the client left before the final dot to the backend")
        dialog = _Dialog()
        await dialog.hear(Stage.DOT, client.data(unstuffed, timeout=self._timeouts.dot))
        return dialog


class _Dialog:
    """Replies and their end as `WireProtocol` tells them, from what the library tells."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.fault: BackendError | None = None

    async def hear(self, stage: Stage, said: Awaitable[SMTPResponse]) -> None:
        """Wait for the reply to what was said."""
        try:
            response = await said
        except SMTPResponseException as error:
            reply = _reply(error.code, error.message) if error.code >= 400 else None
        except SMTPTimeoutError as error:
            self.fault = TimedOut(str(error), stage)
            return
        except _FAILURES as error:
            self.fault = ConnectionLost(str(error), stage)
            return
        else:
            reply = _reply(response.code, response.message)
        if reply is None:
            self.fault = ProtocolViolation(f"no SMTP reply to {stage.value}", stage)
            return
        self.replies.append(reply)
        if reply.code == 421:  # RFC 5321, 3.8: the backend closes after it
            self.fault = ConnectionLost(f"the backend said: {reply.text}", stage)


def _reply(code: int, text: str) -> Reply | None:
    """The reply as it came; the library takes the codes off and joins the lines with LF."""
    *lines, last = text.encode("utf-8", "surrogateescape").split(b"\n")
    return from_backend([*(b"%d-%b" % (code, line) for line in lines), b"%d %b" % (code, last)])


def _options(command: bytes) -> list[str]:
    """The parameters of MAIL or RCPT with an empty path."""
    return command.partition(b"<>")[2].decode("ascii").split()


def _rewritten(message: OutboundMessage) -> Deferred | None:
    """Why the library cannot be given this message: it would change who it is from, or for."""
    for path in (message.reverse_path, *(path for path, _ in message.recipients)):
        with suppress(ValueError):
            if quote_address(path.decode()).encode() == b"<%b>" % path:
                continue
        return Deferred(Stage.MAIL, None, _NOT_AS_IT_IS, NoReply.OUR_CHOICE)
    return None
