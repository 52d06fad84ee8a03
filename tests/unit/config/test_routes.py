"""What the sections of several backends have to agree on."""

from typing import Any

import pytest

from mailshed.config.back import Backend
from mailshed.config.routes import default_of, findings_of_routes


def sections(*given: dict[str, Any]) -> dict[int, Backend]:
    """Sections by their index; each has a host."""
    return {
        index: Backend.model_validate({"host": f"{each['name']}.example.org"} | each)
        for index, each in enumerate(given)
    }


def findings(
    *given: dict[str, Any], is_complete: bool = True, names_known: bool = True
) -> list[tuple[tuple[Any, ...], str]]:
    backends = sections(*given)
    names = frozenset(each.name for each in backends.values()) if names_known else None
    return list(findings_of_routes(backends, names, is_complete=is_complete))


HERE = {"name": "here"}
NORTH = {"name": "north", "domains": ["north.example", ".north.example"]}


def test_one_backend_needs_nothing() -> None:
    assert findings(HERE) == []
    assert default_of(sections(HERE)) == 0


def test_the_first_without_domains_serves_all_others() -> None:
    assert findings(NORTH, HERE) == []
    assert default_of(sections(NORTH, HERE)) == 1


def test_two_may_help_each_other() -> None:
    assert findings(HERE | {"fallback": "north"}, NORTH | {"fallback": "here"}) == []


def test_one_without_domains_that_helps_has_no_mail_of_its_own() -> None:
    assert findings(HERE | {"fallback": "spare"}, NORTH, {"name": "spare"}) == []


def test_a_second_one_without_domains_is_told_that_it_gets_no_mail() -> None:
    ((path, message),) = findings(HERE, NORTH, {"name": "other"})
    assert path == ("backends", 2)
    assert message.startswith('has no domains, and "here", which has none either, comes first')


def test_somebody_has_to_serve_all_others() -> None:
    ((path, message),) = findings(NORTH)
    assert path == ("backends",)
    assert message.startswith("all have domains")
    assert findings(NORTH, is_complete=False) == [], "one that is not valid may be it"


def test_a_domain_has_one_backend() -> None:
    ((path, message),) = findings(HERE, NORTH, {"name": "x", "domains": [".north.example"]})
    assert path == ("backends", 2, "domains", 0)
    assert message == '".north.example" is a domain of "north" already'


def test_a_domain_is_listed_once() -> None:
    ((path, _),) = findings(HERE, {"name": "x", "domains": ["a.example", "a.example"]})
    assert path == ("backends", 1, "domains", 1)


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ("here", "is this backend itself, which is away then; name another one"),
        ("nort", 'unknown backend "nort", did you mean "north"?'),
        ("zzz", 'unknown backend "zzz" (known: here, north)'),
    ],
)
def test_a_fallback_is_another_backend(fallback: str, message: str) -> None:
    assert findings(HERE | {"fallback": fallback}, NORTH) == [
        (("backends", 0, "fallback"), message)
    ]


def test_nothing_is_said_of_names_that_are_not_known() -> None:
    assert findings(HERE | {"fallback": "nort"}, NORTH, names_known=False) == []
