"""As whom a user may send: what stands in MAIL FROM, by who has authenticated.

A user with a stolen password can write to everyone in everybody's name; this is what keeps it to
his own. Three rules: `any` address; his `own`, which is the login itself where it is an address,
and otherwise the login at one of our domains; or those that a file lists for the login, its own not
included. The null reverse-path is everybody's, as with Postfix (`smtpd_sender_login_maps`): read
receipts have it, and it is nobody's name.

Only of clients that have authenticated is this asked. `From:` in the header is not looked at; that
is what servers behind us and DMARC do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailshed.classification.names import NameSet
from mailshed.config.policy import AuthenticationPolicy, SenderRule
from mailshed.mail.address import Mailbox
from mailshed.mail.domains import DomainSet


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderPolicy:
    """The rule, and what it goes by; logins in `listed` are in lower case."""

    rule: SenderRule = SenderRule.ANY
    domains: DomainSet = field(default_factory=lambda: DomainSet(()))
    listed: Mapping[str, NameSet] = field(default_factory=dict)

    def allows(self, login: str, sender: Mailbox | None) -> bool:
        """Whether `login` may send as `sender`; None is the null reverse-path."""
        if sender is None:
            return True
        match self.rule:
            case SenderRule.ANY:
                return True
            case SenderRule.OWN:
                return self._is_own(login.lower(), sender)
            case SenderRule.FILE:
                names = self.listed.get(login.lower())
                return names is not None and names.has_mailbox(sender)

    def _is_own(self, login: str, sender: Mailbox) -> bool:
        address = sender.raw.decode("utf-8", "replace").lower()
        if "@" in login:
            return address == login
        return address.rpartition("@")[0] == login and sender.domain in self.domains


def sender_policy(policy: AuthenticationPolicy) -> SenderPolicy:
    """Make it from the configuration; what is said of a login in several lines adds up."""
    names: dict[str, tuple[str, ...]] = {}
    for login, more in policy.sender_entries:
        names[login] = names.get(login, ()) + more
    return SenderPolicy(
        rule=policy.senders,
        domains=policy.domains,
        listed={login: NameSet(each) for login, each in names.items()},
    )
