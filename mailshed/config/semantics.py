"""Faults that no single key has: names used twice, names of nothing, settings that contradict.

The checks read a `Draft`, the parts of a file that are valid by themselves, so that they speak
even when other parts are not; a check keeps silent about what it cannot know. They do no I/O:
whether a port is free or a folder is writable is found out by the service when it starts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from math import inf
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mailshed.config.authentication import Authentication, authentication_findings
from mailshed.config.back import Backend
from mailshed.config.faults import KeyPath, did_you_mean
from mailshed.config.fields import Endpoint, parse_network
from mailshed.config.front import Listener
from mailshed.config.policy import Network
from mailshed.config.routes import findings_of_routes
from mailshed.config.schema import Classification, Config, TrafficClassSection
from mailshed.config.sections import Limits, Metrics, Spool
from mailshed.config.tls import Tls, tls_findings
from mailshed.config.units import format_duration

M = TypeVar("M", bound=BaseModel)
_NETWORK_MARK = frozenset(".:/")  # a name has none of these, a network has one at least
_WINDOWS_MAX = 4
CLINICAL_NETWORKS = "clinical-networks"
"""Name that stands, in `not_client_networks`, for the networks of all rules of rank 0."""
Finding = tuple[KeyPath, str]
"""A path and what is wrong there."""

# Shorter prefixes hold networks of strangers: the widest private ones are 10.0.0.0/8, and a site's
# own IPv6 network is a /32 at most (a provider's), but for the ranges that are never routed.
_IPV4_PREFIX_MIN = 8
_IPV6_PREFIX_MIN = 32
_IPV6_UNROUTED = (IPv6Network("fc00::/7"), IPv6Network("fe80::/10"))
_IPV6_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What can be known of a file: its raw content, and the sections that are valid."""

    raw: Mapping[str, object]
    listeners: dict[int, Listener]
    backends: dict[int, Backend]
    metrics: Metrics | None
    spool: Spool | None
    limits: Limits | None
    tls: Tls | None
    authentication: Authentication | None
    classes: dict[int, TrafficClassSection]
    class_names: frozenset[str] | None
    """None if not all names are known."""
    rules: tuple[Mapping[str, object], ...]
    """As they are in the file: a rule's references are checked even if it has other faults."""
    networks: frozenset[str]


def draft(raw: Mapping[str, object]) -> Draft:
    """Take what is valid from the plain content of a file."""
    classes = _items(raw, "classes", TrafficClassSection)
    names: frozenset[str] | None = frozenset(item.name for item in classes.values())
    if "classes" not in raw:
        shipped = Config.model_fields["classes"].get_default(call_default_factory=True)
        classes = dict(enumerate(shipped))
        names = frozenset(item.name for item in classes.values())
    elif len(classes) < _length(raw["classes"]) or not classes:
        names = _raw_names(raw["classes"])
    classification = raw.get("classification")
    inner = classification if isinstance(classification, dict) else {}
    networks, rules = inner.get("networks"), inner.get("rules")
    return Draft(
        raw=raw,
        listeners=_items(raw, "listeners", Listener),
        backends=_items(raw, "backends", Backend),
        metrics=_valid(Metrics, raw.get("metrics")),
        spool=_valid(Spool, raw.get("spool")),
        limits=_valid(Limits, raw.get("limits", {})),
        tls=_valid(Tls, raw.get("tls", {})),
        authentication=_valid(Authentication, raw.get("authentication", {})),
        classes=classes,
        class_names=names,
        rules=tuple(
            rule if isinstance(rule, dict) else {}
            for rule in (rules if isinstance(rules, list) else ())
        ),
        networks=frozenset(networks if isinstance(networks, dict) else ()),
    )


def findings(content: Draft) -> Iterator[Finding]:
    """All faults across keys, in no particular order."""
    for check in CHECKS:
        yield from check(content)


def _relay_is_closed(content: Draft) -> Iterator[Finding]:
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


def _holds_strangers(network: Network) -> bool:
    """Whether a network is too wide to be one site's."""
    if network.version == 4:
        return network.prefixlen < _IPV4_PREFIX_MIN
    if network.subnet_of(_IPV6_MAPPED):
        return network.prefixlen < _IPV6_MAPPED.prefixlen + _IPV4_PREFIX_MIN
    is_unrouted = any(network.subnet_of(wide) for wide in _IPV6_UNROUTED)
    return network.prefixlen < _IPV6_PREFIX_MIN and not is_unrouted


def _backend_is_another(content: Draft) -> Iterator[Finding]:
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


