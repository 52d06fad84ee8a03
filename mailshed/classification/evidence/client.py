"""Evidence of who connects: the client's address in named networks."""

from mailshed.classification.subject import Condition, Subject
from mailshed.config.policy import Rule


def compile_condition(rule: Rule) -> Condition | None:
    """Hold if the client's address is in any of the rule's networks."""
    networks = rule.client_networks
    if not networks:
        return None

    def is_in_networks(subject: Subject) -> bool:
        address = subject.envelope.client.address
        return any(address in network for network in networks)

    return is_in_networks
