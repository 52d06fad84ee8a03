"""Evidence of the session: the listener, whether the client is trusted, who authenticated."""

from collections.abc import Iterator

from mailshed.classification.names import NameSet
from mailshed.classification.subject import Condition, Known, Subject
from mailshed.classification.words import listed
from mailshed.config.policy import Rule


def conditions(rule: Rule) -> Iterator[Condition]:
    """One of the listeners; trusted or not; one of the users."""
    if rule.listeners:
        yield _listener(rule.listeners)
    if rule.trusted is not None:
        yield _trusted(is_wanted=rule.trusted)
    if rule.users is not None:
        yield _user(rule.users)


def _listener(names: tuple[str, ...]) -> Condition:
    wanted = frozenset(names)

    def holds(subject: Subject) -> bool:
        return subject.client.listener in wanted

    def why(subject: Subject) -> str:
        verb = "is" if holds(subject) else "is not"
        return f"listener {subject.client.listener} {verb} {listed(names)}"

    return Condition(holds=holds, why=why, known_at=Known.CLIENT)


def _trusted(*, is_wanted: bool) -> Condition:
    def holds(subject: Subject) -> bool:
        return subject.client.is_trusted is is_wanted

    def why(subject: Subject) -> str:
        return f"client is {'trusted' if subject.client.is_trusted else 'a stranger'}"

    # A stranger becomes trusted by authenticating, which it may do until MAIL.
    return Condition(holds=holds, why=why, known_at=Known.MAIL)


def _user(entries: tuple[str, ...]) -> Condition:
    users = NameSet(entries)

    def holds(subject: Subject) -> bool:
        user = subject.client.user
        return bool(user) and users.has_name(user)

    def why(subject: Subject) -> str:
        user = subject.client.user
        if not user:
            return "client has not authenticated"
        return f"user {user} {'is' if holds(subject) else 'is not'} among {listed(entries)}"

    return Condition(holds=holds, why=why, known_at=Known.MAIL)
