"""From the configuration to what is watched for surges."""

from mailshed.config.classes import classification_policy, named_networks
from mailshed.config.policy import SurgePolicy
from mailshed.config.schema import Config


def surge_policy(config: Config) -> SurgePolicy:
    """Make the terms of the surge watch."""
    section = config.surge
    return SurgePolicy(
        is_enabled=section.enabled,
        time_zone=section.time_zone,
        holidays=frozenset(section.holidays),
        quota=section.quota,
        classes=classification_policy(config).classes,
        networks=named_networks(config),
    )
