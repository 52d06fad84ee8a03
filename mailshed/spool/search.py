"""Find the messages that a `QueueFilter` means, in SQL, oldest first.

There are two ways in. Queue ids are looked up one by one. Otherwise each class in each state is a
stretch of the index `message_oldest`, in order of arrival, and its conditions on age bound that
stretch; several stretches are merged as they are read. Conditions on addresses are looked at for
each message on the way, so a filter with nothing else reads as far as the whole queue. How much
there is of a class in a state is not counted but known.

The statements are constants, and everything that a filter says is a bound parameter; lists are
bound as JSON. `INDEXED BY` makes a query that would not use its index an error.
"""

# ruff: noqa: S608 - statements are put together from constants of this module and nothing else
import json
import sqlite3
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

from mailshed.spool.filter import NULL_PATH, QueueFilter
from mailshed.spool.rows import BY_LIVELINESS
from mailshed.spool.schema import has_sums, readable
from mailshed.terms import QueueId

# An address is text in UTF-8. One that is compared with '@example.org' or '.example.org' is
# compared at its end; no address begins like that.
_CONDITIONS = """
    received > :after AND received <= :before
    AND (:backends IS NULL OR message.backend IN (SELECT value FROM json_each(:backends)))
    AND (:senders IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:senders) WHERE value = CASE
            WHEN substr(value, 1, 1) IN ('@', '.')
            THEN substr(lower(CAST(reverse_path AS TEXT)), -length(value))
            ELSE lower(CAST(reverse_path AS TEXT)) END
    ))
    AND (:recipients IS NULL OR EXISTS (
        SELECT 1 FROM recipient, json_each(:recipients)
        WHERE recipient.message_id = message.message_id AND value = CASE
            WHEN substr(value, 1, 1) IN ('@', '.')
            THEN substr(lower(CAST(address AS TEXT)), -length(value))
            ELSE lower(CAST(address AS TEXT)) END
    ))
"""
_STRETCH = f"""
    FROM message INDEXED BY message_oldest
    WHERE traffic_class = :class AND state = :state AND {_CONDITIONS}
"""
_NAMED = f"""
    FROM message INDEXED BY sqlite_autoindex_message_1
    WHERE queue_id IN (SELECT value FROM json_each(:ids))
        AND (:classes IS NULL OR traffic_class IN (SELECT value FROM json_each(:classes)))
        AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
        AND {_CONDITIONS}
"""
_KEYS = "SELECT received, message_id, queue_id"
_IN_ORDER = "ORDER BY received, message_id LIMIT :limit"
KEYS_OF_STRETCH = f"{_KEYS} {_STRETCH} {_IN_ORDER}"
KEYS_OF_NAMED = f"{_KEYS} {_NAMED} {_IN_ORDER}"

_SUMS = """
    SELECT traffic_class, state, count(*), sum(recipients), sum(size), min(received) FROM (
        SELECT traffic_class, state, size, received, (
            SELECT count(*) FROM recipient WHERE recipient.message_id = message.message_id
        ) AS recipients
"""
SUMS_OF_STRETCH = f"{_SUMS} {_STRETCH}) GROUP BY traffic_class, state"
SUMS_OF_NAMED = f"{_SUMS} {_NAMED}) GROUP BY traffic_class, state"
# What a whole stretch has, which is kept; a stretch that is empty has no row.
SUMS_KEPT = """
    SELECT traffic_class, state, sum(messages), sum(recipients), sum(octets), (
        SELECT min(received) FROM message INDEXED BY message_oldest
        WHERE message.traffic_class = :class AND message.state = :state
    )
    FROM holding WHERE traffic_class = :class AND state = :state AND messages > 0
    GROUP BY traffic_class, state
"""

Key = tuple[float, int, QueueId]
"""Arrival, message id and queue id; they sort by age."""
Sums = tuple[str, str, int, int, int, float]
"""Class, state, messages, recipients, octets, and the arrival of the oldest."""

_Parameters = dict[str, str | float | int | None]


def find(connection: sqlite3.Connection, wanted: QueueFilter, limit: int, wall: float) -> list[Key]:
    """Up to `limit` messages that match at `wall`, oldest first."""
    parameters = {**_parameters(wanted, wall), "limit": limit}
    if wanted.ids:
        return list(connection.execute(readable(connection, KEYS_OF_NAMED), parameters))
    stretches: list[Iterator[Key]] = [
        connection.execute(readable(connection, KEYS_OF_STRETCH), {**parameters, **stretch})
        for stretch in _stretches(connection, wanted)
    ]
    return list(islice(merge(*stretches), limit))


def count(connection: sqlite3.Connection, wanted: QueueFilter, wall: float) -> list[Sums]:
    """How much of each class in each state matches at `wall`; none that are empty."""
    parameters = _parameters(wanted, wall)
    if wanted.ids:
        return list(connection.execute(readable(connection, SUMS_OF_NAMED), parameters))
    is_whole = wanted == QueueFilter(classes=wanted.classes, states=wanted.states)
    query = SUMS_KEPT if is_whole and has_sums(connection) else SUMS_OF_STRETCH
    return [
        row
        for stretch in _stretches(connection, wanted)
        for row in connection.execute(readable(connection, query), {**parameters, **stretch})
    ]


def _stretches(connection: sqlite3.Connection, wanted: QueueFilter) -> list[dict[str, str]]:
    """The stretches of the index that may hold a match."""
    # Every class that ever had a message: the ledger is short, the messages may be many.
    known = [name for (name,) in connection.execute("SELECT DISTINCT traffic_class FROM ledger")]
    return [
        {"class": name, "state": state.value}
        for name in wanted.classes or known
        for state in wanted.states or BY_LIVELINESS
    ]


def _parameters(wanted: QueueFilter, wall: float) -> _Parameters:
    return {
        "classes": _list(wanted.classes),
        "states": _list([state.value for state in wanted.states]),
        "senders": _list([_comparable(each) for each in wanted.senders]),
        "recipients": _list([_comparable(each) for each in wanted.recipients]),
        "before": float("inf") if wanted.older_than is None else wall - wanted.older_than,
        "after": float("-inf") if wanted.younger_than is None else wall - wanted.younger_than,
        "backends": _list(wanted.backends),
        "ids": _list(wanted.ids),
    }


def _list(values: Sequence[str]) -> str | None:
    return json.dumps(values) if values else None


def _comparable(pattern: str) -> str:
    """What an address, or its end, has to be equal to."""
    return (
        ""
        if pattern == NULL_PATH
        else pattern.removeprefix("@")
        if pattern.startswith("@.")
        else pattern
    )
