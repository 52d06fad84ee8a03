from mailshed.authentication.cache import VerdictCache
from mailshed.authentication.verdict import Accepted

ALICE, BOB = Accepted("alice"), Accepted("bob")


def test_a_yes_is_remembered_for_its_time() -> None:
    cache = VerdictCache(ttl=60.0, entries_max=10)
    cache.put(b"a", ALICE, now=100.0)

    assert cache.get(b"a", now=159.9) == ALICE
    assert cache.get(b"b", now=100.0) is None
    assert cache.get(b"a", now=160.0) is None
    assert len(cache) == 0


def test_being_used_does_not_make_it_younger() -> None:
    """Else a telephone that asks each minute would never have to be right again."""
    cache = VerdictCache(ttl=60.0, entries_max=10)
    cache.put(b"a", ALICE, now=100.0)
    for second in range(100, 160, 10):
        assert cache.get(b"a", now=second) == ALICE

    assert cache.get(b"a", now=160.0) is None


def test_being_right_again_does() -> None:
    cache = VerdictCache(ttl=60.0, entries_max=10)
    cache.put(b"a", ALICE, now=100.0)
    cache.put(b"a", ALICE, now=150.0)

    assert cache.get(b"a", now=200.0) == ALICE


def test_without_a_time_nothing_is_remembered() -> None:
    cache = VerdictCache(ttl=0.0, entries_max=10)
    cache.put(b"a", ALICE, now=100.0)

    assert len(cache) == 0
    assert cache.get(b"a", now=100.0) is None


def test_a_reload_may_end_it_for_those_that_are_remembered() -> None:
    cache = VerdictCache(ttl=60.0, entries_max=10)
    cache.put(b"a", ALICE, now=100.0)
    cache.ttl = 0.0

    assert cache.get(b"a", now=100.0) is None


def test_those_used_last_are_kept() -> None:
    cache = VerdictCache(ttl=60.0, entries_max=2)
    cache.put(b"a", ALICE, now=1.0)
    cache.put(b"b", BOB, now=2.0)
    cache.get(b"a", now=3.0)
    cache.put(b"c", BOB, now=4.0)

    assert len(cache) == 2
    assert cache.get(b"a", now=5.0) == ALICE
    assert cache.get(b"b", now=5.0) is None


def test_what_is_not_right_any_more_is_forgotten() -> None:
    cache = VerdictCache(ttl=60.0, entries_max=10)
    cache.put(b"a", ALICE, now=1.0)
    cache.forget(b"a")
    cache.forget(b"never heard of")

    assert cache.get(b"a", now=2.0) is None
