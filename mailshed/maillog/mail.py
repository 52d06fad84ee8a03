"""Lines about mail: sessions, what clients were told, what became of a spooled message.

As in Postfix, the queue id comes first, before there is one the session id. `to` lists at most
`RECIPIENTS_MAX` recipients and then `+n`; subjects never appear; the local part of a patient's
mailbox is masked. `delays` has Postfix's four parts in seconds: before us (reception), waiting for
a slot or in the spool, connecting, transmission; `delay` is their sum.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from mailshed.logline import VALUE_MAX, Fields, Value
from mailshed.mail.privacy import mask
from mailshed.maillog.writer import EventWriter, LogLevel, rounded
from mailshed.terms import Reason, Stage

RECIPIENTS_MAX = 5
"""Recipients that are listed by address; the others are a number."""
IDS_MAX = 10
"""Queue ids that an operator's action is logged with."""
# Room for ',+999999' behind the last address that is listed.
_MORE_MAX = 8

Outcome = Literal["delivered", "deferred", "bounced", "in_doubt"]


class Mail(NamedTuple):
    """What every event about a message says of it: addresses as they came, without brackets."""

    queue_id: str
    traffic_class: str | None
    """None before classification."""
    sender: bytes
    recipients: Sequence[bytes]
    """Those the event is about."""
    size: int
    client: str
    rule: str | None = None
    """The classification rule that named the class; None where it is not known any more."""
    login: str = ""
    """The user who has authenticated; empty if nobody has."""


class Delays(NamedTuple):
    """Where the time of one delivery went, in seconds; Postfix's a/b/c/d."""

    reception: float = 0.0
    waiting: float = 0.0
    connect: float = 0.0
    transmission: float = 0.0


