"""From the file to a `Config`, or to one error that lists everything wrong with it.

Three stages each add their faults: the reader of YAML (`marks.py`), the schema (`schema.py`, with
pydantic's findings put into words by `messages.py`) and the relations across sections
(`semantics.py`). Only a file that is no YAML at all ends early. Then the files that it names, lists
and a policy, are read and checked too (`gather.py`). Reading is the only I/O; whether ports,
folders and hosts are really there is found out when the service starts.

The second half, with `classes.py` for classification, turns a `Config` into the plain values that
core modules take, so that nothing below this package knows YAML or pydantic.
"""

from pathlib import Path

from pydantic import ValidationError

from mailshed.config.admission import EVERYWHERE
from mailshed.config.authentication import Authentication, policy_of
from mailshed.config.classes import classification_policy
from mailshed.config.draft import draft
from mailshed.config.faults import Fault, Report, render_all
from mailshed.config.front import Listener
from mailshed.config.gather import gather
from mailshed.config.marks import Document, read
from mailshed.config.messages import translate
from mailshed.config.policy import (
    AuthenticationPolicy,
    AuthMode,
    ListenerPolicy,
    ProxyMode,
    RelayPolicy,
    SessionLimits,
    TlsMode,
    VerificationPolicy,
)
from mailshed.config.recipients import read_recipients
from mailshed.config.schema import Config
from mailshed.config.semantics import findings
from mailshed.errors import ConfigError
from mailshed.mail.domains import DomainSet
from mailshed.mail.networks import NetworkSet
from mailshed.terms import ClientKind

__all__ = [
    "authentication_policy",
    "classification_policy",
    "listener_policy",
    "load",
    "relay_policy",
    "session_limits",
    "verification_policy",
]

# The minimum data rate counts from so many seconds on; before it, slow start and short messages are
# excused.
DATA_RATE_GRACE = 60.0


def load(path: Path, *, has_secrets: bool = True) -> Config:
    """Read and check the file at `path`; raises ConfigError whose text lists every fault.

    Who only looks at it need not be able to read keys and logins: they are left alone without
    `has_secrets`.
    """
    document = read(path)
    config, faults = _check(document)
    reports: list[Report] = []
    if config is not None:
        sources, more, reports = gather(config, document, path, has_secrets=has_secrets)
        faults += more
        config._sources = sources  # noqa: SLF001 - the one place that fills it
    if config is None or faults or reports:
        raise ConfigError(
            render_all([Report(file=path, lines=document.lines, faults=faults), *reports])
        )
    return config


def _check(document: Document) -> tuple[Config | None, list[Fault]]:
    faults = list(document.faults)
    if not isinstance(document.value, dict):
        if not faults:
            message = "expected a mapping with keys such as version and listeners"
            faults.append(Fault(span=document.span(()), message=message))
        return None, faults
    config: Config | None = None
    try:
        config = Config.model_validate(document.value)
    except ValidationError as error:
        faults += translate(error, document)
    known = {fault.path for fault in faults} | document.doubtful
    for key, message in findings(draft(document.value)):
        if key not in known:
            faults.append(Fault(span=document.span(key), path=key, message=message))
    if config is not None and config.verification.recipients_file is not None:
        key = ("verification", "recipients_file")
        _, unfit = read_recipients(config.verification.recipients_file)
        faults += [Fault(span=document.span(key), path=key, message=each) for each in unfit]
    return config, faults


def relay_policy(config: Config) -> RelayPolicy:
    """Make the rules of who may send where."""
    return RelayPolicy(
        domains=DomainSet(config.domains),
        trusted_networks=NetworkSet(config.trusted_networks),
        trusted_proxies=NetworkSet(config.trusted_proxies),
    )


def verification_policy(config: Config) -> VerificationPolicy:
    """Make the rules of verifying recipients; reads the list of them once more.

    Raises ConfigError if that has become faulty since the configuration was loaded.
    """
    section = config.verification
    recipients = None
    if section.recipients_file is not None:
        recipients, faults = read_recipients(section.recipients_file)
        if faults:
            raise ConfigError("verification.recipients_file: " + "; ".join(faults))
    return VerificationPolicy(
        domains=DomainSet(config.domains),
        is_calling=section.mode == "call_ahead",
        recipients=recipients,
        sender=section.sender.encode(),
        wait_trusted=section.wait_trusted,
        wait_stranger=section.wait_stranger,
        positive_ttl=section.positive_ttl,
        negative_ttl=section.negative_ttl,
        entries_max=section.entries_max,
        unknown_max=section.unknown_max,
        unknown_window=section.unknown_window,
        clinical_networks=classification_policy(config).clinical_networks,
    )


def authentication_policy(config: Config) -> AuthenticationPolicy:
    """Make what follows from right and wrong passwords."""
    return policy_of(config.authentication, config.domains, config.sources)


def listener_policy(section: Listener, authentication: Authentication) -> ListenerPolicy:
    """Make what one listener offers and asks for."""
    return ListenerPolicy(
        name=section.name,
        clients=ClientKind(section.clients),
        tls=TlsMode(section.tls),
        is_tls_required=section.tls_required,
        auth=AuthMode(section.auth),
        mechanisms=authentication.sasl_mechanisms,
        proxy=ProxyMode(section.proxy),
    )


def session_limits(config: Config) -> SessionLimits:
    """Make the bounds of SMTP sessions."""
    limits = config.limits
    return SessionLimits(
        sessions_max=limits.sessions_max,
        sessions_per_address=limits.sessions_per_address,
        sessions_per_trusted_address=limits.sessions_per_trusted_address,
        sessions_per_network=limits.sessions_per_network,
        connection_rate_max=limits.connection_rate_max,
        message_size_max=limits.message_size_max,
        recipients_max=limits.recipients_max,
        errors_max=limits.errors_max,
        auth_failures_max=config.authentication.failures_max,
        command_timeout=limits.command_timeout,
        line_timeout=limits.line_timeout,
        reply_timeout=limits.reply_timeout,
        session_idle_max=limits.session_idle_max,
        proxy_timeout=limits.proxy_timeout,
        stress_timeout=limits.stress_timeout,
        stress_errors_max=limits.stress_errors_max,
        data_timeout=limits.data_timeout,
        data_rate_min=limits.data_rate_min,
        data_rate_grace=DATA_RATE_GRACE,
        line_octets_max=0 if config.is_observing else limits.line_octets_max,
        normalize_networks=EVERYWHERE
        if config.is_observing
        else NetworkSet(config.normalize_networks),
    )
