"""From the configuration to the rules of classification: plain values, in the order of their trial.

The site's rules come first, those of the policy after them. A shipped rule names a shipped class; a
site that has renamed or removed classes does without the rules of those it has not. Only clinical
mail is too important for that: a shipped rule for it names the site's first class of rank 0.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from mailshed.config.classification import RuleSection
from mailshed.config.fields import FileReference, parse_network
from mailshed.config.gather import DEFAULT, NONE
from mailshed.config.policy import ClassificationPolicy, Network, Rule, SenderRate
from mailshed.config.references import CLINICAL_NETWORKS
from mailshed.config.schema import Config, TrafficClassSection
from mailshed.config.shipped import shipped_policy
from mailshed.config.sources import ListKind, Sources
from mailshed.terms import TrafficClass

CLINICAL = "clinical"
"""Name of the shipped class of rank 0."""


def classification_policy(config: Config) -> ClassificationPolicy:
    """Make the rules of classification, with all lists filled in."""
    classes = tuple(_traffic_class(section) for section in config.classes)
    by_name = {item.name: item for item in classes}
    sources = config.sources
    networks = named_networks(config)
    sections = list(_sections(config, by_name))
    networks[CLINICAL_NETWORKS] = tuple(
        network
        for section, traffic_class, _ in sections
        if traffic_class.rank == 0
        for network in _networks(section.client_networks, networks)
    )
    return ClassificationPolicy(
        classes=classes,
        rules=tuple(
            _rule(section, traffic_class, origin, networks, sources)
            for section, traffic_class, origin in sections
        ),
        default=by_name[config.classification.default],
    )


def named_networks(config: Config) -> dict[str, tuple[Network, ...]]:
    """The networks that the site has given names, with all lists filled in."""
    return {
        name: tuple(_entries(items, "networks", config.sources))
        for name, items in config.classification.networks.items()
    }


def _sections(
    config: Config, classes: Mapping[str, TrafficClass]
) -> Iterator[tuple[RuleSection, TrafficClass, str]]:
    """The rules in order, each with its class and where it is written."""
    site, sources = config.classification, config.sources
    origins = sources.origins or ("",) * len(site.rules)
    for section, origin in zip(site.rules, origins, strict=True):
        yield section, classes[section.traffic_class], origin
    if site.policy == NONE:
        return
    if site.policy != DEFAULT:
        assert sources.policy is not None, "load() reads the policy file"
        for section, origin in zip(sources.policy, sources.policy_origins, strict=True):
            yield section, classes[section.traffic_class], origin
        return
    for section, origin in zip(*shipped_policy(), strict=True):
        traffic_class = _shipped_class(section.traffic_class, classes)
        if traffic_class is not None:
            yield section, traffic_class, origin


def _shipped_class(name: str, classes: Mapping[str, TrafficClass]) -> TrafficClass | None:
    if name == CLINICAL and name not in classes:
        return next((item for item in classes.values() if item.rank == 0), None)
    return classes.get(name)


def _rule(
    section: RuleSection,
    traffic_class: TrafficClass,
    origin: str,
    networks: Mapping[str, tuple[Network, ...]],
    sources: Sources,
) -> Rule:
    rate = section.sender_rate
    return Rule(
        name=section.name,
        traffic_class=traffic_class,
        origin=origin,
        client_networks=_networks(section.client_networks, networks),
        client_network_names=section.client_networks,
        not_client_networks=_networks(section.not_client_networks, networks),
        not_client_network_names=section.not_client_networks,
        listeners=section.listeners,
        trusted=section.trusted,
        users=_list(section.users, "users", sources),
        priority_min=section.priority_min,
        priority_max=section.priority_max,
        senders=_list(section.senders, "addresses", sources),
        sender_domains=section.sender_domains,
        null_sender=section.null_sender,
        recipients=_list(section.recipients, "addresses", sources),
        recipient_domains=section.recipient_domains,
        recipients_min=section.recipients_min,
        recipients_max=section.recipients_max,
        size_min=section.size_min,
        size_max=section.size_max,
        headers=tuple(
            (name.lower(), tuple(value.lower() for value in values or ()))
            for name, values in section.headers.items()
        ),
        sender_rate=None
        if rate is None
        else SenderRate(recipients=rate.recipients, messages=rate.messages, within=rate.within),
    )


def _networks(
    names: Iterable[str], networks: Mapping[str, tuple[Network, ...]]
) -> tuple[Network, ...]:
    found: list[IPv4Network | IPv6Network] = []
    for text in names:
        found += networks[text] if text in networks else (parse_network(text),)
    return tuple(found)


def _list(items: tuple[Any, ...], kind: ListKind, sources: Sources) -> tuple[str, ...] | None:
    """The entries that a rule asks for; none at all, of an empty file, is not the same as None."""
    return tuple(_entries(items, kind, sources)) if items else None


def _entries(items: Iterable[Any], kind: ListKind, sources: Sources) -> Iterator[Any]:
    """The items of a list, the lines of a file in the place of its name."""
    for item in items:
        if isinstance(item, FileReference):
            yield from sources.lists[kind, item.path]
        else:
            yield item


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
        guarantee=section.guarantee,
        weight=section.weight,
        defer_fill=section.defer_fill,
        defers_over_quota=section.over_quota == "defer",
        wait_target=section.wait_target,
        waits_at_level=section.waits_at_level,
    )
