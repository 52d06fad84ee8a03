"""Who is asked about passwords, as the configuration says."""

import io
from pathlib import Path
from typing import Any

from mailshed.authentication.authenticator import Verifier
from mailshed.authentication.build import authenticator_for, verifier_for
from mailshed.authentication.dovecot import DovecotVerifier
from mailshed.authentication.sasl import KEY_OCTETS
from mailshed.config.schema import Config
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from mailshed.relay.login import LoginVerifier
from tests.support.clock import ManualClock

BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "mx.example.org",
    "domains": ["example.net"],
    "listeners": [{"name": "smtp", "bind": "127.0.0.1:2525"}],
    "backends": [{"name": "exch", "host": "127.0.0.1", "port": 2526}],
    "spool": {"path": "/var/spool/mailshed"},
    "metrics": {"bind": "127.0.0.1:9825"},
}


def config(**section: object) -> Config:
    return Config.model_validate(BASE | {"authentication": section})


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


def asked(**section: object) -> Verifier | None:
    return verifier_for(config(**section), fail)


def test_nobody_is_asked_who_has_no_name() -> None:
    assert asked() is None
    assert asked(verifier="dovecot") is None
    assert asked(dovecot_socket="/run/auth") is None, "it is for the other verifier"


def test_a_mail_server_is_asked_by_its_name_and_over_tls() -> None:
    verifier = asked(host="mail.example.org", port=2587, timeout="7s")
    assert isinstance(verifier, LoginVerifier)
    address = vars(verifier)["_address"]
    assert (address.host, address.port) == ("mail.example.org", 2587)
    assert address.hostname == "mx.example.org"
    assert address.security.policy.name == "mail.example.org"


def test_dovecot_is_asked_at_its_socket() -> None:
    verifier = asked(verifier="dovecot", dovecot_socket="/run/dovecot/auth", host="mail.example")
    assert isinstance(verifier, DovecotVerifier)
    assert Path("/run/dovecot/auth") in vars(verifier).values()


def test_what_is_remembered_has_another_key_in_every_run() -> None:
    def key() -> bytes:
        made = authenticator_for(
            config(host="127.0.0.1"),
            metrics=Metrics(new_registry()),
            maillog=MailLog(io.StringIO()),
            clock=ManualClock(),
            on_failure=fail,
        )
        return bytes(vars(made)["_key"])

    assert len(key()) == KEY_OCTETS
    assert key() != key()