def _routes_are_clear(content: Draft) -> Iterator[Finding]:
    items = content.raw.get("backends")
    is_complete = len(content.backends) == _length(items)
    yield from findings_of_routes(content.backends, _raw_names(items), is_complete=is_complete)


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


def _names_are_unique(content: Draft) -> Iterator[Finding]:
    lists: tuple[tuple[KeyPath, object], ...] = (
        (("listeners",), content.raw.get("listeners")),
        (("backends",), content.raw.get("backends")),
        (("classes",), content.raw.get("classes")),
        (("classification", "rules"), _dig(content.raw, "classification", "rules")),
    )
    for path, items in lists:
        first: dict[str, int] = {}
        for index, item in enumerate(items if isinstance(items, list) else ()):
            name = item.get("name") if isinstance(item, dict) else None
            if isinstance(name, str) and first.setdefault(name, index) != index:
                message = f'"{name}" is also the name of {path[-1]}[{first[name]}]'
                yield (*path, index, "name"), message


def _addresses_are_free(content: Draft) -> Iterator[Finding]:
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


def _classes_exist(content: Draft) -> Iterator[Finding]:
    names = content.class_names
    if names is None:
        return
    for index, rule in enumerate(content.rules):
        name = rule.get("class")
        if isinstance(name, str) and name not in names:
            yield ("classification", "rules", index, "class"), _unknown("class", name, names)
    default = _dig(content.raw, "classification", "default")
    shipped: str = Classification.model_fields["default"].default
    if isinstance(default, str) and default not in names:
        yield ("classification", "default"), _unknown("class", default, names)
    elif default is None and shipped not in names:
        message = f'is "{shipped}" unless set, which is none of {", ".join(sorted(names))}'
        yield ("classification", "default"), message


def _networks_exist(content: Draft) -> Iterator[Finding]:
    if CLINICAL_NETWORKS in content.networks:
        path: KeyPath = ("classification", "networks", CLINICAL_NETWORKS)
        yield path, "is a name of our own, for the networks of all clinical rules"
    for index, rule in enumerate(content.rules):
        for key, known in (
            ("client_networks", content.networks),
            ("not_client_networks", content.networks | {CLINICAL_NETWORKS}),
        ):
            entries = rule.get(key)
            for position, text in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(text, str) and text not in known:
                    for message in _wrong_network(text, known):
                        yield ("classification", "rules", index, key, position), message


def _wrong_network(text: str, known: frozenset[str]) -> Iterator[str]:
    if _NETWORK_MARK.isdisjoint(text):
        yield _unknown("network", text, known)
        return
    try:
        parse_network(text)
    except ValueError as error:
        yield str(error)


def _listeners_exist(content: Draft) -> Iterator[Finding]:
    items = content.raw.get("listeners")
    names = _raw_names(items)
    if names is None:
        return
    for index, rule in enumerate(content.rules):
        entries = rule.get("listeners")
        for position, text in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(text, str) and text not in names:
                path = ("classification", "rules", index, "listeners", position)
                yield path, _unknown("listener", text, names)


def _windows_are_few(content: Draft) -> Iterator[Finding]:
    """Each window has a table of senders of its own."""
    windows: list[object] = []
    for index, rule in enumerate(content.rules):
        rate = rule.get("sender_rate")
        within = rate.get("within") if isinstance(rate, dict) else None
        if within is None or within in windows:
            continue
        windows.append(within)
        if len(windows) > _WINDOWS_MAX:
            message = f"is the window number {len(windows)}; rules may have {_WINDOWS_MAX}"
            yield ("classification", "rules", index, "sender_rate", "within"), message


def _classes_are_ordered(content: Draft) -> Iterator[Finding]:
    classes = content.classes
    is_complete = len(classes) == _length(content.raw.get("classes", classes))
    if is_complete and classes and min(item.rank for item in classes.values()) > 0:
        yield ("classes",), "no class has rank 0, so none is sure never to be shed"
    for index, item in classes.items():
        below = [other for other in classes.values() if other.rank > item.rank]
        favoured = max(below, key=lambda other: other.threshold, default=None)
        if favoured is not None and favoured.threshold > item.threshold:
            message = (
                f"{item.threshold:g} is less than the {favoured.threshold:g} of"
                f' "{favoured.name}", which is to be shed first by its rank'
            )
            yield ("classes", index, "threshold"), message


