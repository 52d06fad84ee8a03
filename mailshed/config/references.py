"""Faults of names: used twice, or names of nothing."""

from collections.abc import Iterable, Iterator

from mailshed.config.classification import Classification
from mailshed.config.draft import Draft, Finding, dig, raw_names
from mailshed.config.faults import KeyPath, did_you_mean
from mailshed.config.fields import parse_network

CLINICAL_NETWORKS = "clinical-networks"
"""Name that stands, in `not_client_networks`, for the networks of all rules of rank 0."""
_NETWORK_MARK = frozenset(".:/")  # a name has none of these, a network has one at least


def names_are_unique(content: Draft) -> Iterator[Finding]:
    """Within each list that has names."""
    lists: tuple[tuple[KeyPath, object], ...] = (
        (("listeners",), content.raw.get("listeners")),
        (("backends",), content.raw.get("backends")),
        (("classes",), content.raw.get("classes")),
        (("classification", "rules"), dig(content.raw, "classification", "rules")),
    )
    for path, items in lists:
        first: dict[str, int] = {}
        for index, item in enumerate(items if isinstance(items, list) else ()):
            name = item.get("name") if isinstance(item, dict) else None
            if isinstance(name, str) and first.setdefault(name, index) != index:
                message = f'"{name}" is also the name of {path[-1]}[{first[name]}]'
                yield (*path, index, "name"), message


def classes_exist(content: Draft) -> Iterator[Finding]:
    """Rules and the default name classes that there are."""
    names = content.class_names
    if names is None:
        return
    for index, rule in enumerate(content.rules):
        name = rule.get("class")
        if isinstance(name, str) and name not in names:
            yield ("classification", "rules", index, "class"), _unknown("class", name, names)
    default = dig(content.raw, "classification", "default")
    shipped: str = Classification.model_fields["default"].default
    if isinstance(default, str) and default not in names:
        yield ("classification", "default"), _unknown("class", default, names)
    elif default is None and shipped not in names:
        message = f'is "{shipped}" unless set, which is none of {", ".join(sorted(names))}'
        yield ("classification", "default"), message


def networks_exist(content: Draft) -> Iterator[Finding]:
    """Rules name networks that there are, or write them out."""
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


def listeners_exist(content: Draft) -> Iterator[Finding]:
    """Rules name listeners that there are."""
    items = content.raw.get("listeners")
    names = raw_names(items)
    if names is None:
        return
    for index, rule in enumerate(content.rules):
        entries = rule.get("listeners")
        for position, text in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(text, str) and text not in names:
                path = ("classification", "rules", index, "listeners", position)
                yield path, _unknown("listener", text, names)


def quotas_are_of_classes(content: Draft) -> Iterator[Finding]:
    """Quotas are of classes that there are, one of each."""
    sections = dig(content.raw, "quotas", "per_class")
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


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f'unknown {what} "{name}"{did_you_mean(name, sorted(known))}'
