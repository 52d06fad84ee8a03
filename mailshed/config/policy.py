"""Plain policy values made from the configuration: what core modules take instead of the schema.

Nothing here knows YAML or pydantic. Networks are already parsed, durations are seconds, sizes are
octets, class names have become `TrafficClass` objects.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from mailshed.mail.domains import DomainSet
from mailshed.mail.recipient_list import RecipientList
from mailshed.terms import TrafficClass

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One classification rule: all given conditions must hold; an empty one is not given.

    Domains are lower case and match exactly, or with all subdomains if they start with a dot.
    `headers` maps a lower-case field name to the values that match (lower case, compared with the
    field's first word); an empty tuple matches any value.
    """

    name: str
    traffic_class: TrafficClass
    client_networks: tuple[Network, ...] = ()
    sender_domains: tuple[str, ...] = ()
    recipient_domains: tuple[str, ...] = ()
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationPolicy:
    """Ordered rules, first match wins; `default` is for mail that no rule names."""

    classes: tuple[TrafficClass, ...]
    rules: tuple[Rule, ...]
    default: TrafficClass

    @property
    def clinical_networks(self) -> tuple[Network, ...]:
        """Networks whose mail a rule makes clinical (rank 0), whatever else the rule asks for."""
        return tuple(
            network
            for rule in self.rules
            if rule.traffic_class.rank == 0
            for network in rule.client_networks
        )

    def by_name(self, name: str) -> TrafficClass:
        """The class with this name; the default class if the configuration has lost it."""
        for traffic_class in self.classes:
            if traffic_class.name == name:
                return traffic_class
        return self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPolicy:
    """Who may send where (never an open relay)."""

    domains: DomainSet
    """Domains we accept mail for from anyone."""
    trusted_networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds of one SMTP session and of all sessions of the process."""

    sessions_max: int
    message_size_max: int
    recipients_max: int
    errors_max: int
    """Replies 4xx/5xx to commands after which the session is closed with 421."""
    command_timeout: float
    """Seconds a client may take to send its next command."""
    data_timeout: float
    """Seconds without any progress in mail data."""
    data_rate_min: int
    """Octets per second that mail data must reach after the first `data_timeout` seconds."""
    normalize_networks: tuple[Network, ...]
    """Clients whose bare CR, LF and NUL are normalised instead of refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationPolicy:
    """Which recipients are verified at RCPT, how, and how long an answer counts; seconds."""

    domains: DomainSet
    """Ours: only their recipients are verified."""
    is_calling: bool
    """Whether the backend is asked."""
    recipients: RecipientList | None
    """All recipients there are, which nobody needs to be asked about; None: no such list."""
    sender: bytes
    """The reverse-path of our questions, without brackets."""
    wait_trusted: float
    """How long all recipients of one transaction of a trusted client may wait for answers."""
    wait_stranger: float
    """How long one recipient of a stranger may."""
    positive_ttl: float
    negative_ttl: float
    entries_max: int
    """Addresses that are remembered."""
    unknown_max: int
    """Unknown recipients that a stranger may name in a window before he is slowed down."""
    unknown_window: float
    clinical_networks: tuple[Network, ...]
    """Clients that are treated as trusted ones are."""
