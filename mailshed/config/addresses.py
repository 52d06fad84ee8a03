"""Faults of addresses: two that cannot both be bound, and a backend that is ourselves."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from mailshed.config.draft import Draft, Finding
from mailshed.config.faults import KeyPath
from mailshed.config.fields import Endpoint


def backend_is_another(content: Draft) -> Iterator[Finding]:
    """A backend that is one of our own listeners would be a loop."""
    for index, backend in content.backends.items():
        if backend.host is None:
            continue
        for listener in content.listeners.values():
            if is_loop(backend.host, backend.port, listener.bind):
                message = (
                    f"{backend.host} port {backend.port} is our own listener {listener.name}"
                    f" ({listener.bind}), so mail would go in a loop"
                )
                yield ("backends", index, "host"), message
                break


def is_loop(host: str, port: int, bind: Endpoint) -> bool:
    """Whether a backend at `host` and `port` is what listens on `bind`, as far as names tell."""
    if port != bind.port:
        return False
    listening = bind.address
    for text in ("127.0.0.1", "::1") if host.lower() == "localhost" else (host,):
        try:
            target = ip_address(text)
        except ValueError:
            return False  # a name, and nothing is resolved here
        if target.is_unspecified:  # the kernel takes it for loopback
            target = ip_address("127.0.0.1" if target.version == 4 else "::1")
        takes_all = listening.is_unspecified and listening.version in {6, target.version}
        if target == listening or (takes_all and target.is_loopback):
            return True
    return False


def addresses_are_free(content: Draft) -> Iterator[Finding]:
    """No two sockets may have the same address; the kernel would refuse the second."""
    binds: list[tuple[KeyPath, Endpoint]] = [
        (("listeners", index, "bind"), listener.bind)
        for index, listener in content.listeners.items()
    ]
    if content.metrics is not None:
        binds.append((("metrics", "bind"), content.metrics.bind))
    for position, (path, bind) in enumerate(binds):
        for other_path, other in binds[:position]:
            if _collide(bind, other):
                owner = f"{other_path[0]}[{other_path[1]}]" if other_path[2:] else other_path[0]
                yield path, f"{bind} is already taken by {owner} ({other})"
                break


def _collide(one: Endpoint, other: Endpoint) -> bool:
    """Whether the kernel refuses to bind both; port 0 takes any free port."""
    if one.port != other.port or one.port == 0:
        return False
    addresses: set[IPv4Address | IPv6Address] = {one.address, other.address}
    if one.address.version != other.address.version:
        return False
    return len(addresses) == 1 or any(address.is_unspecified for address in addresses)
