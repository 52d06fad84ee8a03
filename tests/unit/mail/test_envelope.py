"""Queue ids and the envelope's few words for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.mail.envelope import RANDOM_BITS, make_queue_id
from tests.support.builders import client, envelope

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
bits = st.integers(0, 2**RANDOM_BITS - 1)
walls = st.floats(0, 2**48 / 1000 - 1)


@given(walls, bits)
def test_a_queue_id_is_sixteen_characters_that_can_be_read_aloud(wall: float, noise: int) -> None:
    made = make_queue_id(wall, noise)
    assert len(made) == 16
    assert set(made) <= set(ALPHABET)


@given(walls, walls, bits, bits)
def test_queue_ids_sort_by_time(one: float, other: float, noise: int, more: int) -> None:
    """To the millisecond; below that the order is chance."""
    earlier, later = sorted((one, other))
    if int(earlier * 1000) < int(later * 1000):
        assert make_queue_id(earlier, noise) < make_queue_id(later, more)


@given(walls, bits, bits)
def test_queue_ids_of_one_instant_differ_by_their_random_part(
    wall: float, noise: int, more: int
) -> None:
    assert (make_queue_id(wall, noise) == make_queue_id(wall, more)) == (noise == more)


def test_a_known_queue_id() -> None:
    assert make_queue_id(0.0, 0) == "0" * 16
    assert make_queue_id(0.001, 31) == "000000000100000Z"


@pytest.mark.parametrize(
    ("sender", "shown"), [("alice@example.org", "<alice@example.org>"), (None, "<>")]
)
def test_the_sender_for_people(sender: str | None, shown: str) -> None:
    assert envelope(sender=sender).sender == shown


def test_recipients_keep_the_clients_order() -> None:
    made = envelope("b@example.net", "a@example.net", "b@example.net")
    assert [str(each.mailbox) for each in made.recipients] == [
        "b@example.net",
        "a@example.net",
        "b@example.net",
    ]


def test_a_client_has_its_address_as_text_and_as_a_number() -> None:
    """Both made once for a session, and not for each message and rule."""
    v4, v6 = client("192.0.2.1"), client("2001:db8::1")
    assert (v4.address_text, v4.address_number) == ("192.0.2.1", 0xC0000201)
    assert (v6.address_text, v6.address_number) == ("2001:db8::1", 0x20010DB8 << 96 | 1)
    assert (v4.user, envelope().priority) == ("", None), "nobody has authenticated or asked"
