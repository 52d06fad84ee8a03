"""What there is to know about one message while it is classified."""

from collections.abc import Callable
from dataclasses import dataclass

from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView


@dataclass(frozen=True, slots=True)
class Subject:
    """One message: its envelope (with the client in it) and its header section."""

    envelope: Envelope
    header: HeaderView


Condition = Callable[[Subject], bool]
