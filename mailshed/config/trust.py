"""Faults that would make strangers trusted: an open relay, and proxies that may be anybody."""

from collections.abc import Iterator
from ipaddress import IPv6Network

from mailshed.config.draft import Draft, Finding
from mailshed.config.fields import parse_network
from mailshed.config.policy import Network

# Shorter prefixes hold networks of strangers: the widest private ones are 10.0.0.0/8, and a site's
# own IPv6 network is a /32 at most (a provider's), but for the ranges that are never routed.
_IPV4_PREFIX_MIN = 8
_IPV6_PREFIX_MIN = 32
_IPV6_UNROUTED = (IPv6Network("fc00::/7"), IPv6Network("fe80::/10"))
_IPV6_MAPPED = IPv6Network("::ffff:0:0/96")


def relay_is_closed(content: Draft) -> Iterator[Finding]:
    """Beyond loopback there are strangers, and they need to be told what we accept mail for."""
    if not content.raw.get("domains"):
        for index, listener in content.listeners.items():
            if not listener.bind.address.is_loopback:
                message = (
                    "listens beyond loopback while domains is empty;"
                    " list the domains that anyone may send to"
                )
                yield ("listeners", index, "bind"), message
    networks = content.raw.get("trusted_networks")
    for index, text in enumerate(networks if isinstance(networks, list) else ()):
        try:
            network = parse_network(text)
        except ValueError:
            continue
        if network.prefixlen == 0:
            message = "trusts every client, which would be an open relay"
            yield ("trusted_networks", index), message
        elif _holds_strangers(network):
            message = (
                "trusts strangers too, which would make this an open relay; list your own networks"
                f" (IPv4 from /{_IPV4_PREFIX_MIN}, IPv6 from /{_IPV6_PREFIX_MIN})"
            )
            yield ("trusted_networks", index), message


def proxies_are_known(content: Draft) -> Iterator[Finding]:
    """Whoever may say whose connection it is may be anybody, so it must be somebody we know."""
    networks = content.raw.get("trusted_proxies")
    if not networks:
        for index, listener in content.listeners.items():
            if listener.proxy != "none":
                message = "needs trusted_proxies: list the addresses of the proxies in front"
                yield ("listeners", index, "proxy"), message
    for index, text in enumerate(networks if isinstance(networks, list) else ()):
        try:
            network = parse_network(text)
        except ValueError:
            continue
        if _holds_strangers(network):
            message = "lets strangers claim any address; list the proxies' own addresses"
            yield ("trusted_proxies", index), message


def _holds_strangers(network: Network) -> bool:
    """Whether a network is too wide to be one site's."""
    if network.version == 4:
        return network.prefixlen < _IPV4_PREFIX_MIN
    if network.subnet_of(_IPV6_MAPPED):
        return network.prefixlen < _IPV6_MAPPED.prefixlen + _IPV4_PREFIX_MIN
    is_unrouted = any(network.subnet_of(wide) for wide in _IPV6_UNROUTED)
    return network.prefixlen < _IPV6_PREFIX_MIN and not is_unrouted
