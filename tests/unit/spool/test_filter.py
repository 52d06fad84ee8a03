"""What an operator can type, and what it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import RequestError
from mailshed.spool.filter import CHARACTERS_MAX, EVERYTHING, VALUES_MAX, QueueFilter, parse_filter
from mailshed.terms import QueueId, SpoolState


def test_commas_and_repetition_are_alternatives_and_each_counts_once() -> None:
    wanted = parse_filter({"class": ["bulk,telework", " clinical ", "bulk"], "state": ["hold"]})

    assert wanted == QueueFilter(
        classes=("bulk", "telework", "clinical"), states=(SpoolState.HOLD,)
    )


@pytest.mark.parametrize(
    ("text", "senders"),
    [
        ("Alice@Example.ORG", ("alice@example.org",)),
        ("<alice@example.org>", ("alice@example.org",)),
        ("@Example.org,@.example.org", ("@example.org", "@.example.org")),
        ("<>", ("<>",)),
        ("<>,a@b.example", ("<>", "a@b.example")),
        ("postmaster", ("postmaster",)),
        ("a@[192.0.2.1]", ("a@[192.0.2.1]",)),
        ('"a,b"@c.example,d@e.example', ('"a,b"@c.example', "d@e.example")),
        ('"a\\",b"@c.example', ('"a\\",b"@c.example',)),
        ("Ärztin@Bücher.example", ("Ärztin@bücher.example",)),
    ],
)
def test_addresses_and_domains_in_any_case(text: str, senders: tuple[str, ...]) -> None:
    assert parse_filter({"from": [text]}).senders == senders


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("10m", 600.0), ("4h", 14400.0), ("1.5d", 129600.0)]
)
def test_ages_have_a_unit(text: str, seconds: float) -> None:
    wanted = parse_filter({"older-than": [text], "younger-than": [text]})

    assert (wanted.older_than, wanted.younger_than) == (seconds, seconds)


def test_queue_ids_are_upper_case() -> None:
    assert parse_filter({"id": ["01jzx4k7t2m8q0rb"]}).ids == ("01JZX4K7T2M8Q0RB",)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("class", "", "expected the name of a traffic class"),
        ("class", "bulk,", "expected the name"),
        ("class", "c" * 65, "expected the name"),
        ("class", "b\x1bulk", "expected the name"),
        ("state", "held", "'held' is no state of a message; there are queued, deferred, hold"),
        ("from", "", "or <> for the null sender, not ''"),
        ("from", "alice", "expected an address, @example.org"),
        ("from", "@", "expected an address"),
        ("from", "@.", "expected an address"),
        ("from", "@..example.org", "expected an address"),
        ("from", "a@b@c", "expected an address"),
        ("from", "a@b.example,,c@d.example", "expected an address"),
        ("from", '"a@b.example', "expected an address"),
        ("from", "h\u00e9\x80@b.example", "expected an address"),
        ("from", "\udce9@b.example", "expected an address"),
        ("rcpt", "<>", "expected an address"),
        ("older-than", "10", "expected a duration with its unit"),
        ("younger-than", "10m,20m", "expected a duration"),
        ("older-than", "-5m", "expected a duration"),
        ("id", "../etc", "'../etc' is no queue id"),
        ("id", "", "is no queue id"),
        ("id", "0" * 33, "is no queue id"),
    ],
)
def test_what_cannot_be_understood_is_said_with_its_name(name: str, value: str, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_filter({name: [value]})

    assert str(caught.value).startswith(f"{name}: ")
    assert told in str(caught.value)


def test_an_age_is_given_once() -> None:
    with pytest.raises(RequestError, match="older-than: give it once"):
        parse_filter({"older-than": ["1h", "2h"]})


def test_a_condition_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(RequestError, match="subject: no such condition; there are class, state"):
        parse_filter({"subject": ["x"]})


def test_its_length_is_bounded() -> None:
    many = [f"{number:016}" for number in range(VALUES_MAX)]

    assert len(parse_filter({"id": many}).ids) == VALUES_MAX
    with pytest.raises(RequestError, match="more than 1,000 values"):
        parse_filter({"id": [*many, "0"]})
    with pytest.raises(RequestError, match="more than 20,000 characters"):
        parse_filter({"from": ["a" * (CHARACTERS_MAX + 1)]})


def test_the_empty_filter_and_a_list_of_ids_are_told_apart() -> None:
    ids = QueueFilter(ids=(QueueId("A"),))

    assert EVERYTHING.is_empty
    assert not EVERYTHING.names_messages
    assert ids.names_messages
    assert not ids.is_empty
    assert not QueueFilter(ids=ids.ids, classes=("bulk",)).names_messages
    assert not QueueFilter(older_than=0.0).is_empty


_LOCAL = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,10}", fullmatch=True)
_DOMAIN = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,5}){0,2}", fullmatch=True)
_ADDRESS = st.one_of(
    st.builds("{}@{}".format, _LOCAL, _DOMAIN),
    st.builds('"{},x"@{}'.format, _LOCAL, _DOMAIN),
    st.builds("@{}".format, _DOMAIN),
    st.builds("@.{}".format, _DOMAIN),
)
_AGE = st.one_of(st.none(), st.integers(0, 10**9).map(float))
_FILTERS = st.builds(
    QueueFilter,
    classes=st.lists(st.sampled_from(["bulk", "clinical"]), unique=True).map(tuple),
    states=st.lists(st.sampled_from(SpoolState), unique=True).map(tuple),
    senders=st.lists(_ADDRESS | st.just("<>"), unique=True, max_size=5).map(tuple),
    recipients=st.lists(_ADDRESS, unique=True, max_size=5).map(tuple),
    older_than=_AGE,
    younger_than=_AGE,
    ids=st.lists(st.from_regex(r"[0-9A-Z]{16}", fullmatch=True), unique=True).map(tuple),
)


@given(_FILTERS)
def test_a_filter_survives_its_way_as_text(wanted: QueueFilter) -> None:
    assert parse_filter(wanted.parameters) == wanted
