"""What is known of the mail servers that hospitals run: where their replies mean something else.

`relay.endings` reads replies by the standards. A preset is what a product does differently: replies
whose text says more than their code, and latencies that are not load. Texts are parts of replies in
lower case, from the products' sources and logs; a reply that was reworded falls back to the
standard reading, which is never dangerous.

`exchange`: one source has a limit of connections (`421 4.3.2 The maximum number of concurrent
connections has exceeded a limit`), which says nothing about load. Another 421 is about its rate of
messages. Replies that refuse are held back for five seconds (tarpit), and the reply to the final
dot is held back by shadow redundancy, so neither tells how busy the server is.
`postfix`: anvil(8) limits a client's rates with a 450 4.7.1 that reads like greylisting, and
postscreen(8) turns a new client away once with a 450 4.3.2 that reads like overload.
`dovecot` (LMTP): a mailbox that is being delivered to gets a 451 4.3.0.

Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mailshed.control.limit import SlotEnding


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How one product differs from the standards.

    `texts` maps code and part of a 4xx's text to what it means. A 5xx that took `tarpit` seconds or
    longer was held back on purpose. `has_late_dot`: its reply to the final dot tells no latency.
    """

    name: str
    texts: tuple[tuple[int, str, SlotEnding], ...] = ()
    tarpit: float = float("inf")
    has_late_dot: bool = False


GENERIC = Preset(name="generic")

EXCHANGE = Preset(
    name="exchange",
    texts=(
        # MessageRateLimit of the connector. Fewer connections would not help, so no 421 like others
        (421, "message submission rate for this client", SlotEnding.BUSY),
        (450, "excessive message rate from sender to recipient", SlotEnding.POLICY),
        # Of the mailbox server or its database, not of one mailbox, though it has the same code.
        (432, "mailbox server", SlotEnding.BUSY),
        (432, "mailbox database", SlotEnding.BUSY),
        (432, "not enough memory", SlotEnding.BUSY),
    ),
    tarpit=5.0,
    has_late_dot=True,
)

POSTFIX = Preset(
    name="postfix",
    texts=(
        # smtpd_client_message_rate_limit and smtpd_client_recipient_rate_limit.
        (450, "error: too much mail from", SlotEnding.BUSY),
        (450, "error: too many recipients from", SlotEnding.BUSY),
        # postscreen after its deep protocol tests; the next connection is let through.
        (450, "4.3.2 service currently unavailable", SlotEnding.POLICY),
    ),
)

DOVECOT = Preset(
    name="dovecot",
    texts=(
        # lmtp_user_concurrency_limit.
        (451, "too many concurrent deliveries for user", SlotEnding.RECIPIENT),
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {each.name: each for each in (GENERIC, EXCHANGE, POSTFIX, DOVECOT)}
)
"""By their names in the configuration."""
