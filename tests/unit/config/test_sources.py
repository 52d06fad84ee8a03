"""What a configuration refers to outside of itself."""

from pathlib import Path

import pytest

from mailshed.config.classification import RuleSection
from mailshed.config.sources import Sources

RULE = RuleSection.model_validate({"name": "r", "class": "bulk", "trusted": True})
LISTS = {("users", Path("/etc/users")): ("alice", "bob")}


def test_where_things_are_written_does_not_tell_two_apart() -> None:
    one = Sources(origins=("a:1",), policy_origins=("b:1",), signatures={Path("/x"): (1, 2, 3, 4)})
    assert one == Sources()
    assert one.digest == Sources().digest == ""


@pytest.mark.parametrize(
    "other",
    [
        Sources(),
        Sources(lists={("users", Path("/etc/users")): ("alice",)}),
        Sources(lists={("addresses", Path("/etc/users")): ("alice", "bob")}),
        Sources(lists=LISTS, policy=()),  # type: ignore[arg-type]
        Sources(lists=LISTS, policy=(RULE,)),  # type: ignore[arg-type]
    ],
    ids=range(5),
)
def test_what_they_hold_does(other: Sources) -> None:
    one = Sources(lists=LISTS)  # type: ignore[arg-type]
    assert one != other
    assert one.digest != other.digest