def _reports_make_sense(content: Draft) -> Iterator[Finding]:
    """A report of a delay comes after the promise is broken, and before the mail is returned.

    The shipped classes have no fault of the site's: where mail lives shorter, no report comes.
    """
    for index, item in content.classes.items():
        if item.report_after is None or "classes" not in content.raw:
            continue
        path: KeyPath = ("classes", index, "report_after")
        if item.report_after <= item.objective:
            objective = format_duration(item.objective)
            yield path, f"must be more than objective ({objective}): before that nothing is late"
        elif content.spool is not None and item.report_after >= content.spool.lifetime:
            lifetime = format_duration(content.spool.lifetime)
            message = f"must be less than spool.lifetime ({lifetime}), when the mail is returned"
            yield path, message


def _shares_add_up(content: Draft) -> Iterator[Finding]:
    """Guarantees fit together, and 4xx come to classes in the order in which they are shed."""
    classes = content.classes
    total = sum(item.guarantee for item in classes.values())
    if total > 1 + 1e-9:
        yield ("classes",), f"guarantees add up to {total:g}, which is more than all there is (1)"
    for index, item in classes.items():
        path: KeyPath = ("classes", index, "defer_fill")
        if item.rank == 0:
            if item.defer_fill is not None:
                yield path, "has no place in a class of rank 0, which is never shed"
            continue
        below = [other for other in classes.values() if other.rank > item.rank]
        favoured = max(below, key=_defer_fill, default=None)
        if favoured is not None and _defer_fill(favoured) > _defer_fill(item):
            message = (
                f'{item.defer_fill:g} is less than that of "{favoured.name}"'
                f" ({_defer_fill(favoured):g}), which is to be shed first by its rank"
            )
            yield path, message


def _defer_fill(section: TrafficClassSection) -> float:
    return inf if section.defer_fill is None else section.defer_fill


def _quotas_are_of_classes(content: Draft) -> Iterator[Finding]:
    sections = _dig(content.raw, "quotas", "per_class")
    seen: set[str] = set()
    for index, section in enumerate(sections if isinstance(sections, list) else ()):
        name = section.get("class") if isinstance(section, dict) else None
        if not isinstance(name, str):
            continue
        path = ("quotas", "per_class", index, "class")
        if content.class_names is not None and name not in content.class_names:
            yield path, _unknown("class", name, content.class_names)
        elif name in seen:
            yield path, f'"{name}" has a quota already'
        seen.add(name)


def _proxies_are_known(content: Draft) -> Iterator[Finding]:
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


def _listeners_can_do_tls(content: Draft) -> Iterator[Finding]:
    yield from tls_findings(content.listeners, content.tls)


def _passwords_can_be_verified(content: Draft) -> Iterator[Finding]:
    yield from authentication_findings(content.listeners, content.authentication)


def _bounds_agree(content: Draft) -> Iterator[Finding]:
    limits, spool = content.limits, content.spool
    if limits is None:
        return
    if limits.content_memory_per_message > limits.content_memory_max:
        path: KeyPath = ("limits", "content_memory_per_message")
        yield path, "must not be greater than content_memory_max"
    if limits.message_size_max > limits.content_memory_max + limits.content_disk_max:
        path = ("limits", "message_size_max")
        yield path, "must not be greater than content_memory_max and content_disk_max together"
    if spool is not None and limits.message_size_max > spool.octets_max:
        path = ("spool", "octets_max")
        yield path, "must not be less than limits.message_size_max"


CHECKS: tuple[Callable[[Draft], Iterator[Finding]], ...] = (
    _relay_is_closed,
    _names_are_unique,
    _addresses_are_free,
    _backend_is_another,
    _routes_are_clear,
    _classes_exist,
    _networks_exist,
    _listeners_exist,
    _windows_are_few,
    _classes_are_ordered,
    _reports_make_sense,
    _shares_add_up,
    _quotas_are_of_classes,
    _proxies_are_known,
    _listeners_can_do_tls,
    _passwords_can_be_verified,
    _bounds_agree,
)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f'unknown {what} "{name}"{did_you_mean(name, sorted(known))}'


def _items(raw: Mapping[str, object], key: str, model: type[M]) -> dict[int, M]:
    """Return the valid items of a list of sections, by their index."""
    items = raw.get(key)
    valid = (
        (index, _valid(model, item))
        for index, item in enumerate(items if isinstance(items, list) else ())
    )
    return {index: item for index, item in valid if item is not None}


def _valid(model: type[M], value: object) -> M | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _raw_names(items: object) -> frozenset[str] | None:
    """Return the names in a list of which some items are invalid; None if one has no name."""
    if not isinstance(items, list):
        return None
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    texts = [name for name in names if isinstance(name, str)]
    return frozenset(texts) if texts and len(texts) == len(names) else None


def _length(value: object) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _dig(raw: Mapping[str, object], *steps: str) -> object:
    value: object = raw
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value
