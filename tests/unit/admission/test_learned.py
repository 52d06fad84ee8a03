"""Who takes a 4xx for an answer and never comes again."""

from mailshed.admission.learned import (
    CLIENTS_MAX,
    DEFERRALS_MAX,
    DEFERRALS_MIN,
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    VERDICT_SECONDS,
    RetryMemory,
)

SCANNER = "10.0.40.1"
SERVER = "10.0.0.1"


def defer(memory: RetryMemory, client: str, number: int, now: float) -> None:
    """Say 4xx to so many different messages of a client."""
    for each in range(number):
        memory.note_deferral(client, b"a@example.org", b"%d@example.net" % each, now)


def judged(memory: RetryMemory, client: str = SCANNER) -> float:
    """Let a client be found out; the time at which it is."""
    defer(memory, client, DEFERRALS_MIN, 0.0)
    assert not memory.does_retry(client, PATIENCE_SECONDS)
    return PATIENCE_SECONDS


def test_nobody_is_suspected_without_a_reason() -> None:
    memory = RetryMemory()
    memory.note_attempt(SERVER, b"a@example.org", b"b@example.net", 0.0)
    assert memory.does_retry(SERVER, 0.0)
    assert len(memory) == 0


def test_who_never_comes_again_does_not_retry() -> None:
    memory = RetryMemory()
    defer(memory, SCANNER, DEFERRALS_MIN, 0.0)
    assert memory.does_retry(SCANNER, PATIENCE_SECONDS - 1), "it may still come"
    assert not memory.does_retry(SCANNER, PATIENCE_SECONDS)
    assert memory.does_retry(SERVER, PATIENCE_SECONDS)


def test_few_messages_prove_nothing() -> None:
    memory = RetryMemory()
    defer(memory, SCANNER, DEFERRALS_MIN - 1, 0.0)
    defer(memory, SCANNER, DEFERRALS_MIN - 1, 1.0)  # the same ones once more
    assert memory.does_retry(SCANNER, 10 * PATIENCE_SECONDS)


def test_one_that_comes_again_clears_the_client() -> None:
    memory = RetryMemory()
    defer(memory, SERVER, 20, 0.0)
    memory.note_attempt(SERVER, b"a@example.org", b"7@example.net", 300.0)
    assert memory.does_retry(SERVER, 10 * PATIENCE_SECONDS)
    assert len(memory) == 0


def test_another_message_is_no_retry() -> None:
    memory = RetryMemory()
    defer(memory, SCANNER, DEFERRALS_MIN, 0.0)
    memory.note_attempt(SCANNER, b"other@example.org", b"0@example.net", 300.0)
    memory.note_attempt(SCANNER, b"a@example.org", b"other@example.net", 300.0)
    memory.note_attempt(SERVER, b"a@example.org", b"0@example.net", 300.0)
    assert not memory.does_retry(SCANNER, PATIENCE_SECONDS)


def test_a_return_after_hours_is_none() -> None:
    memory = RetryMemory()
    defer(memory, SCANNER, DEFERRALS_MIN, 0.0)
    memory.note_attempt(SCANNER, b"a@example.org", b"0@example.net", RETRY_SECONDS + 1)
    assert not memory.does_retry(SCANNER, RETRY_SECONDS + 1)


def test_a_return_clears_even_one_that_was_found_out() -> None:
    memory = RetryMemory()
    now = judged(memory)
    memory.note_attempt(SCANNER, b"a@example.org", b"0@example.net", now + 600)
    assert memory.does_retry(SCANNER, now + 600)


def test_a_verdict_lasts_and_is_forgotten_in_the_end() -> None:
    memory = RetryMemory()
    now = judged(memory)
    assert not memory.does_retry(SCANNER, now + VERDICT_SECONDS)
    assert memory.does_retry(SCANNER, now + VERDICT_SECONDS + 1)
    assert len(memory) == 0


def test_deferrals_of_one_client_are_bounded() -> None:
    memory = RetryMemory()
    defer(memory, SERVER, 1000, 0.0)
    assert len(memory._records[SERVER].deferrals) == DEFERRALS_MAX
    memory.note_attempt(SERVER, b"a@example.org", b"999@example.net", 1.0)
    assert len(memory) == 0, "the latest are those that are remembered"


def test_clients_are_bounded() -> None:
    memory = RetryMemory()
    judged(memory)
    for number in range(CLIENTS_MAX + 500):
        memory.note_deferral(number, b"a@example.org", b"b@example.net", 0.0)
        memory.note_deferral(SERVER, b"a@example.org", b"b@example.net", 0.0)
    assert len(memory) == CLIENTS_MAX
    assert memory.does_retry(SCANNER, 2 * PATIENCE_SECONDS), "told longest ago, and forgotten"
    assert SERVER in memory._records
