"""What the backends' sections say together: who serves which domain, and who helps whom.

Exactly one backend takes the mail for all domains that nobody lists: the first one without
`domains`. Another one without any has no mail of its own, so it has to be somebody's fallback.

The checks see the sections that are valid by themselves (`draft.Draft`) and keep silent about
what they cannot know of the others.
"""

from collections.abc import Iterator, Mapping

from mailshed.config.back import Backend
from mailshed.config.faults import KeyPath, did_you_mean

Finding = tuple[KeyPath, str]


def default_of(backends: Mapping[int, Backend]) -> int | None:
    """The index of the backend for all other domains."""
    return next((index for index, each in backends.items() if not each.domains), None)


def findings_of_routes(
    backends: Mapping[int, Backend], names: frozenset[str] | None, *, is_complete: bool
) -> Iterator[Finding]:
    """Faults of routes and fallbacks; `names` are those of all backends, None if not known.

    `is_complete` says that all sections are valid.
    """
    yield from _domains_are_distinct(backends)
    if names is not None:
        yield from _fallbacks_exist(backends, names)
    if is_complete and backends:
        yield from _one_is_default(backends)


def _domains_are_distinct(backends: Mapping[int, Backend]) -> Iterator[Finding]:
    first: dict[str, tuple[int, int]] = {}
    for index, backend in backends.items():
        for position, domain in enumerate(backend.domains):
            owner, place = first.setdefault(domain, (index, position))
            if (owner, place) != (index, position):
                message = f'"{domain}" is a domain of "{backends[owner].name}" already'
                yield ("backends", index, "domains", position), message


def _fallbacks_exist(backends: Mapping[int, Backend], names: frozenset[str]) -> Iterator[Finding]:
    for index, backend in backends.items():
        if backend.fallback is None:
            continue
        path: KeyPath = ("backends", index, "fallback")
        if backend.fallback == backend.name:
            yield path, "is this backend itself, which is away then; name another one"
        elif backend.fallback not in names:
            guess = did_you_mean(backend.fallback, sorted(names))
            yield path, f'unknown backend "{backend.fallback}"{guess}'


def _one_is_default(backends: Mapping[int, Backend]) -> Iterator[Finding]:
    default = default_of(backends)
    if default is None:
        message = (
            "all have domains, so mail for other domains has no place to go; let one have none"
        )
        yield ("backends",), message
        return
    helpers = {each.fallback for each in backends.values()}
    for index, backend in backends.items():
        if index != default and not backend.domains and backend.name not in helpers:
            message = (
                f'has no domains, and "{backends[default].name}", which has none either, comes'
                " first and takes all other mail; list its domains, or name it as a fallback"
            )
            yield ("backends", index), message
