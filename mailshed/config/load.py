"""From the file to a `Config`, or to one error that lists everything wrong with it.

Three stages each add their faults: the reader of YAML (`marks.py`), the schema (`schema.py`, with
pydantic's findings put into words by `messages.py`) and the relations across sections
(`semantics.py`). Only a file that is no YAML at all ends early. Reading this file, and the list of
recipients that it may name, is the only I/O; whether ports, folders and hosts are really there is
found out when the service starts.

The second half turns a `Config` into the plain values that core modules take, so that nothing
below this package knows YAML or pydantic.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import ValidationError

from mailshed.config.faults import Fault, render
from mailshed.config.fields import parse_network
from mailshed.config.marks import Document, read
from mailshed.config.messages import translate
from mailshed.config.policy import (
    ClassificationPolicy,
    RelayPolicy,
    Rule,
    SessionLimits,
    VerificationPolicy,
)
from mailshed.config.recipients import read_recipients
from mailshed.config.schema import Config, RuleSection, TrafficClassSection
from mailshed.config.semantics import draft, findings
from mailshed.errors import ConfigError
from mailshed.mail.domains import DomainSet
from mailshed.terms import TrafficClass

BULK = "bulk"
"""Name of the class that the shipped rules are for."""

# RFC 2369 and RFC 2919 fields are set by mailing lists and newsletters; Precedence is older, and
# of its values these three mean mail that can wait (Postfix and Sendmail treat them alike).
_SHIPPED_BULK_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("list-id", ()),
    ("list-unsubscribe", ()),
    ("list-post", ()),
    ("list-help", ()),
    ("precedence", ("bulk", "list", "junk")),
)


def load(path: Path) -> Config:
    """Read and check the file at `path`; raises ConfigError whose text lists every fault."""
    document = read(path)
    config, faults = _check(document)
    if config is None or faults:
        raise ConfigError(render(path, document.lines, faults))
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


def classification_policy(config: Config) -> ClassificationPolicy:
    """Make the rules of classification: the site's, then the shipped ones for bulk mail.

    A site without a class named `bulk` has no shipped rules.
    """
    classes = tuple(_traffic_class(section) for section in config.classes)
    by_name = {item.name: item for item in classes}
    networks = config.classification.networks
    site = tuple(_rule(section, by_name, networks) for section in config.classification.rules)
    return ClassificationPolicy(
        classes=classes,
        rules=site + shipped_rules(by_name.get(BULK)),
        default=by_name[config.classification.default],
    )


def shipped_rules(bulk: TrafficClass | None) -> tuple[Rule, ...]:
    """Rules that know mailing lists and newsletters by their header; none without a class."""
    if bulk is None:
        return ()
    return tuple(
        Rule(name=f"shipped-{name}", traffic_class=bulk, headers=((name, values),))
        for name, values in _SHIPPED_BULK_HEADERS
    )


def relay_policy(config: Config) -> RelayPolicy:
    """Make the rules of who may send where."""
    return RelayPolicy(domains=DomainSet(config.domains), trusted_networks=config.trusted_networks)


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


def session_limits(config: Config) -> SessionLimits:
    """Make the bounds of SMTP sessions."""
    limits = config.limits
    return SessionLimits(
        sessions_max=limits.sessions_max,
        message_size_max=limits.message_size_max,
        recipients_max=limits.recipients_max,
        errors_max=limits.errors_max,
        command_timeout=limits.command_timeout,
        data_timeout=limits.data_timeout,
        data_rate_min=limits.data_rate_min,
        normalize_networks=config.normalize_networks,
    )


def _traffic_class(section: TrafficClassSection) -> TrafficClass:
    user_agent = section.wait_max_user_agent
    return TrafficClass(
        name=section.name,
        rank=section.rank,
        threshold=section.threshold,
        wait_max_mta=section.wait_max,
        wait_max_user_agent=section.wait_max if user_agent is None else user_agent,
        objective=section.objective,
        report_after=section.report_after,
    )


def _rule(
    section: RuleSection,
    classes: dict[str, TrafficClass],
    networks: dict[str, tuple[IPv4Network | IPv6Network, ...]],
) -> Rule:
    clients: list[IPv4Network | IPv6Network] = []
    for text in section.client_networks:
        clients += networks[text] if text in networks else (parse_network(text),)
    return Rule(
        name=section.name,
        traffic_class=classes[section.traffic_class],
        client_networks=tuple(clients),
        sender_domains=section.sender_domains,
        recipient_domains=section.recipient_domains,
        headers=tuple(
            (name.lower(), tuple(value.lower() for value in values or ()))
            for name, values in section.headers.items()
        ),
    )
