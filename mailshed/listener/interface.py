"""What a session asks of the rest: the one seam between the dialog and the path of a message.

The session keeps syntax and sequence, the handler knows policy and mail. All answers are replies;
none of the methods raises.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from mailshed.authentication.sasl import Credentials
from mailshed.errors import CredentialsError
from mailshed.listener.deadlines import Phase
from mailshed.mail.address import Mailbox
from mailshed.mail.content import Content
from mailshed.mail.reply import Reply
from mailshed.mail.xclient import Introduction
from mailshed.terms import Stage

if TYPE_CHECKING:
    from mailshed.listener.protocol import SmtpSession


Later = Callable[[], Awaitable[Reply | None]]
"""An answer that takes time: call it and await the result."""


class MailHandler(Protocol):
    """What a session asks; all answers are replies, and none of the methods raises."""

    def connected(self, session: "SmtpSession") -> Reply | None:
        """A client connected; a reply refuses it."""
        ...

    def disconnected(self, session: "SmtpSession") -> None:
        """The session is over."""
        ...

    def replied(self, session: "SmtpSession", verb: str, sent: Reply) -> None:
        """`sent` answers `verb`, in lower case; `connect` is the greeting, `dot` the mail data."""
        ...

    async def authenticate(
        self, session: "SmtpSession", said: Credentials | CredentialsError
    ) -> Reply:
        """Find out whether the credentials are good, or note that what was said is none.

        After a 2xx `session.client` is the user that it has proved to be. Cancelled if the client
        leaves.
        """
        ...

    def sender(self, session: "SmtpSession") -> Reply | None:
        """May this user send as who MAIL says? A reply refuses it."""
        ...

    def is_proxy(self, session: "SmtpSession") -> bool:
        """Whether the other end of the connection may say whose connection it passes on."""
        ...

    def introduced(self, session: "SmtpSession", said: Introduction) -> Reply | None:
        """A proxy has said who the client is; a reply refuses that client, and ends the session.

        Otherwise `session.client` is that client.
        """
        ...

    def overdue(self, session: "SmtpSession", phase: Phase) -> None:
        """The client was too slow; the session ends."""
        ...

    def mail(self, session: "SmtpSession") -> Callable[[], Awaitable[None]] | None:
        """Has MAIL, which was accepted, to wait for its reply? What is returned waits as long."""
        ...

    def recipient(self, session: "SmtpSession", mailbox: Mailbox) -> Reply | Later | None:
        """May this client send to `mailbox`? A reply refuses it; 421 also ends the session.

        Nearly always that is known at once. If it is not, the session answers everything that came
        before, and then waits.
        """
        ...

    def rejected(
        self, session: "SmtpSession", stage: Stage, argument: bytes, answer: Reply
    ) -> None:
        """MAIL or RCPT was refused for what it says, without asking; `argument` follows the verb.

        Told at most once a transaction of recipients that are too many, and otherwise of errors
        only, whose number ends the session.
        """
        ...

    def is_offered_behind(self, keyword: str) -> bool:
        """Whether the mail servers behind us offer this extension, as far as is known."""
        ...

    def new_content(self, session: "SmtpSession") -> Content:
        """A place for the mail data that follows."""
        ...

    def content(
        self, session: "SmtpSession", content: Content, answer: Callable[[Reply | None], None]
    ) -> None:
        """The mail data is complete: see to it, and call `answer` once, now or later.

        It is given None if the client has left and wants no reply. Takes over `content` and closes
        it, unless it raises.
        """
        ...

    def discarded(self, session: "SmtpSession", octets: int, answer: Reply | None) -> None:
        """No message came of the mail data, after so many octets; the envelope is still there.

        `answer` is what the client was told last: a refusal, or why the session ended. None if it
        left by itself.
        """
        ...
