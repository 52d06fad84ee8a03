"""What whoever knows the passwords said about credentials.

Only `Rejected` is the client's fault. Everything that is not a clear yes or no is `Unavailable`: a
server that is away, too slow, or not set up for what we ask. A client hears of it that it should
come back (454), since one that hears "wrong password" asks its user for another.

Texts are for the log. They never quote what a server said beyond its codes: some repeat what was
typed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accepted:
    """The secret is right; `login` is the user's name, in lower case."""

    login: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The secret is wrong, or the user may not log in."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody could say."""

    detail: str


Verdict = Accepted | Rejected | Unavailable
