"""From one configuration to the policies that a reload replaces, and what a reload may not.

A reload may not change what is bound, opened or sized at the start, and it may not take away a
class of which the spool holds mail: that mail would lose its place and its promise. Mail of a class
that is gone all the same (a restart does not ask) counts as the default class.
"""

import hashlib
from collections import Counter

from mailshed.admission.routing import Routes
from mailshed.classification.classifier import Classifier
from mailshed.config.admission import admission_policy
from mailshed.config.back import Backend
from mailshed.config.load import classification_policy, relay_policy
from mailshed.config.render import render
from mailshed.config.routes import default_of
from mailshed.config.schema import Config
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.fallback import FallbackRule, Fallbacks
from mailshed.control.limit import FixedLimit, Limit
from mailshed.drain.matter import ReportPolicy
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.retry import RetryPolicy
from mailshed.livepolicies import LivePolicies
from mailshed.relay.presets import PRESETS
from mailshed.spool.store import SpoolTotals

# What is bound, opened or sized when the service starts, by its key in the file.
_NEED_RESTART = ("hostname", "listeners", "backends", "spool", "metrics", "admin", "log")
_NEED_RESTART_LIMITS = (
    "content_memory_max",
    "content_memory_per_message",
    "content_disk_max",
)
# Parts of the spool's section that are policy and not the spool itself.
_SPOOL_POLICY = {"lifetime", "retry_min", "retry_max", "reports_per_minute"}


def live_policies(config: Config) -> LivePolicies:
    """What the path of a message reads."""
    classification = classification_policy(config)
    return LivePolicies(
        hostname=config.hostname,
        classifier=Classifier(classification),
        clinical_networks=classification.clinical_networks,
        relay=relay_policy(config),
        lifetime=config.spool.lifetime,
        retry_pause=config.spool.retry_min,
        respond_by=config.limits.respond_by,
        respond_by_user_agent=config.limits.respond_by_user_agent,
        reads_priority_header=config.classification.mt_priority_header,
        admission=admission_policy(config),
    )


def drain_policy(config: Config) -> DrainPolicy:
    """What the drain reads."""
    return DrainPolicy(
        classification=classification_policy(config),
        retry=RetryPolicy(delay_min=config.spool.retry_min, delay_max=config.spool.retry_max),
        reports=ReportPolicy(
            hostname=config.hostname,
            postmaster=config.postmaster or f"postmaster@{config.hostname}",
            lifetime=config.spool.lifetime,
            per_minute=config.spool.reports_per_minute,
        ),
    )


def routes_for(config: Config) -> Routes:
    """Which backend takes mail for which domain."""
    backends = config.backends
    default = default_of(dict(enumerate(backends)))
    assert default is not None, "the schema's checks ask for one"
    return Routes(backends[default].name, {each.name: each.domains for each in backends})


def helpers_of(config: Config) -> frozenset[str]:
    """The backends that have no mail of their own, and only take that of others."""
    default = routes_for(config).default
    return frozenset(
        each.name for each in config.backends if not each.domains and each.name != default
    )


def fallbacks_for(config: Config) -> Fallbacks:
    """Who takes the mail of which backend when that is away for long."""
    return Fallbacks(
        {
            each.name: FallbackRule(fallback=each.fallback, after=each.fallback_after)
            for each in config.backends
            if each.fallback is not None
        }
    )


def limit_for(section: Backend) -> Limit:
    """How many messages this backend may have in flight: a new limit, which knows nothing yet."""
    most = section.in_flight_max
    if section.limit == "fixed":
        return FixedLimit(most)
    return AdaptiveLimit(
        highest=most,
        lowest=min(section.in_flight_min, most),
        start=min(section.in_flight_start, most),
        response_max=section.response_max,
        has_late_dot=PRESETS[section.preset].has_late_dot,
    )


def fingerprint(config: Config) -> str:
    """A short name for exactly this configuration, for logs and metrics."""
    text = render(config, with_defaults=True) + config.sources.digest
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def needs_restart(old: Config, new: Config) -> list[str]:
    """Keys that differ and cannot be changed while the service runs."""
    keys = []
    for key in _NEED_RESTART:
        before, after = getattr(old, key), getattr(new, key)
        if key == "spool":
            before = before.model_dump(exclude=_SPOOL_POLICY)
            after = after.model_dump(exclude=_SPOOL_POLICY)
        if before != after:
            keys.append(key)
    if old.authentication.at_start != new.authentication.at_start:
        keys.append("authentication (but for failures, cache_ttl and senders)")
    keys += [
        f"limits.{key}"
        for key in _NEED_RESTART_LIMITS
        if getattr(old.limits, key) != getattr(new.limits, key)
    ]
    return keys


def removed_classes(old: Config, new: Config) -> list[str]:
    """Names of classes that the new configuration no longer has."""
    kept = {each.name for each in new.classes}
    return [each.name for each in old.classes if each.name not in kept]


def stranded(removed: list[str], totals: SpoolTotals) -> list[str]:
    """Which of the removed classes have mail in the spool, and how much, for people."""
    messages = Counter[str]()
    for each in totals.by_class:
        messages[each.traffic_class] += each.messages
    return [f"{name} ({messages[name]} messages)" for name in removed if messages[name]]
