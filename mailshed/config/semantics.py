"""Faults that no single key has: names used twice, names of nothing, settings that contradict.

The checks read a `Draft`, the parts of a file that are valid by themselves, so that they speak
even when other parts are not; a check keeps silent about what it cannot know. They do no I/O:
whether a port is free or a folder is writable is found out by the service when it starts.
"""

from collections.abc import Callable, Iterator

from mailshed.config.addresses import addresses_are_free, backend_is_another
from mailshed.config.authentication import authentication_findings
from mailshed.config.draft import Draft, Finding, length, raw_names
from mailshed.config.faults import KeyPath
from mailshed.config.ordering import classes_are_ordered, reports_make_sense, shares_add_up
from mailshed.config.references import (
    classes_exist,
    listeners_exist,
    names_are_unique,
    networks_exist,
    quotas_are_of_classes,
)
from mailshed.config.routes import findings_of_routes
from mailshed.config.tls import tls_findings
from mailshed.config.trust import proxies_are_known, relay_is_closed

_WINDOWS_MAX = 4


def _routes_are_clear(content: Draft) -> Iterator[Finding]:
    items = content.raw.get("backends")
    is_complete = len(content.backends) == length(items)
    yield from findings_of_routes(content.backends, raw_names(items), is_complete=is_complete)


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
    relay_is_closed,
    names_are_unique,
    addresses_are_free,
    backend_is_another,
    _routes_are_clear,
    classes_exist,
    networks_exist,
    listeners_exist,
    _windows_are_few,
    classes_are_ordered,
    reports_make_sense,
    shares_add_up,
    quotas_are_of_classes,
    proxies_are_known,
    _listeners_can_do_tls,
    _passwords_can_be_verified,
    _bounds_agree,
)


def findings(content: Draft) -> Iterator[Finding]:
    """All faults across keys, in no particular order."""
    for check in CHECKS:
        yield from check(content)
