"""Plain policy values made from the configuration: what core modules take instead of the schema.

Nothing here knows YAML or pydantic. Networks are already parsed, durations are seconds, sizes are
octets, class names have become `TrafficClass` objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from math import inf
from pathlib import Path
from ssl import TLSVersion

from mailshed.authentication.sasl import Mechanism
from mailshed.mail.domains import DomainSet
from mailshed.mail.networks import NetworkSet
from mailshed.mail.recipient_list import RecipientList
from mailshed.terms import ClientKind, TrafficClass

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRate:
    """More than so many recipients, in so many messages at least, within so many seconds."""

    recipients: int
    messages: int
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One classification rule: all given conditions must hold; an empty or None one is not given.

    Lists that may come from a file are None if not given: an empty file matches nothing, and a rule
    that asks for it must not match everything. For networks, their names tell the difference.

    Names, domains and addresses are in lower case. `senders`, `recipients` and `users` have the
    entries of `classification.names`; domains match exactly, or with all subdomains if they start
    with a dot. `headers` maps a lower-case field name, or the beginning of one that ends in `*`, to
    the values that match: with a wildcard the whole value, else its first word; no values match any
    value.
    """

    name: str
    traffic_class: TrafficClass
    origin: str = ""
    """Where the rule is written, for people: `mailshed.yaml:44`."""
    client_networks: tuple[Network, ...] = ()
    client_network_names: tuple[str, ...] = ()
    """What the rule calls its networks, for people."""
    not_client_networks: tuple[Network, ...] = ()
    not_client_network_names: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    trusted: bool | None = None
    users: tuple[str, ...] | None = None
    priority_min: int | None = None
    priority_max: int | None = None
    senders: tuple[str, ...] | None = None
    sender_domains: tuple[str, ...] = ()
    null_sender: bool | None = None
    recipients: tuple[str, ...] | None = None
    recipient_domains: tuple[str, ...] = ()
    recipients_min: int | None = None
    recipients_max: int | None = None
    size_min: int | None = None
    size_max: int | None = None
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sender_rate: SenderRate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationPolicy:
    """Ordered rules, first match wins; `default` is for mail that no rule names."""

    classes: tuple[TrafficClass, ...]
    rules: tuple[Rule, ...]
    default: TrafficClass

    @property
    def clinical_networks(self) -> NetworkSet:
        """Networks whose mail a rule makes clinical (rank 0), whatever else the rule asks for."""
        return NetworkSet(
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

    def of_spooled(self, name: str, rank: int) -> TrafficClass:
        """The class of a message that was spooled as `name` with `rank`.

        A class that the configuration has lost does not make clinical mail (rank 0) ordinary.
        """
        found = self.by_name(name)
        if rank > 0 or found.name == name:
            return found
        return next((each for each in self.classes if each.rank == 0), found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPolicy:
    """Who may send where (never an open relay)."""

    domains: DomainSet
    """Domains we accept mail for from anyone."""
    trusted_networks: NetworkSet
    trusted_proxies: NetworkSet = field(default_factory=NetworkSet)
    """Peers that may tell whose connection they pass on, where the listener asks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Recipients a second that one sender, network or class may send to; None: any number."""

    soft: float | None = None
    """More than that gives way to others of its class."""
    hard: float | None = None
    """More than that is not relayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaPolicy:
    """Who may send how much while the backend is under pressure; None: there is no such quota."""

    burst: float = 600.0
    """Seconds' worth of a quota that may come at once."""
    per_sender: Quota | None = None
    per_network: Quota | None = None
    per_class: Mapping[str, Quota] = field(default_factory=dict)
    """By the name of the class."""
    entries_max: int = 200_000
    """Senders, networks and classes that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """Who may enter when, beside what the classes say."""

    is_observing: bool = False
    """Decide and count, and act on nothing."""
    lowest_defer_fill: float = inf
    """How full the spool may be before any class is deferred for it."""
    quotas: QuotaPolicy = QuotaPolicy()
    normalize_networks: NetworkSet = field(default_factory=NetworkSet)
    """Clients whose bare CR, LF and NUL are normalised also when enforcing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurgePolicy:
    """What is watched for surges, and what follows from one."""

    is_enabled: bool = True
    time_zone: str = ""
    """A name of the tz database; empty: the system's."""
    holidays: frozenset[str] = frozenset()
    """Days that count as Sundays: `2026-04-06`, or `12-25` for every year."""
    quota: float | None = None
    """Times the expected messages that a class may have under pressure; None: any number."""
    classes: tuple[TrafficClass, ...] = ()
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    """Those with a name, in the order of the file."""


class TlsMode(Enum):
    """How the clients of a listener come to TLS."""

    NONE = "none"  # not at all
    STARTTLS = "starttls"  # they ask for it (RFC 3207)
    IMPLICIT = "implicit"  # it comes before the greeting (RFC 8314, 3.3)


class AuthMode(Enum):
    """Whether the clients of a listener may, or have to, say who they are."""

    NONE = "none"
    OFFERED = "offered"
    REQUIRED = "required"  # before MAIL


class SenderRule(Enum):
    """Which reverse-paths a user that has authenticated may send with."""

    ANY = "any"
    OWN = "own"  # the login, or the login at one of our domains
    FILE = "file"  # those that a file lists for the login


class ProxyMode(Enum):
    """How a trusted proxy in front tells whose connection it passes on."""

    NONE = "none"
    PROXY_PROTOCOL = "proxy_protocol"  # a header before everything else, version 1 or 2
    XCLIENT = "xclient"  # Postfix's command


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPolicy:
    """The server's side of TLS: what it shows its clients, and how many handshakes it does."""

    certificate: Path
    key: Path
    minimum: TLSVersion = TLSVersion.TLSv1_2
    handshakes_max: int = 64
    """At the same time."""
    handshakes_per_network: int = 16
    """Of them, of one /24, or /64 of IPv6, that is not clinical."""
    handshake_timeout: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPolicy:
    """What one listener offers its clients, and what it asks of them."""

    name: str
    clients: ClientKind = ClientKind.MTA
    tls: TlsMode = TlsMode.NONE
    is_tls_required: bool = False
    """Before MAIL and AUTH; always so with implicit TLS."""
    auth: AuthMode = AuthMode.NONE
    mechanisms: tuple[Mechanism, ...] = (Mechanism.PLAIN, Mechanism.LOGIN)
    """How clients may say who they are, in the order in which they are offered."""
    proxy: ProxyMode = ProxyMode.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds of one SMTP session and of all sessions of the process."""

    sessions_max: int
    sessions_per_address: int
    """Of a stranger."""
    sessions_per_trusted_address: int
    sessions_per_network: int
    """Of strangers of one /24, or /64 of IPv6."""
    connection_rate_max: int
    """Connections a minute of a stranger's address; 0: any number."""
    message_size_max: int
    recipients_max: int
    errors_max: int
    """Replies 4xx/5xx to commands after which the session is closed with 421."""
    auth_failures_max: int = 3
    """Wrong passwords after which the session is closed with 421."""
    command_timeout: float
    """Seconds a client may take to send its next command."""
    line_timeout: float
    """Seconds from the first octet of a command line to its end."""
    reply_timeout: float
    """Seconds that replies may wait for the client to read them."""
    session_idle_max: float
    """Seconds that a session may last without any mail."""
    proxy_timeout: float
    """Seconds that a proxy may take for its PROXY header."""
    stress_timeout: float
    """What takes the place of the timeouts, for strangers under stress."""
    stress_errors_max: int
    data_timeout: float
    """Seconds without any progress in mail data."""
    data_rate_min: int
    """Octets per second that mail data must reach after the first `data_rate_grace` seconds."""
    data_rate_grace: float
    line_octets_max: int
    """Longest line of mail data that is relayed; 0: any."""
    normalize_networks: NetworkSet
    """Clients whose bare CR, LF and NUL are normalised instead of refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationPolicy:
    """How wrong passwords are answered, and what a user may do with a right one."""

    failures_per_address: int = 30
    """Different wrong passwords within the window, after which an address has to wait."""
    failures_per_login: int = 10
    failures_window: float = 600.0
    cache_ttl: float = 0.0
    """Seconds for which a right password counts while nobody can be asked; 0: not at all."""
    entries_max: int = 10_000
    """Addresses, logins and right passwords that are remembered."""
    senders: SenderRule = SenderRule.ANY
    domains: DomainSet = field(default_factory=lambda: DomainSet(()))
    """Ours: with `SenderRule.OWN`, a login without a domain is a mailbox in each of them."""
    sender_entries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """With `SenderRule.FILE`: logins in lower case, each with entries of `classification.names`."""


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
    clinical_networks: NetworkSet
    """Clients that are treated as trusted ones are."""
