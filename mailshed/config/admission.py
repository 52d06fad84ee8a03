"""From the configuration to the terms of admission: the mode and the quotas, as plain values.

In the file a quota is recipients a minute, inside it is recipients a second. A quota of which
nothing is set is none, so that nobody's use of it is remembered.
"""

from ipaddress import ip_network
from math import inf

from mailshed.config import quotas, schema
from mailshed.config.policy import AdmissionPolicy, Quota, QuotaPolicy
from mailshed.mail.networks import NetworkSet

EVERYWHERE = NetworkSet((ip_network("0.0.0.0/0"), ip_network("::/0")))
"""While observing, mail data is normalised wherever it comes from."""


def admission_policy(config: schema.Config) -> AdmissionPolicy:
    """Make the terms of admission."""
    terms = config.quotas
    per_class = {each.traffic_class: _quota(each) for each in terms.per_class}
    return AdmissionPolicy(
        is_observing=config.is_observing,
        lowest_defer_fill=min(
            (each.defer_fill for each in config.classes if each.defer_fill is not None), default=inf
        ),
        quotas=QuotaPolicy(
            burst=terms.burst,
            per_sender=_quota(terms.per_sender),
            per_network=_quota(terms.per_network),
            per_class={name: quota for name, quota in per_class.items() if quota is not None},
            entries_max=terms.entries_max,
        ),
        normalize_networks=NetworkSet(config.normalize_networks),
    )


def _quota(section: quotas.Quota) -> Quota | None:
    if section.soft is None and section.hard is None:
        return None
    return Quota(
        soft=None if section.soft is None else section.soft / 60,
        hard=None if section.hard is None else section.hard / 60,
    )
