"""What is in hand is in one hand only, and what was let go of is not taken on old word."""

import asyncio

import pytest

from mailshed.drain.hand import Grip, Hand
from mailshed.terms import QueueId
from tests.support.virtual_time import in_virtual_time, settle_down

A, B = QueueId("A"), QueueId("B")


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_a_message_is_in_one_hand_only(hand: Hand) -> None:
    with hand.query():
        grip = hand.take(A, "bulk")
        assert grip is not None
        assert hand.take(A, "bulk") is None
    assert hand.grip(A) is grip
    hand.let_go(grip)
    assert hand.grip(A) is None


def test_it_knows_what_is_in_hand_of_each_class(hand: Hand) -> None:
    with hand.query():
        hand.take(A, "bulk")
        hand.take(B, "clinical")
    assert hand.ids_of("", "bulk") == [A]
    assert hand.ids_of("", "personal") == []
    assert sorted(hand.ids) == [A, B]
    assert len(hand) == 2
    assert A in hand


def test_what_was_let_go_of_during_a_query_is_not_taken_on_its_word(hand: Hand) -> None:
    """The query may have seen it as it was before it was settled, held or deleted."""
    grip = hand.adopt(A, "bulk")
    with hand.query():
        hand.let_go(grip)
        assert hand.take(A, "bulk") is None
        assert hand.take(B, "bulk") is not None
    with hand.query():
        assert hand.take(A, "bulk") is not None


def test_what_was_let_go_of_before_a_query_may_be_taken(hand: Hand) -> None:
    hand.let_go(hand.adopt(A, "bulk"))
    with hand.query():
        assert hand.take(A, "bulk") is not None


class TestCallBack:
    @in_virtual_time
    async def test_of_what_is_free_takes_it(self) -> None:
        hand = Hand()
        grip = await hand.call_back(A)
        assert grip is hand.grip(A)
        with hand.query():
            assert hand.take(A, "bulk") is None

    @in_virtual_time
    async def test_of_what_the_backend_has_comes_too_late(self) -> None:
        hand = Hand()
        adopted = hand.adopt(A, "bulk")
        assert await hand.call_back(A) is None
        assert hand.grip(A) is adopted

    @in_virtual_time
    async def test_ends_whoever_waits_and_returns_when_he_has_ended(self) -> None:
        hand = Hand()
        ended: list[Grip] = []

        async def wait(grip: Grip) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1.0)  # he may have to clear up
                ended.append(grip)
                hand.let_go(grip)

        with hand.query():
            grip = hand.take(A, "bulk")
        assert grip is not None
        grip.task = asyncio.get_running_loop().create_task(wait(grip))
        await settle_down()
        mine = await hand.call_back(A)
        assert ended == [grip]
        assert hand.grip(A) is mine, "the other let go of nothing that was not his"

    @in_virtual_time
    async def test_by_two_serves_one(self) -> None:
        hand = Hand()
        grips = await asyncio.gather(hand.call_back(A), hand.call_back(A))
        assert [grip is None for grip in grips] == [False, True]
