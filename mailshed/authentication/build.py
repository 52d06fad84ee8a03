"""From the configuration to who says whether a password is right.

Whoever knows the passwords is asked: a mail server, by logging in to it, or Dovecot. Where neither
is named nobody can authenticate, and the configuration has no listener that offers it. Building
connects to nothing.
"""

import secrets
from collections.abc import Callable

from mailshed.authentication.authenticator import Authenticator, Verifier
from mailshed.authentication.dovecot import DovecotVerifier
from mailshed.authentication.sasl import KEY_OCTETS
from mailshed.clock import Clock
from mailshed.config.load import authentication_policy
from mailshed.config.schema import Config
from mailshed.maillog import MailLog
from mailshed.metrics.recorder import Metrics
from mailshed.relay.login import LoginVerifier, address_of

OnFailure = Callable[[str, BaseException], None]
"""Told when a task ends with an exception nobody expected, with the task's name."""


def authenticator_for(
    config: Config, *, metrics: Metrics, maillog: MailLog, clock: Clock, on_failure: OnFailure
) -> Authenticator:
    """The authenticator of all listeners, with a key of its own for what it remembers."""
    section = config.authentication
    return Authenticator(
        authentication_policy(config),
        verifier=verifier_for(config, on_failure),
        timeout=section.timeout,
        questions_max=section.connections_max,
        key=secrets.token_bytes(KEY_OCTETS),
        metrics=metrics,
        maillog=maillog,
        clock=clock,
        on_failure=on_failure,
    )


def verifier_for(config: Config, on_failure: OnFailure) -> Verifier | None:
    """Who is asked, if anybody."""
    section = config.authentication
    if not section.can_verify:
        return None
    if section.verifier == "dovecot":
        assert section.dovecot_socket is not None, "it can verify"
        return DovecotVerifier(section.dovecot_socket, on_failure=on_failure)
    address = address_of(section, config.hostname)
    return LoginVerifier(address, timeout=section.timeout, on_failure=on_failure)
