"""Evidence of who connects: the client's address in named networks."""

from collections.abc import Iterator

from mailshed.classification.subject import Condition, Known, Subject
from mailshed.config.policy import Network, Rule
from mailshed.mail.networks import NetworkSet

SHOWN_MAX = 3
"""How many networks of a list are shown to people."""


def conditions(rule: Rule) -> Iterator[Condition]:
    """In any of the networks that the rule names; in none of those that it excludes."""
    if rule.client_networks or rule.client_network_names:
        yield _condition(rule.client_networks, rule.client_network_names, is_wanted=True)
    if rule.not_client_networks or rule.not_client_network_names:
        yield _condition(rule.not_client_networks, rule.not_client_network_names, is_wanted=False)


def _condition(
    networks: tuple[Network, ...], names: tuple[str, ...], *, is_wanted: bool
) -> Condition:
    holds = NetworkSet(networks).holds
    text = _text(networks, names)

    def is_in_networks(subject: Subject) -> bool:
        client = subject.client
        return holds(client.address.version, client.address_number)

    def is_elsewhere(subject: Subject) -> bool:
        client = subject.client
        return not holds(client.address.version, client.address_number)

    def why(subject: Subject) -> str:
        verb = "is" if is_in_networks(subject) else "is not"
        return f"client {subject.client.address_text} {verb} in {text}"

    return Condition(
        holds=is_in_networks if is_wanted else is_elsewhere, why=why, known_at=Known.CLIENT
    )


def _text(networks: tuple[Network, ...], names: tuple[str, ...]) -> str:
    """`laboratory (10.20.8.0/24)`, or the networks alone where the rule has no names."""
    shown = [str(network) for network in networks[:SHOWN_MAX]]
    if len(networks) > SHOWN_MAX:
        shown.append(f"{len(networks) - SHOWN_MAX} more")
    listed = ", ".join(shown) or "empty"
    named = [name for name in names if name not in shown]
    return f"{', '.join(named)} ({listed})" if named else listed