class MailEvents(EventWriter):
    """One method for each event about mail."""

    # Sessions and commands.

    def session_refused(
        self,
        *,
        client: str,
        cause: str,
        times: int,
        listener: str | None,
        reply: str | None,
        detail: str | None,
    ) -> None:
        """A connection got no session; the first of a client is told, and then how many there were.

        `client` is an address, or `many`; the last three are of the first alone.
        """
        fields: Fields = {
            "client": client,
            "cause": cause,
            "times": times,
            "listener": listener,
            "reply": reply,
            "detail": detail,
        }
        self._event("info", "-", "session_refused", fields)

    def session_ended(
        self,
        session_id: str,
        *,
        listener: str,
        client: str,
        how: str,
        seconds: float,
        messages: int,
    ) -> None:
        """A session is over; `how` is quit, eof, timeout, errors or the like."""
        fields: Fields = {"listener": listener, "client": client, "how": how}
        counts: Fields = {"seconds": round(seconds, 2), "messages": messages}
        self._event("debug", session_id, "session_ended", {**fields, **counts})

    def auth(
        self,
        session_id: str,
        *,
        result: str,
        listener: str,
        client: str,
        mechanism: str | None,
        login: str | None,
        detail: str | None,
    ) -> None:
        """A client said who it is; `login` is whole only if it has proved that. Never a secret."""
        fields: Fields = {
            "result": result,
            "login": login,
            "mechanism": mechanism,
            "client": client,
            "listener": listener,
            "detail": detail,
        }
        self._event("info", session_id, "auth", fields)

    def tls_failed(
        self,
        session_id: str,
        *,
        listener: str,
        client: str,
        result: str,
        detail: str,
        is_stranger: bool,
    ) -> None:
        """A TLS handshake failed. Strangers' do every minute, and are told at debug only."""
        fields: Fields = {
            "result": result,
            "client": client,
            "listener": listener,
            "detail": detail,
        }
        self._event("debug" if is_stranger else "info", session_id, "tls_failed", fields)

    def rejected(
        self,
        session_id: str,
        *,
        stage: Stage | str,
        listener: str,
        client: str,
        reply: str,
        reason: Reason | None = None,
        sender: bytes | None = None,
        recipient: bytes | None = None,
    ) -> None:
        """A command was refused before there was a message: by policy, or for what it says.

        `reason` is None where the reply alone says it: syntax, parameters, bounds.
        """
        fields: Fields = {
            "stage": stage,
            "from": None if sender is None else _path(sender),
            "to": None if recipient is None else _path(recipient),
            "client": client,
            "listener": listener,
            "reason": reason,
            "reply": reply,
        }
        self._event("info", session_id, "rejected", fields)

    # What the client was told about its message.

    def delivered(self, mail: Mail, *, backend: str, delays: Delays, reply: str) -> None:
        """It was relayed live: the backend's 250 is the client's."""
        self._message("info", "delivered", mail, delays, {"backend": backend, "reply": reply})

    def spooled(
        self,
        mail: Mail,
        *,
        reason: Reason,
        delays: Delays,
        reply: str | None = None,
        detail: str | None = None,
        backend: str | None = None,
        copy_of: str | None = None,
    ) -> None:
        """It was committed to the spool and the client got our 250; `waiting` has the commit.

        `reply` is the backend's word if it was tried and gave one, `detail` what broke instead. Of
        a message that was split each copy has a line, with the `backend` that it is for; `copy_of`
        is the queue id that the client was told.
        """
        tail: Fields = {
            "reason": reason,
            "backend": backend,
            "copy_of": copy_of,
            "reply": reply,
            "detail": detail,
        }
        self._message("info", "spooled", mail, delays, tail)

    def deferred(self, mail: Mail, *, reason: Reason, delays: Delays, reply: str) -> None:
        """The client was told 4xx and keeps it."""
        self._message("info", "deferred", mail, delays, {"reason": reason, "reply": reply})

    def refused(self, mail: Mail, *, reason: Reason, delays: Delays, reply: str) -> None:
        """The client was told 5xx: policy, or the backend's word."""
        self._message("info", "refused", mail, delays, {"reason": reason, "reply": reply})

    def aborted(self, mail: Mail, *, stage: Stage | str, reply: str | None = None) -> None:
        """The client left before our dot and before it had an answer; nothing was promised.

        `reply` is what it was told if it was us who ended it, because it was too slow.
        """
        self._message("info", "aborted", mail, None, {"stage": stage, "reply": reply})

    # What became of a spooled message.

    def attempted(
        self,
        mail: Mail,
        *,
        backend: str,
        attempt: int | None,
        outcome: Outcome,
        delays: Delays,
        reply: str,
        next_attempt_seconds: float | None = None,
    ) -> None:
        """One delivery attempt from the spool ended in this way for these recipients.

        `attempt` is None for one that does not count, since the backend was not reached.
        """
        tail: Fields = {
            "outcome": outcome,
            "backend": backend,
            "attempt": attempt,
            "next": rounded(next_attempt_seconds),
            "reply": reply,
        }
        self._message("info", "attempted", mail, delays, tail)

    def bounced(self, mail: Mail, *, reply: str, report: str | None) -> None:
        """Its recipients failed for good; `report` is a queue id, or None if nobody is told."""
        self._message("info", "bounced", mail, None, {"report": report, "reply": reply})

    def expired(self, mail: Mail, *, age_seconds: float, reply: str, report: str | None) -> None:
        """Its recipients were not delivered within the spool's lifetime."""
        tail: Fields = {"age": rounded(age_seconds), "report": report, "reply": reply}
        self._message("warning", "expired", mail, None, tail)

    def postponed(self, mail: Mail, *, cause: str, next_attempt_seconds: float) -> None:
        """It was due and was not tried: its mailboxes are held, or there are too many retries."""
        tail: Fields = {"cause": cause, "next": rounded(next_attempt_seconds)}
        self._message("debug", "postponed", mail, None, tail)

    def delayed(self, mail: Mail, *, age_seconds: float, reply: str, report: str | None) -> None:
        """Its recipients still wait; `report` is a queue id, or None if nobody is told."""
        tail: Fields = {"age": rounded(age_seconds), "report": report, "reply": reply}
        self._message("info", "delayed", mail, None, tail)

    def reported(self, queue_id: str, *, kind: str, addressee: bytes, report: str) -> None:
        """A sender that asked for it is told of a success; `report` is a queue id."""
        fields: Fields = {"kind": kind, "to": _path(addressee), "report": report}
        self._event("info", queue_id, "reported", fields)

    def reports_summarised(self, report: str, *, addressee: bytes, recipients: int) -> None:
        """One message tells a sender what it was not told one by one."""
        fields: Fields = {"to": _path(addressee), "nrcpt": recipients}
        self._event("warning", report, "reports_summarised", fields)

    def report_lost(self, report: str, *, kind: str, addressee: bytes, detail: str) -> None:
        """A report of success, or a summary, could not be stored."""
        fields: Fields = {"kind": kind, "to": _path(addressee), "detail": detail}
        self._event("warning", report, "report_lost", fields)

    def in_doubt(self, mail: Mail, *, backend: str, detail: str, is_held: bool = False) -> None:
        """Our dot went out and no answer came: a copy is kept, and may become a duplicate."""
        held = "yes" if is_held else "no"
        tail: Fields = {"backend": backend, "held": held, "detail": detail}
        self._message("warning", "in_doubt", mail, None, tail)

    def corrupt(self, mail: Mail, *, detail: str) -> None:
        """Its stored mail data failed the checksum: it is kept for an operator and not tried."""
        self._message("error", "corrupt", mail, None, {"detail": detail})

    def removed(self, mail: Mail, *, by: str, reason: str) -> None:
        """An operator deleted its recipients."""
        self._message("warning", "removed", mail, None, {"by": by, "reason": reason})

    def operator(
        self,
        *,
        verb: str,
        user: str,
        request: str,
        result: Mapping[str, int | str],
        ids: Sequence[str],
        reason: str | None,
    ) -> None:
        """An operator acted on the queue; the audit log has it whole, under the same `request`."""
        fields: dict[str, Value] = {"verb": verb, "user": user, "request": request}
        fields.update((name, value) for name, value in result.items() if value != "")
        fields |= {"ids": _listed(ids), "reason": reason}
        self._event("warning", "-", "operator", fields)

    def _message(
        self, level: LogLevel, event: str, mail: Mail, delays: Delays | None, tail: Fields
    ) -> None:
        if not self._writes(level):
            return
        fields: dict[str, Value] = {
            "class": mail.traffic_class,
            "rule": mail.rule,
            "from": _path(mail.sender),
            "to": _paths(mail.recipients),
            "nrcpt": len(mail.recipients),
            "size": mail.size,
            "client": mail.client,
            "login": mask(mail.login) if mail.login else None,
        }
        if delays is not None:
            reception, waiting, connect, transmission = delays
            fields["delay"] = round(reception + waiting + connect + transmission, 2)
            fields["delays"] = "%.2f/%.2f/%.2f/%.2f" % delays  # noqa: UP031 - the faster one
        fields.update(tail)
        self._event(level, mail.queue_id, event, fields)


@lru_cache(maxsize=4096)
def _path(address: bytes) -> str:
    return f"<{mask(address.decode('utf-8', 'backslashreplace'))}>"


def _paths(recipients: Sequence[bytes]) -> str:
    """As many of the first recipients as fit, whole, and the number of the others."""
    if len(recipients) == 1:
        return _path(recipients[0])
    listed: list[str] = []
    room = VALUE_MAX - _MORE_MAX
    for address in recipients[:RECIPIENTS_MAX]:
        path = _path(address)
        room -= len(path) + 1
        if room < 0:
            break
        listed.append(path)
    if len(listed) < len(recipients):
        listed.append(f"+{len(recipients) - len(listed)}")
    return ",".join(listed)


def _listed(ids: Sequence[str]) -> str | None:
    """The first ids and the number of the others; None if there are none."""
    more = len(ids) - IDS_MAX
    return ",".join([*ids[:IDS_MAX], *([f"+{more}"] if more > 0 else [])]) or None
